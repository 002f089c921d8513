"""Many trainings through one store."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml

from flows.engine.run_folder import runs
from flows.experiments.sweep import Swept, load_sweep, run_sweep, sweep_page
from flows.stages.evaluation import _generate as generate
from ipa_core.config import ConfigError
from storage import Store
from tests.fakes import FAKES, fake_config

ARMS = [
    {"name": "IPA"},
    {"name": "SFT", "set": ["alignment.method=sft"]},
    {"name": "impossible", "set": ["selection.threshold=1.0"], "seeds": 1},
]


def write_sweep(folder: Path, **changes: object) -> Path:
    (folder / "run.yaml").write_text(yaml.safe_dump(fake_config(folder).model_dump(mode="json")))
    tree = {"name": "small", "run": "run.yaml", "seeds": [0, 1], "arms": ARMS, "contrasts": [["IPA", "SFT"]]}
    tree |= {"equal_drift": {"arms": ["IPA"], "series": ["IPA", "SFT"]}}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree | changes))
    return path


@pytest.fixture(scope="module")
def place(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, for all tests here."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("sweep") / "run"))


@pytest.fixture(scope="module")
def swept(place: Path) -> Swept:
    return run_sweep(load_sweep(write_sweep(place)), FAKES)


def test_each_arm_is_trained_with_each_seed(swept: Swept) -> None:
    assert [(row.name, row.seeds) for row in swept.table.rows] == [("IPA", 2), ("SFT", 2), ("impossible", 0)]
    assert len({run.lora for arm in swept.arms for run in arm.runs}) == 4


def test_what_arms_share_is_computed_once(swept: Swept, place: Path) -> None:
    """Of the finished run, seed 0 of IPA is all there. Seed 1 has other draws; SFT has no reference."""
    store = Store(place / "store")
    evaluated = len([one for one in store.actions.all("evaluation") if "clip" in one.action.inputs])
    clips = swept.table.clips
    assert evaluated == clips * (1 + 4)
    assert len(list(store.actions.all("finetune"))) == 4


def test_an_arm_that_fails_is_in_the_table_with_its_sentence(swept: Swept) -> None:
    trouble = swept.table.rows[2].trouble
    assert trouble is not None and re.match(r"seed 0: none of \d+ candidates was kept", trouble)


def test_again_nothing_is_computed(swept: Swept, place: Path) -> None:
    again = run_sweep(load_sweep(write_sweep(place)), FAKES)
    assert (again.computed, again.table) == (0, swept.table)


def test_the_page_says_what_it_was_made_with(swept: Swept, place: Path) -> None:
    text = sweep_page(load_sweep(write_sweep(place)), swept, "ipa sweep sweep.yaml").markdown()
    assert all(run.lora in text for arm in swept.arms for run in arm.runs)
    assert "Written by `ipa sweep sweep.yaml`." in text
    assert "| IPA − SFT |" in text
    assert "## At the same drift" in text


def test_another_arms_lora_generates_the_candidates_of_the_next_round(swept: Swept, place: Path) -> None:
    """Of the same seed; the clips of the base model's evaluation stay the same."""
    arms = [{"name": "IPA"}, {"name": "round 2", "generator": "IPA"}]
    store = Store(place / "store")
    found = run_sweep(load_sweep(write_sweep(place, arms=arms, contrasts=[], equal_drift={})), FAKES)
    firsts = {run.lora for run in found.arms[0].runs}
    assert firsts == {run.lora for run in swept.arms[0].runs}
    generators = {one.action.inputs.get("lora") for one in store.actions.all("candidates")}
    assert generators == {None, *firsts}
    assert found.table.rows[1].seeds == 2


def test_a_round_after_an_arm_that_failed_says_so(place: Path) -> None:
    arms = [ARMS[2], {"name": "round 2", "generator": "impossible"}, {"name": "IPA"}]
    path = write_sweep(place, arms=arms, seeds=[0], contrasts=[], equal_drift={})
    found = run_sweep(load_sweep(path), FAKES)
    assert found.table.rows[1].trouble == "seed 0: its generator, impossible, has no LoRA of this seed"


def test_arms_with_another_base_are_refused(place: Path) -> None:
    arms = [{"name": "a"}, {"name": "b", "set": ["candidates.seed=5"]}]
    path = write_sweep(place, arms=arms, seeds=[0], contrasts=[], equal_drift={})
    found = run_sweep(load_sweep(path), FAKES)
    assert "another base model" in str(found.table.rows[1].trouble)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"arms": [{"name": "a"}, {"name": "a"}], "contrasts": [], "equal_drift": {}}, "two arms are called 'a'"),
        ({"contrasts": [["IPA", "DPO"]]}, "there is no arm 'DPO'"),
        ({"arm": []}, "arm: unknown; did you mean arms?"),
        ({"arms": [], "contrasts": [], "equal_drift": {}}, "arms: .* at least 1 item"),
        ({"seeds": [3, 3]}, "holds one twice"),
        ({"arms": [{"name": "IPA"}, {"name": "SFT", "generator": "SFT"}]}, "generator of 'SFT': there is no arm"),
        (
            {"seeds": [0, 1], "arms": [{"name": "IPA", "seeds": 1}, {"name": "SFT", "generator": "IPA"}]},
            "generator of 'SFT': 'IPA' is trained with fewer seeds",
        ),
        ({"equal_drift": {"arms": ["DPO"], "series": ["IPA"]}}, "equal_drift: there is no arm 'DPO'"),
        ({"equal_drift": {"arms": ["IPA"]}}, "equal_drift: name both"),
    ],
)
def test_a_sweep_that_can_not_be_used(place: Path, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_sweep(write_sweep(place, **changes))


def test_work_for_others_is_refused(place: Path) -> None:
    arms = [{"name": "a", "set": ["execution.hand_over=retrain/generate"]}]
    with pytest.raises(ConfigError, match=r"execution\.hand_over"):
        run_sweep(load_sweep(write_sweep(place, arms=arms, contrasts=[], equal_drift={})), FAKES)


def test_each_training_is_a_run(swept: Swept, place: Path) -> None:
    statuses = [summary["status"] for folder in runs(Store(place / "store")) if (summary := folder.summary())]
    assert statuses.count("completed") >= 3 and {"failed", "nothing_new"} <= set(statuses)


def test_failed_items_of_the_evaluation_end_an_arm_and_no_other(place: Path) -> None:
    """One failed video of the base model must not stand as what the next arm is compared with."""
    failing = itertools.count()

    def once(*arguments: object) -> object:
        if next(failing) == 0:
            raise RuntimeError("a hiccup")
        return generate(*arguments)

    overrides = ["execution.max_failed=0.9", f"execution.store={place / 'another store'}"]
    with patch("flows.stages.evaluation._generate", once):
        path = write_sweep(place, arms=[{"name": "a"}, {"name": "b"}], seeds=[0], contrasts=[], equal_drift={})
        found = run_sweep(load_sweep(path), FAKES, overrides)
    assert [row.seeds for row in found.table.rows] == [0, 1]
    assert str(found.table.rows[0].trouble).startswith("seed 0: 1 items of the evaluation failed")


def test_a_wrong_setting_is_said_before_anything_is_computed(place: Path) -> None:
    path = write_sweep(
        place, arms=[{"name": "a"}, {"name": "b", "set": ["alignment.betta=1"]}], contrasts=[], equal_drift={}
    )
    with pytest.raises(ConfigError, match=r"alignment\.betta"):
        run_sweep(load_sweep(path), FAKES, [f"execution.store={place / 'other store'}"])
    assert not (place / "other store" / "actions").exists()
