"""Gather the data of a report. It depends on content only, so the same results are rendered once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import yaml

from flows.engine.run import Run
from flows.engine.run_folder import drops
from flows.engine.stage import blob
from flows.outcomes.promotion import ruling_of
from flows.stages.candidates import generator
from flows.stages.clips import NamedClip
from flows.stages.evaluation import clip_results, comparison, comparisons, evaluated
from flows.stages.finetune import Finetune
from flows.stages.poses import pose_of, posed_clips
from flows.stages.scores import scored_candidates
from flows.stages.selection import Selected, Selection, decisions
from flows.stages.shards import Shards
from flows.training.job import LORA
from ipa_core.records import PoseSequence
from ipa_core.reporting.charts import Curve
from ipa_core.reporting.report import (
    CandidateLine,
    DroppedInput,
    NamedDigest,
    ReportData,
    Sheet,
    render_report,
    sheets_to_show,
    strips_to_show,
)
from ipa_core.reporting.sheets import Shot, candidate_strip, comparison_sheet, contact_sheet
from ipa_core.video import decode_png, decode_video
from storage import ActionResult
from storage.digest import digest_config

VERSION = 2
_CURVES = {
    "loss": "-log sigmoid(x); ln 2 = 0.693 before the first step",
    "model_error": "e_theta, hand-weighted error of the model that is trained",
    "reference_error": "e_ref, the same of the frozen model",
    "gap": "e_ref - e_theta; above 0: the preferred videos became likelier",
    "logit": "x = beta/2 (1 - t)^2 gap; a share of what beta lets it learn",
    "weight": "factor of the gradient of e_theta; near 0: saturated",
    "grad_norm": "gradient norm before clipping",
}


def write_report(run: Run, show: Callable[[ReportData], None] = lambda data: None) -> None:
    """Write ``report.html`` into the run's folder if selection has run. ``show`` gets the data of a new report."""
    view = run.view
    if Selection.name not in view.results:
        return
    about = {
        "version": VERSION,
        "config": view.config.model_dump(mode="json", exclude={"execution"}),
        "keys": {
            stage: [[entry.item.name, entry.item.action.key, entry.error] for entry in entries]
            for stage, entries in view.results.items()
        },
        "dropped": [[drop.stage, drop.name, drop.reason] for drop in view.dropped],
    }
    cached = f"reports/{digest_config(about)}.html"
    while not run.folder.take(cached, "report.html"):
        data = _Gatherer(run).data()
        run.store.folder.write(cached, render_report(data).encode())
        show(data)
    run.outputs["report"] = run.folder.address("report.html")


class _Gatherer:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._view = run.view

    def data(self) -> ReportData:
        view = self._view
        selected = view.one(Selection)
        assert selected is not None
        record = Selected.model_validate(selected[1].record)
        against_base = comparison(view)
        champion = next((one.comparison for one in comparisons(view) if one.against is not None), None)
        settings = view.config.model_dump(mode="json", exclude={"execution"})
        return ReportData(
            run=view.config.name,
            config=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
            notes=tuple(note for note in (stage.note(view) for stage in self._run.stages) if note),
            comparison=against_base,
            no_comparison=None if against_base else "the run stopped before evaluation",
            ruling=ruling_of(view),
            champion=champion,
            sheets=self._sheets(),
            yield_report=record.report,
            best_score=record.best_score,
            candidates=self._candidates(selected[1]),
            dropped=self._dropped(),
            curves=self._curves(),
            digests=self._digests(),
        )

    def _candidates(self, selected: ActionResult) -> tuple[CandidateLine, ...]:
        decided = decisions(selected, self._run.store)
        by_candidate = {(decision.clip_id, decision.seed): decision for decision in decided}
        shown = set(strips_to_show(decided))
        lines = []
        for one in scored_candidates(self._view):
            candidate = (one.scored.candidate.clip_id, one.scored.candidate.seed)
            strip = None
            if candidate in shown:
                pose = PoseSequence.from_bytes(self._run.read(pose_of(one.generated.pose)))
                strip = candidate_strip(decode_video(self._run.read(one.scored.candidate.video)), pose)
            score = one.scored.score
            lines.append(
                CandidateLine(
                    clip=f"{one.generated.named.name}, candidate {one.generated.number}",
                    decision=by_candidate[candidate],
                    components=score.components,
                    worst=score.worst,
                    scorable=score.scorable,
                    strip=strip,
                )
            )
        return tuple(lines)

    def _sheets(self) -> tuple[Sheet, ...]:
        results = clip_results(self._view)
        base = [result for result in results if result.model == "base"]
        aligned = [result for result in results if result.model == "aligned"]
        score = {(result.model, result.clip_id, result.seed): result.score.score for result in results}
        made = {(clip.model, row.clip_id): clip.result for clip in evaluated(self._view) for row in clip.results}
        seeds = {
            (clip.model, row.clip_id): [one.seed for one in clip.results]
            for clip in evaluated(self._view)
            for row in clip.results
        }
        sheets = []
        for clip_id, seed in sheets_to_show(base, aligned):
            named, pose_result = self._clip(clip_id)
            pose = PoseSequence.from_bytes(self._run.read(pose_of(pose_result)))
            before, after = (
                self._shot(made[model, clip_id], seeds[model, clip_id].index(seed)) for model in ("base", "aligned")
            )
            sheets.append(
                Sheet(
                    clip=named.name,
                    caption=f"hand score {_two(score['base', clip_id, seed])} -> "
                    f"{_two(score['aligned', clip_id, seed])}, seed {seed}",
                    reference=contact_sheet([[decode_png(self._run.read(named.clip.reference))]]),
                    frames=comparison_sheet(decode_video(self._run.read(named.clip.video)), pose, before, after),
                )
            )
        return tuple(sheets)

    def _shot(self, result: ActionResult, number: int) -> Shot:
        video = decode_video(self._run.read(blob(result, f"{number}.mp4")))
        return Shot(video, PoseSequence.from_bytes(self._run.read(blob(result, f"{number}.pose"))))

    def _clip(self, clip_id: str) -> tuple[NamedClip, ActionResult]:
        return next((named, pose) for named, pose in posed_clips(self._view) if named.clip.clip_id == clip_id)

    def _dropped(self) -> tuple[DroppedInput, ...]:
        return tuple(
            DroppedInput(source=source, window=window, stage=drop.stage, reason=drop.reason)
            for drop in drops(self._view, self._run.stages)
            for source, window in [_window(drop.name)]
        )

    def _curves(self) -> tuple[Curve, ...]:
        trained = self._view.one(Finetune)
        if trained is None:
            return ()
        steps = json.loads(self._run.read(blob(trained[1], "training.json")))
        return tuple(
            Curve(
                name=name,
                about=about,
                steps=tuple(step["step"] for step in steps),
                values=tuple(step[name] for step in steps),
            )
            for name, about in _CURVES.items()
            if steps and steps[0][name] is not None
        )

    def _digests(self) -> tuple[NamedDigest, ...]:
        found: list[NamedDigest] = []

        def add(what: str, digest: str | None) -> None:
            if digest:
                found.append(NamedDigest(what=what, digest=digest))

        for item, result in self._view.done(Finetune):
            add("base model", item.action.inputs["model"])
            add("LoRA that generated the candidates", generator(self._view))
            add("LoRA", blob(result, LORA))
        for compared in comparisons(self._view):
            add("LoRA of the champion", compared.against)
        for item, result in self._view.done(Shards):
            for name in sorted(result.outputs):
                add(f"shard {name}", blob(result, name))
            add("samples", item.action.inputs["samples"])
        for item, _ in self._view.done(Selection):
            add("scores", item.action.inputs["scores"])
            add("selection (action)", item.action.key)
        return tuple(found)


def _window(name: str) -> tuple[str, str]:
    """Return source and window from the name of an item or drop."""
    match = re.fullmatch(r"(.+?)(?: from (\d+\.\d+ s)| (#\d{3}.*))", name)
    return (match[1], match[2] or match[3]) if match else (name, "")


def _two(value: float | None) -> str:
    return "unscorable" if value is None else f"{value:.2f}"
