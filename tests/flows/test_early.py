"""Candidates that early rejection stopped: found, counted and forecast by all that comes after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flows.cli.use import yield_table
from flows.engine.plan import plan_run
from flows.engine.run_folder import RunFolder, runs
from flows.engine.stage import Item, RunStopped
from flows.engine.summary import drops
from flows.engine.walk import Scope
from flows.outcomes.yields import run_yields
from flows.review.queue import open_queue
from flows.stages import STAGES
from flows.stages.candidates import Candidates, GeneratedCandidate, SeedGroup, candidates, left_out
from flows.stages.scores import scored_candidates
from ipa_core.config import RunConfig
from ipa_core.models.latents import latents_from_bytes
from ipa_core.records import LeftOut
from storage import Store
from tests.fakes import FAKES, fake_config, write_videos
from tests.flows.conftest import Done, run_fake, whole_run
from tests.flows.invented import keys
from tests.flows.test_keys import MODEL, run_config

EARLY = {"at": [0.6], "keep": 0.5}
SETTINGS: dict[str, object] = {
    "candidates__per_clip": 4,
    "candidates__steps": 3,
    "clips__held_out": 0.0,
    "selection__threshold": 0.0,
}


def config(folder: Path, early: dict[str, Any] | None = EARLY, **changes: object) -> RunConfig:
    return fake_config(folder, **(SETTINGS | {"candidates__early": early} | changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    write_videos(folder / "videos", 2)
    whole_run(config(folder), Scope(last="selection"))
    return folder


@pytest.fixture
def done(made: Path) -> Done:
    return run_fake(config(made), Scope(last="selection"))


def latents(done: Done, one: GeneratedCandidate) -> torch.Tensor:
    return latents_from_bytes(done.store.objects.get(one.candidate.latents))


def test_the_better_half_of_each_clip_is_scored_and_selected(done: Done) -> None:
    assert len(candidates(done.view)) == len(scored_candidates(done.view)) == 4
    for _, result in done.results.done("candidates"):
        group = SeedGroup.model_validate(result.record)
        in_turn = sorted(group.previews, key=lambda preview: preview.score or 0, reverse=True)
        finished = {group.seeds.index(preview.seed) for preview in in_turn[:2]}
        assert {int(name[0]) for name in result.outputs if name.endswith(".mp4")} == finished
        assert {one.number for one in candidates(done.view) if one.action == result.key} == finished


def test_the_finished_candidates_are_those_of_a_full_generation(made: Path, tmp_path: Path, done: Done) -> None:
    whole = run_fake(config(made, early=None, execution__store=str(tmp_path)), Scope(last="candidates"))
    full = {(one.candidate.clip_id, one.candidate.seed): latents(whole, one) for one in candidates(whole.view)}
    for one in candidates(done.view):
        torch.testing.assert_close(latents(done, one), full[one.candidate.clip_id, one.candidate.seed])


def test_each_stopped_candidate_is_dropped_with_its_reason(done: Done) -> None:
    found = drops(done.view, [Candidates()])
    assert left_out(found) == LeftOut(stopped=4)
    assert all(" candidate " in drop.name and "number" in drop.reason for drop in found)


def test_the_yield_counts_them(made: Path) -> None:
    found = run_yields(Store(made / "store"))[-1]
    assert (found.left_out, found.report.candidates) == (LeftOut(stopped=4), 4)
    _, line, *_ = yield_table([found]).splitlines()
    assert line.split()[2:7] == ["0", "0", "2", "4", "4"]


def test_the_report_counts_them(made: Path) -> None:
    folder = list(runs(Store(made / "store")))[-1]
    report = (folder.local_copy("report.html") or Path()).read_text()
    assert "0 clips that early rejection gave up, and 4 candidates of other clips" in report
    assert "the preview scores" in report


def test_the_review_page_says_who_was_stopped_beside_a_candidate(made: Path) -> None:
    queue = open_queue(Store(made / "store"), list(runs(Store(made / "store")))[-1])
    for one in queue.candidates:
        beside = queue.stopped_beside(one)
        finished = {queue.candidates[index].number for index in queue.clip(one)}
        assert {int(sentence.split()[1]) for sentence in beside} == {0, 1, 2, 3} - finished


def test_a_clip_whose_best_preview_is_bad_is_given_up(made: Path) -> None:
    # The best fake previews reach the highest score of version 2; in version 1 they differ.
    done = run_fake(config(made, scores__version=1), Scope(last="candidates"))
    best = sorted(
        max(preview.score or 0 for preview in SeedGroup.model_validate(result.record).previews)
        for _, result in done.results.done("candidates")
    )
    again = run_fake(config(made, EARLY | {"least": sum(best) / 2}, scores__version=1), Scope(last="scores"))
    assert len(candidates(again.view)) == 2
    found = drops(again.view, [Candidates()])
    assert left_out(found) == LeftOut(given_up=1, stopped=2)
    [why] = [drop.reason for drop in found if drop.reason.startswith("given up")]
    assert f"the best of 4 previews scores {best[0]:.3f}" in why


def test_a_run_whose_clips_are_all_given_up_says_what_to_do(made: Path) -> None:
    with pytest.raises(RunStopped, match=r"none of 2 clips got candidates \(.*; lower candidates.early.least"):
        run_fake(config(made, EARLY | {"least": 1.0}), Scope(last="scores"))


def test_asking_again_computes_nothing(done: Done) -> None:
    assert done.computed() == {}


def test_the_plan_forecasts_the_finished_ones(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 10)
    settings = config(tmp_path)
    rows = {row.name: row for row in plan_run(Store(tmp_path / "store"), settings, STAGES, FAKES).stages}
    assert (rows["candidates"].uncounted, rows["scores"].uncounted) == (10, 20)


@pytest.mark.parametrize(
    ("changes", "finished"),
    [({"early": EARLY}, 4), ({"early": EARLY | {"keep": 0.25}}, 2), ({"early": None, "candidates__per_clip": 6}, 12)],
    ids=["switched on", "fewer kept", "off and more of them"],
)
def test_the_plan_forecasts_the_finished_ones_of_the_new_settings(
    tmp_path: Path, changes: dict[str, Any], finished: int
) -> None:
    write_videos(tmp_path / "videos", 2)
    done = run_fake(config(tmp_path, early=None), Scope(last="scores"))
    RunFolder.new(done.store).write_items(done.results)
    rows = {row.name: row for row in plan_run(done.store, config(tmp_path, **changes), STAGES, FAKES).stages}
    assert (rows["candidates"].compute, rows["scores"].items) == (2, finished)


def test_the_plan_prices_the_share_of_the_steps(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 1)
    settings = config(tmp_path)
    view = run_fake(settings, Scope(last="poses")).view
    [item] = [one for one in Candidates().items(view) if isinstance(one, Item)]
    assert Candidates().work(item.action) == Candidates().forecast_work(settings) == settings.candidates.early_share


def test_early_rejection_changes_no_key_while_it_is_off_and_none_of_the_evaluation(tmp_path: Path) -> None:
    tree = {"early": None}
    plain, off = (
        keys(tmp_path / name, run_config(tmp_path / name, candidates={"model": MODEL} | more))
        for name, more in (("a", {}), ("b", tree))
    )
    assert off == plain
    on = keys(tmp_path / "c", run_config(tmp_path / "c", candidates={"model": MODEL, "early": EARLY}))
    assert on["evaluation"].keys() == plain["evaluation"].keys()
    assert {name: key for name, key in on["evaluation"].items() if name.endswith("base")} == {
        name: key for name, key in plain["evaluation"].items() if name.endswith("base")
    }
    assert not set(on["candidates"].values()) & set(plain["candidates"].values())
