"""Held-out people never train, over any rounds: whatever the metadata and the share say from one to the next."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.engine.inputs import RunInputs
from flows.engine.stage import Item, ItemResult
from flows.engine.view import View
from flows.engine.walk import Scope
from flows.stages.candidates import Candidates
from flows.stages.clips import named_clips
from flows.stages.people import people_of
from ipa_core.clips.split import split_of
from ipa_core.config import RunConfig
from storage import Action, ActionResult, Blob, Store
from storage.digest import digest_bytes
from storage.registry import State
from tests.fakes import FAKES, fake_config, write_videos
from tests.flows.conftest import run_fake
from tests.storage.test_registry import registered


class Inputs(RunInputs):
    """The base model generates; the registry is as given."""

    def __init__(self, store: Store, config: RunConfig, state: State) -> None:
        super().__init__(store, config, FAKES)
        self._state = state

    @property
    def registry(self) -> State:  # type: ignore[override]
        return self._state

    @property
    def model_weights(self) -> str:  # type: ignore[override]
        return digest_bytes(b"model")


SOURCES = [digest_bytes(f"video {number}".encode()) for number in range(6)]
GROUPS = st.lists(st.sampled_from(["anna", "ben", "carl", ""]), min_size=len(SOURCES), max_size=len(SOURCES))
SPLITS = st.fixed_dictionaries(dict.fromkeys(["anna", "ben", "carl", ""], st.sampled_from(["train", "held_out", ""])))
"""What the table says of each group's side."""
ROUNDS = st.lists(st.tuples(st.sampled_from([0.0, 0.3, 0.6, 1.0]), GROUPS, SPLITS), min_size=2, max_size=4)


def cut(store: Store, config: RunConfig, state: State) -> View:
    """Clips and poses of the sources, one each."""
    view = View(config, Inputs(store, config, state))
    view.add("clips", [_item("clips", {"video": source}, number) for number, source in enumerate(SOURCES)])
    videos = [entry.result.outputs["000.mp4"].digest for entry in view.results["clips"] if entry.result]
    view.add("poses", [_item("poses", {"video": video}, number) for number, video in enumerate(videos)])
    return view


def _item(stage: str, inputs: dict[str, str], number: int) -> ItemResult:
    action = Action(stage, 1, {}, inputs)
    box = {"x": 0, "y": 0, "width": 1, "height": 1}
    record = {"clips": [{"index": 0, "start": 0.0, "crop": box, "reference_index": 0}], "dropped": []}
    outputs = {
        name: Blob(digest_bytes(f"{stage} {name} {number}".encode()), 1) for name in ("000.mp4", "000.png", "pose")
    }
    result = ActionResult(action, "done", None, record, outputs)
    return ItemResult(Item(f"{number}.mp4", action, source=f"/videos/{number}.mp4"), "cached", result)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@settings(deadline=None, max_examples=40)
@given(rounds=ROUNDS)
def test_whatever_is_renamed_or_moved_held_out_people_never_train(
    place: Path, rounds: list[tuple[float, list[str], dict[str, str]]]
) -> None:
    store, state = Store(place / "store"), State()
    never: set[str] = set()
    for number, (share, groups, sides) in enumerate(rounds):
        table = place / "metadata.csv"
        rows = [f"{n}.mp4,{group},{sides[group]}\n" for n, group in enumerate(groups)]
        table.write_text("file,group,split\n" + "".join(rows))
        config = fake_config(place, clips__held_out=share, clips__metadata=str(table))
        view = cut(store, config, state)
        clips = [named.clip for named in named_clips(view)]
        assert all(sides[group] in (clip.split, "") for group, clip in zip(groups, clips, strict=True))
        items = [one for one in Candidates().items(view) if isinstance(one, Item)]
        videos = {item.action.inputs["clip"] for item in items}
        trained_on = people_of(clip for clip in clips if clip.video in videos)
        held_out = people_of(clip for clip in clips if clip.split == "held_out")
        assert never.isdisjoint(trained_on)
        assert all(clip.video in videos for clip in clips if clip.split == "train") or never
        never |= set(held_out)
        entry = registered(f"{number}", run=f"run {number}", trained_on=trained_on, held_out=held_out)
        state = State((*state.events, entry))


def test_the_takes_of_one_folder_are_one_group(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos" / "ann", 3)
    done = run_fake(fake_config(tmp_path, clips__group_by="folder"), Scope(last="clips"))
    clips = [named.clip for named in named_clips(done.view)]
    assert {(clip.group, clip.split) for clip in clips} == {("ann", split_of("ann", 0.4))}
    again = run_fake(fake_config(tmp_path), Scope(last="clips"))
    assert again.computed() == {}
