"""What an addition costs: a stage, an option, more candidates; and what a change in mid-run or an old run does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import pytest
import yaml

from flows.engine.plan import StagePlan, plan_run
from flows.engine.run import Run
from flows.engine.run_folder import runs
from flows.engine.stage import Item, Output, Stage, key_fields
from flows.engine.status import last_runs
from flows.engine.summary import StageTable
from flows.engine.view import View
from flows.engine.watch import Watch
from flows.engine.worker import Worker
from flows.outcomes.promotion import promote
from flows.outcomes.yields import run_yields
from flows.stages import STAGES
from flows.stages.candidates import candidates
from flows.stages.evaluation import clip_results
from flows.stages.selection import kept_samples
from ipa_core.config import LATER, CandidatesConfig, RunConfig
from ipa_core.records import Record, Rejected
from storage import Action, Store
from storage.registry import Registry
from tests.fakes import FAKES, fake_config
from tests.flows.conftest import VIDEOS, run_fake, whole_run


class Counted(Record):
    letters: int


class Captions(Stage[Counted]):
    """A tenth stage: it counts the letters of each kept sample's prompt, and rejects the first sample."""

    name = "captions"
    version = 1
    place = "here"
    section = "evaluation"
    record = Counted

    def items(self, run: View) -> Iterator[Item]:
        for number, sample in enumerate(kept_samples(run)):
            settings = {"prompt": sample.prompt, "first": number == 0}
            yield Item(sample.key, Action(self.name, self.version, settings, {"video": sample.video}))

    def compute(self, item: Item, worker: Worker) -> Output:
        if item.action.config["first"]:
            raise Rejected("the first sample has no caption")
        return Output(Counted(letters=len(item.action.config["prompt"])))


WITH_CAPTIONS = (*STAGES, Captions())


def test_a_tenth_stage_is_one_file_and_one_line(folder: Path) -> None:
    config = fake_config(folder)
    planned = {row.name: row for row in plan_run(Store(folder / "store"), config, WITH_CAPTIONS, FAKES).stages}
    with patch("tests.flows.conftest.STAGES", WITH_CAPTIONS):
        summary = whole_run(config)
    table = summary.stages[-1]
    assert (summary.status, table.name, table.computed, table.rejected) == ("completed", "captions", table.items, 1)
    assert planned["captions"].why == {"new input": table.items}
    [state] = last_runs(Store(folder / "store"), 1)
    assert state.stages[-1].name == "captions"
    assert "the first sample has no caption" in Path(summary.outputs["report"]).read_text()


class LaterCandidates(CandidatesConfig):
    early_reject: Annotated[float | None, LATER] = None


def with_option(folder: Path, value: float | None) -> RunConfig:
    config = fake_config(folder)
    later = LaterCandidates(**config.candidates.model_dump(), early_reject=value)
    return config.model_copy(update={"candidates": later})


def plan(config: RunConfig) -> dict[str, StagePlan]:
    assert config.execution.store is not None
    return {row.name: row for row in plan_run(Store(config.execution.store), config, STAGES, FAKES).stages}


def test_an_option_that_was_added_later_changes_no_key_at_its_default(folder: Path) -> None:
    assert sum(row.compute for row in plan(with_option(folder, None)).values()) == 0


def test_an_option_that_was_added_later_is_named_by_the_plan_when_it_is_set(folder: Path) -> None:
    why = plan(with_option(folder, 0.3))["candidates"].why
    assert list(why) == ["candidates.early_reject: None -> 0.3"]


def test_fields_of_a_section_within_a_section_can_be_later_too() -> None:
    class Inner(CandidatesConfig):
        inner: LaterCandidates

    model = {"path": "a"}
    outer = Inner(model=model, inner=LaterCandidates(model=model))
    assert "early_reject" not in key_fields(outer)["inner"]


def test_the_plan_names_the_option_of_the_evaluation(folder: Path) -> None:
    run_fake(fake_config(folder))
    why = plan(fake_config(folder, evaluation__per_clip=3))["evaluation"].why
    assert "evaluation.per_clip: 1 -> 3" in why


def test_more_candidates_in_groups_cost_only_the_new_group(folder: Path) -> None:
    before = run_fake(fake_config(folder))
    clips = len(before.results["candidates"])
    done = run_fake(fake_config(folder, candidates__per_clip=4, candidates__group=2))
    assert (done.computed()["candidates"], done.computed()["scores"]) == (clips, 2 * clips)
    assert len(candidates(done.view)) == 4 * clips
    seeds = [one.candidate.seed for one in candidates(done.view)]
    assert len(set(seeds)) == len(seeds)


def test_fewer_candidates_cost_none(folder: Path) -> None:
    done = run_fake(fake_config(folder, candidates__per_clip=1, candidates__group=2))
    assert {"candidates", "scores"}.isdisjoint(done.computed())
    assert len(candidates(done.view)) == len(done.results["candidates"])


class AtStage(Watch):
    """Calls a function when a stage begins."""

    def __init__(self, stage: str, call: Callable[[], None]) -> None:
        self._stage = stage
        self._call = call

    def stage(self, stage: Stage[Any], work: Callable[[Stage[Any]], StageTable]) -> None:
        if stage.name == self._stage:
            self._call()
        work(stage)


def test_a_table_that_changes_in_mid_run_changes_nothing_in_that_run(folder: Path) -> None:
    table = folder / "people.csv"
    people = [f"video-{number:04d}.mp4,person {number}," for number in range(VIDEOS)]

    def write(held_out: set[int]) -> None:
        rows = [f"{row}{'held_out' if number in held_out else 'train'}" for number, row in enumerate(people)]
        table.write_text("\n".join(["file,group,split", *rows]))

    write({0, 1, 2})
    config = fake_config(folder, clips__metadata=str(table))
    with Run(config, STAGES, FAKES, watch=AtStage("finetune", lambda: write({3, 4, 5})), quiet=True) as run:
        run.walk()
        promote(run)
    run.check()
    [entry] = Registry(run.store.address).state().adapters.values()
    assert {mark for mark in entry.held_out if mark.startswith("person")} == {"person 0", "person 1", "person 2"}
    assert set(entry.held_out).isdisjoint(entry.trained_on)
    assert len({row.clip_id for row in clip_results(run.view)}) == 3


def test_an_unknown_option_in_an_old_run_hurts_nobody(folder: Path) -> None:
    store = Store(folder / "store")
    whole_run(fake_config(folder))
    [newest, *_] = runs(store)
    config = Path(newest.address("config.yaml"))
    tree = yaml.safe_load(config.read_text())
    tree["candidates"]["gone"] = 1
    tree["execution"]["runner"] = "processes"
    config.write_text(yaml.safe_dump(tree))
    assert last_runs(store, 1)[0].config == "fake"
    assert run_yields(store)[-1].config == "fake"


@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_the_config_of_an_older_run_can_be_used_again(runner: str, folder: Path) -> None:
    tree = fake_config(folder).model_dump(mode="json")
    tree["execution"]["runner"] = runner
    assert RunConfig.model_validate(tree) == fake_config(folder)


def test_a_run_that_is_under_way_is_told_whatever_started_it(folder: Path) -> None:
    states: list[str] = []
    store = Store(folder / "store")
    watch = AtStage("evaluation", lambda: states.append(last_runs(store, 1)[0].state))
    with Run(fake_config(folder), STAGES, FAKES, watch=watch, quiet=True) as run:
        run.walk()
    assert states == ["running"]
    assert last_runs(store, 1)[0].state == "nothing_new"
