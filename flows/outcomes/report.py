"""Gathers what a report shows. The report is a function of content, so it is rendered once for the same results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import yaml

from flows.engine.run_folder import RunFolder, drops
from flows.engine.stage import Results, blob
from flows.engine.walk import Runner
from flows.outcomes.promotion import ruling_of
from flows.stages import candidates, evaluation, selection
from flows.stages.clips import NamedClip
from flows.stages.finetune import LORA
from flows.stages.poses import posed_clips
from flows.stages.scores import scored_candidates
from ipa_core.config import RunConfig
from ipa_core.records import PoseSequence, YieldReport
from ipa_core.reporting import (
    CandidateLine,
    Curve,
    DroppedInput,
    NamedDigest,
    ReportData,
    Sheet,
    Shot,
    candidate_strip,
    comparison_sheet,
    contact_sheet,
    render_report,
    sheets_to_show,
    strips_to_show,
)
from ipa_core.video import decode_png, decode_video
from storage import ActionResult, Store
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


def write_report(folder: RunFolder, runner: Runner, store: Store, show: Callable[[ReportData], None]) -> str | None:
    """Address of ``report.html`` in the run's folder; None where selection has not run. ``show`` gets what a report of
    something new is made from."""
    results, config = runner.results, runner.config
    if "selection" not in results:
        return None
    about = {
        "version": VERSION,
        "config": config.model_dump(mode="json", exclude={"execution"}),
        "keys": {
            stage: [[entry.item.name, entry.item.action.key, entry.error] for entry in entries]
            for stage, entries in results.items()
        },
        "dropped": [[drop.stage, drop.name, drop.reason] for drop in runner.dropped],
    }
    cached = f"reports/{digest_config(about)}.html"
    html = store.folder.read(cached)
    if html is None:
        data = _Gatherer(runner, store).data()
        html = render_report(data).encode()
        store.folder.write(cached, html)
        show(data)
    return folder.write("report.html", html)


class _Gatherer:
    def __init__(self, runner: Runner, store: Store) -> None:
        self._runner = runner
        self._results: Results = runner.results
        self._config: RunConfig = runner.config
        self._store = store

    def data(self) -> ReportData:
        selected = self._results.one("selection")
        assert selected is not None
        record = selected[1].record
        judged = evaluation.comparisons(self._results) if "evaluation" in self._results else []
        comparison = next((one.comparison for one in judged if one.against is None), None)
        champion = next((one.comparison for one in judged if one.against is not None), None)
        return ReportData(
            run=self._config.name,
            config=yaml.safe_dump(
                self._config.model_dump(mode="json", exclude={"execution"}), sort_keys=False, allow_unicode=True
            ),
            comparison=comparison,
            no_comparison=None if comparison else "the run stopped before evaluation",
            ruling=ruling_of(self._results, self._config),
            champion=champion,
            sheets=self._sheets(),
            yield_report=YieldReport.model_validate(record["report"]),
            best_score=record["best_score"],
            candidates=self._candidates(selected[1]),
            dropped=self._dropped(),
            curves=self._curves(),
            digests=self._digests(),
        )

    def _read(self, digest: str) -> bytes:
        self._runner.restore({digest})
        return self._store.objects.get(digest)

    def _candidates(self, selected: ActionResult) -> tuple[CandidateLine, ...]:
        decided = selection.decisions(selected, self._store)
        decisions = {(decision.clip_id, decision.seed): decision for decision in decided}
        shown = set(strips_to_show(decided))
        lines = []
        for group, number, scored, _ in scored_candidates(self._config, self._results):
            place = (scored.candidate.clip_id, scored.candidate.seed)
            strip = None
            if place in shown:
                pose = PoseSequence.from_bytes(self._read(blob(group.pose, "pose")))
                strip = candidate_strip(decode_video(self._read(scored.candidate.video)), pose)
            name = f"{group.named.name}, candidate {number}"
            lines.append(
                CandidateLine(
                    clip=name,
                    decision=decisions[place],
                    components=scored.score.components,
                    worst=scored.score.worst,
                    scorable=scored.score.scorable,
                    strip=strip,
                )
            )
        return tuple(lines)

    def _sheets(self) -> tuple[Sheet, ...]:
        if "evaluation" not in self._results:
            return ()
        results = evaluation.clip_results(self._results)
        base = [result for result in results if result.model == "base"]
        aligned = [result for result in results if result.model == "aligned"]
        score = {(result.model, result.clip_id, result.seed): result.score.score for result in results}
        made = self._evaluated()
        sheets = []
        for clip_id, seed in sheets_to_show(base, aligned):
            named, pose_result = self._clip(clip_id)
            pose = PoseSequence.from_bytes(self._read(blob(pose_result, "pose")))
            before, after = (self._shot(made[model, clip_id], seed) for model in ("base", "aligned"))
            sheets.append(
                Sheet(
                    clip=named.name,
                    caption=f"hand score {_two(score['base', clip_id, seed])} -> "
                    f"{_two(score['aligned', clip_id, seed])}, seed {seed}",
                    reference=contact_sheet([[decode_png(self._read(named.clip.reference))]]),
                    frames=comparison_sheet(decode_video(self._read(named.clip.video)), pose, before, after),
                )
            )
        return tuple(sheets)

    def _shot(self, result: ActionResult, seed: int) -> Shot:
        number = [row["seed"] for row in result.record["results"]].index(seed)
        video = decode_video(self._read(blob(result, f"{number}.mp4")))
        return Shot(video, PoseSequence.from_bytes(self._read(blob(result, f"{number}.pose"))))

    def _evaluated(self) -> dict[tuple[str, str], ActionResult]:
        """By (model, clip id)."""
        return {
            (model, row["clip_id"]): result
            for model, result in evaluation.evaluated(self._results)
            for row in result.record["results"]
        }

    def _clip(self, clip_id: str) -> tuple[NamedClip, ActionResult]:
        return next(
            (named, pose) for named, pose in posed_clips(self._config, self._results) if named.clip.clip_id == clip_id
        )

    def _dropped(self) -> tuple[DroppedInput, ...]:
        return tuple(
            DroppedInput(source=source, window=window, stage=drop.stage, reason=drop.reason)
            for drop in drops(self._results, self._runner.dropped)
            for source, window in [_window(drop.name)]
        )

    def _curves(self) -> tuple[Curve, ...]:
        trained = self._results.one("finetune") if "finetune" in self._results else None
        if trained is None:
            return ()
        steps = json.loads(self._read(blob(trained[1], "training.json")))
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

        trained = self._results.get("finetune", [])
        for item, result in self._results.done("finetune") if trained else ():
            add("base model", item.action.inputs["model"])
            add("LoRA that generated the candidates", candidates.generator(self._results))
            add("LoRA", blob(result, LORA))
        for judged in evaluation.comparisons(self._results) if "evaluation" in self._results else ():
            add("LoRA of the champion", judged.against)
        for item, result in self._results.done("shards") if "shards" in self._results else ():
            for name in sorted(result.outputs):
                add(f"shard {name}", blob(result, name))
            add("samples", item.action.inputs["samples"])
        for item, _ in self._results.done("selection"):
            add("scores", item.action.inputs["scores"])
            add("selection (action)", item.action.key)
        return tuple(found)


def drop_unkept(store: Store, config: RunConfig, results: Results) -> int:
    """Drop latents and conditioning of candidates that were not kept; returns how many objects. They are computed
    again when something that is not cached needs them."""
    from storage.maintenance import drop

    selected = results.one("selection") if "selection" in results else None
    if selected is None:
        return 0
    kept = {(line.clip_id, line.seed) for line in selection.decisions(selected[1], store) if line.kept}
    every, needed = set(), set()
    for group in candidates.groups(config, results):
        for candidate in group.candidates():
            pair = {candidate.latents, candidate.conditioning}
            every |= pair
            if (candidate.clip_id, candidate.seed) in kept:
                needed |= pair
    drop(store, every - needed)
    return len(every - needed)


def _window(name: str) -> tuple[str, str]:
    """Source and window of an item's or drop's name."""
    match = re.fullmatch(r"(.+?)(?: from (\d+\.\d+ s)| (#\d{3}.*))", name)
    return (match[1], match[2] or match[3]) if match else (name, "")


def _two(value: float | None) -> str:
    return "unscorable" if value is None else f"{value:.2f}"
