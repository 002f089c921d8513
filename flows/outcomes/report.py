"""Write the report of a run, however it ends. The same results are gathered and rendered once for all runs."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from flows.engine.run import Run
from flows.engine.run_folder import RunFolder
from flows.engine.stage import blob
from flows.engine.status import RunState, ended, run_state
from flows.engine.summary import RunSummary, drops
from flows.outcomes.curves import about_curves
from flows.outcomes.promotion import ruling_of
from flows.outcomes.run_record import run_record
from flows.outcomes.yields import past_runs
from flows.stages import STAGE_NAMES
from flows.stages.candidates import Candidates, generator, left_out
from flows.stages.clips import NamedClip, named_clips
from flows.stages.evaluation import clip_results, comparison, comparisons, evaluated
from flows.stages.finetune import Finetune
from flows.stages.judge import who_judged
from flows.stages.pairs import preferred_of
from flows.stages.poses import pose_of, posed_clips
from flows.stages.scores import scored_candidates
from flows.stages.selection import Selected, Selection, decisions
from flows.stages.shards import Shards
from flows.training.job import LORA
from flows.training.previews import videos_of
from ipa_core.config import ConfigError
from ipa_core.records import PoseSequence, Rejected
from ipa_core.reporting.charts import Curve
from ipa_core.reporting.report import (
    PREVIEW_LIMIT,
    CandidateLine,
    ClipLine,
    NamedDigest,
    Preview,
    ReportData,
    Sheet,
    clip_lines,
    evenly,
    render_results,
    sheets_to_show,
    strips_to_show,
)
from ipa_core.reporting.run_record import render_report
from ipa_core.reporting.sheets import Shot, candidate_strip, comparison_sheet, contact_sheet, film
from ipa_core.video import decode_picture, decode_video, fitted
from storage import ActionResult, Store
from storage.damage import sealed_text, unsealed_text
from storage.digest import digest_config

log = logging.getLogger(__name__)
VERSION = 6


@contextmanager
def reported(run: Run, show: Callable[[ReportData], None] = lambda data: None) -> Iterator[None]:
    """Write ``report.html`` into the run's folder when the block ends, also with an error. ``show`` gets the data of
    results that were not rendered before. Raises ``RunStopped`` when they can't be read."""
    try:
        yield
        summary = run.summed_up()
        if summary.status != "nothing_new" or not _same_report(run):
            _write(run, summary, _results(run, show))
            run.store.folder.write(_rendered(run, "run"), run.folder.run_id.encode())
    except BaseException as error:
        summary = run.summed_up(error)
        if summary.status == "stopped":
            run.folder.write_summary(summary)  # At once: a process that is told to stop may be ended at any moment.
        _report_of_the_broken_off(run, summary)
        raise


def _report_of_the_broken_off(run: Run, summary: RunSummary) -> None:
    """Write it with the run's results if these can be read. Trouble here must not hide the error that ended the run."""
    ways: list[Callable[[], str | None]] = [lambda: None]
    if summary.status == "failed":
        ways.insert(0, lambda: _results(run))
    troubles = []
    for results in ways:
        try:
            _write(run, summary, results())
            break
        except Exception as trouble:  # noqa: BLE001 - the run's own error is raised next
            troubles.append(f"{type(trouble).__name__}: {trouble}")
    if troubles:
        log.warning("the report of the run that broke off is not whole: %s", troubles[0])


def _write(run: Run, summary: RunSummary, results: str | None) -> None:
    past = () if summary.status == "stopped" else past_runs(run.store, run.folder, summary.status)
    state = ended(run.folder, summary.to_json())
    record = run_record(run.folder, state, summary.dropped, [stage.name for stage in run.stages], past)
    run.outputs["report"] = run.folder.write("report.html", render_report(record, results).encode())


def report_of(folder: RunFolder, store: Store) -> tuple[Path, RunState]:
    """Return a local copy of a run's report, and the run's state. A run that was killed, or broke off in an older
    version, wrote none: it gets one from its record. Raises ``ConfigError`` for a run that goes on."""
    state = run_state(folder)
    if folder.summary() is None or folder.local_copy("report.html") is None:
        if state.state == "running":
            raise ConfigError(f"run {folder.run_id} goes on; its report comes at its end: `ipa status {folder.run_id}`")
        past = past_runs(store, folder, state.state)
        record = run_record(folder, state, folder.dropped(), STAGE_NAMES, past)
        folder.write("report.html", render_report(record, None).encode())
    path = folder.local_copy("report.html")
    assert path is not None
    return path, state


def _same_report(run: Run) -> bool:
    """Link the report of the last run with the same results: a run with nothing new costs no disk."""
    earlier = (run.store.folder.read(_rendered(run, "run")) or b"").decode(errors="replace")
    if not re.fullmatch(r"[\w-]+", earlier) or not run.folder.take(f"runs/{earlier}/report.html", "report.html"):
        return False
    run.outputs["report"] = run.folder.address("report.html")
    return True


def _results(run: Run, show: Callable[[ReportData], None] = lambda data: None) -> str | None:
    """Return the HTML of the run's results; None if selection has not run."""
    if run.view.one(Selection) is None:
        return None
    cached = _rendered(run, "page")
    html = unsealed_text(run.store.folder.read(cached) or b"")
    if html is None:
        data = _Gatherer(run).data()
        html = render_results(data)
        run.store.folder.write(cached, sealed_text(html))
        show(data)
    return html


def _rendered(run: Run, kind: Literal["page", "run"]) -> str:
    """Return the name in the store of the rendered results of these items, or of the run that reported them last."""
    view = run.view
    about: dict[str, object] = {
        "version": VERSION,
        "config": view.config.model_dump(mode="json", exclude={"execution"}),
        "keys": {
            stage: [[entry.item.name, entry.item.action.key, entry.error] for entry in entries]
            for stage, entries in view.results.items()
        },
    }
    if previews := _preview_videos(run):
        about["previews"] = {clip: sorted(by_step) for clip, by_step in previews.items()}
    if people := preferred_of(view):
        about["preferences"] = [one.model_dump() for one in people]
    return f"reports/{digest_config(about)}.{kind}"


def _preview_videos(run: Run) -> dict[str, dict[int, bytes]]:
    trained = run.view.one(Finetune)
    return {} if trained is None else videos_of(trained[0].action.key, run.store.folder)


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
        return ReportData(
            notes=tuple(note for stage in self._run.stages for note in stage.notes(view)),
            judges=who_judged(view),
            comparison=against_base,
            no_comparison=None if against_base else "the run ended before its evaluation",
            ruling=ruling_of(view),
            champion=champion,
            preferred=preferred_of(view),
            sheets=self._sheets(),
            yield_report=record.report,
            left_out=left_out(drops(view, [Candidates()])),
            best_score=record.best_score,
            candidates=self._candidates(selected[1]),
            clips=self._clips(),
            curves=self._curves(),
            previews=self._previews(),
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
            driving = decode_video(self._run.read(named.clip.video))
            before, after = (
                self._shot(made[model, clip_id], seeds[model, clip_id].index(seed)) for model in ("base", "aligned")
            )
            sheets.append(
                Sheet(
                    clip=named.name,
                    caption=f"hand score {_two(score['base', clip_id, seed])} -> "
                    f"{_two(score['aligned', clip_id, seed])}, seed {seed}",
                    reference=contact_sheet([[self._reference(named)]]),
                    rows=comparison_sheet(driving, pose, before, after),
                    film=film((driving, before.video, after.video), self._view.config.clips.fps),
                )
            )
        return tuple(sheets)

    def _reference(self, named: NamedClip) -> np.ndarray:
        clips = self._view.config.clips
        return fitted(decode_picture(self._run.read(named.clip.reference)), clips.width, clips.height)

    def _shot(self, result: ActionResult, number: int) -> Shot:
        video = decode_video(self._run.read(blob(result, f"{number}.mp4")))
        return Shot(video, PoseSequence.from_bytes(self._run.read(blob(result, f"{number}.pose"))))

    def _clip(self, clip_id: str) -> tuple[NamedClip, ActionResult]:
        return next((named, pose) for named, pose in posed_clips(self._view) if named.clip.clip_id == clip_id)

    def _clips(self) -> tuple[ClipLine, ...]:
        results = clip_results(self._view)
        base, aligned = ([row for row in results if row.model == model] for model in ("base", "aligned"))
        return clip_lines(base, aligned, {named.clip.clip_id: named.name for named in named_clips(self._view)})

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
            for name, about in about_curves(self._view.config.alignment).items()
            if steps and steps[0].get(name) is not None
        )

    def _previews(self) -> tuple[Preview, ...]:
        names = {named.clip.clip_id: named.name for named in named_clips(self._view)}
        found = []
        for clip, by_step in _preview_videos(self._run).items():
            steps = tuple(evenly(sorted(by_step), PREVIEW_LIMIT))
            try:
                shown = film([decode_video(by_step[step]) for step in steps], self._view.config.clips.fps)
            except (Rejected, ValueError) as error:
                log.warning("the report shows no previews of %s: %s", names.get(clip, clip), error)
                continue
            found.append(Preview(clip=names.get(clip, clip), steps=steps, film=shown))
        return tuple(found)

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


def _two(value: float | None) -> str:
    return "unscorable" if value is None else f"{value:.2f}"
