"""A clip in which no driving hand can be scored costs no generation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.engine.components import Components, hand_scorer
from flows.engine.inputs import RunInputs
from flows.engine.stage import Drop, Item, ItemResult, Stage
from flows.engine.view import View
from flows.stages.candidates import Candidates
from flows.stages.evaluation import Evaluation
from ipa_core.config import ScoresConfig
from storage import Action, ActionResult, Blob, Store
from storage.digest import digest_bytes
from tests.fakes import FAKES, fake_config

REASON = "no hand can be scored: the largest has 9.0 pixels, scores.min_hand_size is 16"


def other_scorer(config: ScoresConfig, extractor: object) -> object:
    return hand_scorer(config, extractor)  # type: ignore[arg-type]


def view_of(folder: Path, sizes: list[float | None], components: Components = FAKES, **changes: object) -> View:
    """Clips with so large hands. None: an older version found the pose and did not measure it."""
    config = fake_config(folder, scores__min_hand_size=16, **changes)
    view = View(config, RunInputs(Store(folder / "store"), config, components))
    for number, size in enumerate(sizes):
        box = {"x": 0, "y": 0, "width": 1, "height": 1}
        window = {"index": 0, "start": 0.0, "crop": box, "reference_index": 0}
        cut = done("clips", number, {"clips": [window], "dropped": []})
        view.add("clips", [cut])
        record: dict[str, object] = {"frames": 5, "hands_found": 1.0}
        view.add("poses", [done("poses", number, record if size is None else record | {"largest_hand": size})])
    return view


def done(stage: str, number: int, record: dict[str, object]) -> ItemResult:
    outputs = {name: Blob(digest(name, number), 1) for name in ("000.mp4", "000.png", "pose")}
    action = Action(stage, 1, {}, {"video": digest("source" if stage == "clips" else "000.mp4", number)})
    result = ActionResult(action, "done", None, record, outputs)
    return ItemResult(Item(f"{number}.mp4", action, source=f"/videos/{number}.mp4"), "cached", result)


def digest(name: str, number: int) -> str:
    return digest_bytes(f"{name} {number}".encode())


def parted(view: View, stage: Stage[object]) -> tuple[list[str], list[Drop]]:
    found = list(stage.items(view))
    return [one.name for one in found if isinstance(one, Item)], [one for one in found if isinstance(one, Drop)]


@pytest.mark.parametrize(("stage", "held_out"), [(Candidates(), 0.0), (Evaluation(), 1.0)])
def test_it_is_dropped_with_the_scorers_reason(stage: Stage[object], held_out: float, tmp_path: Path) -> None:
    items, drops = parted(view_of(tmp_path, [20.0, 9.0, 16.0], clips__held_out=held_out), stage)
    assert [name[:5] for name in items] == ["0.mp4", "2.mp4"]
    assert drops == [Drop(stage.name, "1.mp4 #000", REASON)]


@pytest.mark.parametrize("stage", [Candidates(), Evaluation()])
def test_the_plan_and_the_report_say_how_many(stage: Stage[object], tmp_path: Path) -> None:
    held_out = 0.0 if stage.name == "candidates" else 1.0
    kind = "training" if stage.name == "candidates" else "held-out"
    assert list(stage.notes(view_of(tmp_path, [20.0, 9.0, 16.0], clips__held_out=held_out))) == [
        f"in 1 of 3 {kind} clips no driving hand can be scored, so nothing is generated for them: "
        "scores.min_hand_size is 16"
    ]


def test_where_all_are_dropped_the_run_says_why(tmp_path: Path) -> None:
    view = view_of(tmp_path, [9.0], clips__held_out=0.0)
    view.add("candidates", ())
    assert (Candidates().nothing_left(view) or "").endswith(
        "; in 1 of 1 training clips no driving hand can be scored, so nothing is generated for them: "
        "scores.min_hand_size is 16"
    )


def test_the_poses_of_an_older_version_are_kept(tmp_path: Path) -> None:
    items, drops = parted(view_of(tmp_path, [None], clips__held_out=0.0), Candidates())
    assert (len(items), drops) == (1, [])


def test_another_scorer_has_its_own_rule(tmp_path: Path) -> None:
    others = replace(FAKES, hand_scorer=other_scorer)  # type: ignore[arg-type]
    items, drops = parted(view_of(tmp_path, [9.0], others, clips__held_out=0.0), Candidates())
    assert (len(items), drops) == (1, [])


def test_most_clips_are_chosen_among_those_that_can_be_judged(tmp_path: Path) -> None:
    sizes = [20.0, 9.0, 9.0, 9.0, 20.0]
    items, _ = parted(view_of(tmp_path, list(sizes), clips__held_out=1.0, evaluation__max_clips=2), Evaluation())
    assert [name[:5] for name in items] == ["0.mp4", "4.mp4"]
