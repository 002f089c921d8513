"""Several runs in a row: who becomes champion, what the next round computes, and whom it may train on."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from flows.engine.summary import Promotion
from flows.engine.walk import Scope
from flows.outcomes.promotion import promote
from flows.stages import evaluation, shards
from flows.stages.clips import named_clips
from flows.stages.finetune import LORA
from ipa_core.clips.split import split_of
from ipa_core.config import ScoresConfig
from ipa_core.pose import PoseExtractor
from ipa_core.records import HandScore, PoseSequence, ScoreComponents
from ipa_core.scoring.scorer import ScoredHands
from storage import Store
from storage.digest import digest_file
from storage.registry import Registered, Registry, State
from tests.fakes import FAKES, fake_config, write_parted_videos, write_video
from tests.flows.conftest import Done, run_fake

AT = "2026-01-01T00:00:00+00:00"


class BrightScorer:
    """The brighter the better: every LoRA of the fake model brightens."""

    def score(self, video: np.ndarray, driving_video: np.ndarray, driving: PoseSequence) -> ScoredHands:
        parts = dict.fromkeys(ScoreComponents.model_fields)
        brightness = round(float(video.mean()) / 255, 5)
        score = HandScore(
            score=brightness, unscorable=None, components=ScoreComponents(**parts), good_frames=1.0, hands=()
        )
        return ScoredHands(score, driving)


def bright_scorer(config: ScoresConfig, extractor: PoseExtractor) -> BrightScorer:
    return BrightScorer()


BRIGHT = replace(FAKES, hand_scorer=bright_scorer)


@dataclass(frozen=True)
class Round:
    """A run that has ended, and what the rule made of it."""

    done: Done
    promotion: Promotion

    @property
    def state(self) -> State:
        return Registry(self.done.store.address).state()

    def evaluated(self, model: str) -> list[str]:
        """`cached` or `computed`, of each item of one model."""
        return [entry.status for entry in self.done.results["evaluation"] if entry.item.name.endswith(f"#000 {model}")]


def promoted(done: Done, run: str) -> Promotion:
    done.run.folder.run_id = run
    promote(done.run)
    assert done.run.promotion is not None
    return done.run.promotion


def play(folder: Path, run: str, **changes: object) -> Round:
    config = fake_config(folder, **changes)
    done = run_fake(config, components=BRIGHT)
    return Round(done, promoted(done, run))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after its first round, whose adapter is champion. Not to be changed: take `first`."""
    folder = tmp_path_factory.mktemp("first round")
    # Three videos that are held out at a share of 0.4, two more at 0.7, three never.
    sides = {("held_out", "held_out"): 3, ("train", "held_out"): 2, ("train", "train"): 3}
    write_parted_videos(folder / "videos", (0.4, 0.7), sides)
    assert play(folder, "run 1").promotion.decision == "promoted"
    return folder


@pytest.fixture
def folder(played: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(played, tmp_path / "run"))


def champion(folder: Path) -> str:
    (only,) = Registry(folder / "store").state().champions
    return only


def test_the_first_adapter_that_beats_the_base_model_is_champion(played: Path) -> None:
    registered_, decided = Registry(played / "store").state().events
    assert isinstance(registered_, Registered)
    assert (decided.kind, decided.adapter, decided.against) == ("promoted", registered_.adapter, None)  # type: ignore[union-attr]


def test_lineage_names_what_the_adapter_was_made_from(played: Path) -> None:
    done = run_fake(fake_config(played), components=BRIGHT)
    entry = Registry(played / "store").state().adapters[champion(played)]
    finetune, packed = done.one("finetune"), done.one("shards")
    assert entry.lineage.finetune == finetune[1].key
    assert entry.lineage.samples == packed[0].action.inputs["samples"]
    assert set(entry.lineage.shards) == set(packed[1].outputs)
    assert entry.files[LORA] == champion(played)
    assert entry.lineage.config["alignment"]["beta"] == 600.0
    assert "psnr" in entry.metrics


def test_nobody_is_in_both_sides_of_the_lineage(played: Path) -> None:
    entry = Registry(played / "store").state().adapters[champion(played)]
    assert entry.trained_on and entry.held_out
    assert set(entry.trained_on).isdisjoint(entry.held_out)


def test_a_run_with_nothing_new_registers_and_decides_nothing(folder: Path) -> None:
    before = Registry(folder / "store").state().events
    again = play(folder, "run 2")
    assert again.done.computed() == {}
    assert (again.promotion.decision, again.promotion.reason) == ("unchanged", "it is the champion")
    assert Registry(folder / "store").state().events == before


def test_an_adapter_that_does_not_beat_the_champion_is_refused_once(folder: Path) -> None:
    second = play(folder, "run 2", alignment__beta=500.0, rounds__min_clips=50)
    events = second.state.events
    again = play(folder, "run 3", alignment__beta=500.0, rounds__min_clips=50)
    assert (second.promotion.decision, second.promotion.against) == ("refused", champion(folder))
    assert (again.promotion.decision, again.state.events) == ("unchanged", events)
    assert again.promotion.reason == f"refused on the same evidence in run run 2: {second.promotion.reason}"


def test_the_champions_half_is_what_its_own_round_computed(folder: Path) -> None:
    second = play(folder, "run 2", alignment__beta=500.0)
    assert set(second.evaluated("base")) == set(second.evaluated("champion")) == {"cached"}
    assert set(second.evaluated("aligned")) == {"computed"}
    assert len(second.evaluated("champion")) == len(second.evaluated("aligned"))


def test_the_comparison_with_the_champion_decides(folder: Path) -> None:
    second = play(folder, "run 2", alignment__beta=500.0)
    base, against_champion = evaluation.comparisons(second.done.view)
    assert (base.against, against_champion.against) == (None, Registry(folder / "store").state().decisions[0].adapter)
    won = against_champion.comparison.metrics[0].win_rate_interval
    assert won is not None
    assert (second.promotion.decision == "promoted") == (won.low > 0.5)


def test_a_repeated_run_of_a_new_champion_compares_with_the_old_one_again(folder: Path) -> None:
    first = champion(folder)
    second = play(folder, "run 2", alignment__beta=500.0, rounds__min_clips=50)
    Registry(folder / "store").promote(second.promotion.adapter, "me", "it looks better", AT)
    again = play(folder, "run 3", alignment__beta=500.0)
    assert again.done.computed() == {}
    assert evaluation.comparisons(again.done.view)[-1].against == first


def test_an_adapter_that_was_rolled_back_comes_back_by_hand_only(folder: Path) -> None:
    Registry(folder / "store").roll_back(champion(folder), "me", "six fingers", AT)
    again = play(folder, "run 2", rounds__min_clips=1)
    assert again.promotion.decision == "unchanged"
    assert again.promotion.reason.startswith("it was champion before")
    assert again.state.champions == ()


def overtaken(folder: Path) -> Promotion:
    """Of a run that was compared with the base model, while another one made its adapter champion."""
    registry, first = Registry(folder / "store"), champion(folder)
    registry.roll_back(first, "me", "to begin with", AT)
    config = fake_config(folder, alignment__beta=500.0)
    done = run_fake(config, components=BRIGHT)
    registry.promote(first, "another run", "it was faster", AT)
    promotion = promoted(done, "run 2")
    assert registry.state().champions == (first,)
    return promotion


def test_a_run_that_was_overtaken_promotes_nothing(folder: Path) -> None:
    promotion = overtaken(folder)
    assert promotion.decision == "refused"
    assert promotion.reason.startswith("the champion changed while the run was going")


def test_an_overtaken_adapter_is_compared_with_the_new_champion_by_the_next_run(folder: Path) -> None:
    overtaken(folder)
    again = play(folder, "run 3", alignment__beta=500.0)
    assert again.done.computed() == {"evaluation": 1}
    assert again.promotion.against == Registry(folder / "store").state().decisions[0].adapter
    assert again.promotion.decision != "unchanged"


def test_an_overtaken_adapter_gets_its_decision_when_the_old_incumbent_is_back(folder: Path) -> None:
    overtaken(folder)
    Registry(folder / "store").roll_back(champion(folder), "me", "it was not", AT)
    again = play(folder, "run 3", alignment__beta=500.0)
    assert (again.done.computed(), again.promotion.decision) == ({}, "promoted")


def add_training_video(folder: Path) -> None:
    path = folder / "videos" / "new.mp4"
    for number in count(1000):  # Far from those of the first round.
        write_video(path, number)
        if split_of(digest_file(path), 0.4) == "train":
            return


def test_of_a_new_video_only_its_own_items_are_computed(folder: Path) -> None:
    add_training_video(folder)
    known = {result.key for result in Store(folder / "store").actions.all("references")}
    second = play(folder, "run 2")
    held_out = len(second.evaluated("aligned"))
    computed = second.done.computed()
    # Its own, and those of samples that have fewer draws now; which these are follows from the samples' bytes.
    errors = [entry.item.action.key for entry in second.done.results["references"] if entry.status == "computed"]
    assert len(errors) == computed.pop("references") >= 1
    assert not known.intersection(errors)
    assert computed == {
        "clips": 1,
        "poses": 1,
        "candidates": 1,
        "scores": 2,
        "selection": 1,
        "shards": 1,
        "finetune": 1,
        "evaluation": held_out + 2,
    }


def test_a_run_that_stops_before_evaluation_promotes_nothing(folder: Path) -> None:
    config = fake_config(folder, alignment__beta=500.0)
    done = run_fake(config, Scope(last="finetune"), BRIGHT)
    before = Registry(folder / "store").state().events
    promote(done.run)
    assert done.run.promotion is None
    assert Registry(folder / "store").state().events == before


def test_on_policy_without_a_champion_is_the_same_run(folder: Path) -> None:
    shutil.rmtree(folder / "store" / "registry")
    assert run_fake(fake_config(folder, rounds__on_policy=True), components=BRIGHT).computed() == {}


def test_on_policy_the_champion_generates_and_nothing_before_changes(folder: Path) -> None:
    first = champion(folder)
    # The fake's latents are the same with any LoRA: another beta makes it another adapter.
    second = play(folder, "run 2", rounds__on_policy=True, alignment__beta=500.0)
    assert {entry.item.action.inputs["lora"] for entry in second.done.results["candidates"]} == {first}
    assert set(second.done.computed()).isdisjoint({"clips", "poses"})
    assert set(second.evaluated("base")) == {"cached"}
    assert second.state.adapters[second.promotion.adapter].lineage.generator == first


def test_on_policy_training_starts_from_the_base_model(folder: Path) -> None:
    second = play(folder, "run 2", rounds__on_policy=True)
    finetune = second.done.one("finetune")
    assert {name for name in finetune[0].action.inputs if not name.endswith(".tar")} == {"model"}


def test_on_policy_rounds_end_with_a_refusal(folder: Path) -> None:
    changes = {"rounds__on_policy": True, "rounds__min_clips": 50, "alignment__beta": 500.0}
    assert play(folder, "run 2", **changes).promotion.decision == "refused"
    assert play(folder, "run 3", **changes).done.computed() == {}


def test_who_was_held_out_is_not_trained_on_by_a_later_round(folder: Path) -> None:
    held_out = Registry(folder / "store").state().held_out().keys()
    config = fake_config(folder, clips__held_out=0.0)
    done = run_fake(config, Scope(last="shards"), BRIGHT)
    packed = done.one("shards")
    kept = {sample.clip_id for sample in shards.samples_of(packed[0], done.store)}
    sources = {named.clip.source for named in named_clips(done.view) if named.clip.clip_id in kept}
    assert sources and sources.isdisjoint(held_out)
    dropped = [drop for drop in done.view.dropped if drop.stage == "candidates"]
    assert len(dropped) == len(held_out)
    assert {drop.reason for drop in dropped} == {"this performer was held out in run run 1: never trained on"}


def test_whoever_the_champion_was_trained_on_does_not_judge_it(folder: Path) -> None:
    trained_on = Registry(folder / "store").state().trained_on(champion(folder)).keys()
    second = play(folder, "run 2", clips__held_out=0.7)
    held_out = set(second.state.adapters[second.promotion.adapter].held_out)
    assert len(held_out & trained_on) == len(second.evaluated("aligned")) - len(second.evaluated("champion")) > 0
    reasons = {drop.reason for drop in second.done.view.dropped if drop.stage == "evaluation"}
    assert reasons == {"the champion model's training saw this performer in run run 1"}


def test_whoever_the_generator_was_trained_on_does_not_judge_what_was_trained_on_its_candidates(folder: Path) -> None:
    second = play(folder, "run 2", clips__held_out=0.7, rounds__on_policy=True, alignment__beta=500.0)
    assert len(second.evaluated("aligned")) == len(second.evaluated("champion")) < len(second.evaluated("base"))


def test_a_champion_that_saw_everybody_is_not_replaced(folder: Path) -> None:
    registry = Registry(folder / "store")
    entry = registry.state().adapters[champion(folder)]
    registry.append(lambda state: entry.model_copy(update={"trained_on": entry.held_out}))
    second = play(folder, "run 2", alignment__beta=500.0)
    assert (second.promotion.decision, second.evaluated("champion")) == ("refused", [])


def test_a_promotion_is_plain_json(folder: Path) -> None:
    promotion = play(folder, "run 2").promotion
    assert json.loads(json.dumps(asdict(promotion)))["decision"] == "unchanged"
