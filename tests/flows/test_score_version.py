"""A store keeps the version of its scores until somebody asks for another."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from flows.engine.components import hand_scorer
from flows.engine.inputs import RunInputs
from flows.engine.plan import why
from flows.engine.stage import Item, Stage
from flows.engine.view import View
from flows.engine.walk import Scope
from flows.engine.worker import Worker
from flows.stages.candidates import Candidates
from flows.stages.evaluation import Evaluation
from flows.stages.judge import preview_judge
from flows.stages.scores import Scores
from ipa_core.config import ConfigError, PosesConfig, ScoresConfig
from ipa_core.records import Rejected
from ipa_core.scoring.quality import PACKAGED
from ipa_core.video import encode_video
from storage import Action, ActionResult, Store
from tests.fake_model import FakeModel
from tests.fakes import FAKES, FRAMES, SIZE, fake_config, fake_extractor
from tests.flows.conftest import run_fake

TO_SCORES = Scope(last="scores")


def scored(store: Store, number: int, **settings: object) -> None:
    """Commit a score with these settings."""
    action = Action("scores", 2, settings, {"candidate": f"{number:064x}"})
    store.actions.commit(ActionResult(action, "rejected", "invented", {}))


def version(folder: Path, store: Store, **changes: object) -> int:
    return RunInputs(store, fake_config(folder, **changes), FAKES).score_version


def test_a_store_without_scores_takes_the_newest_version(tmp_path: Path) -> None:
    assert version(tmp_path, Store(tmp_path / "store")) == 3


def older(folder: Path, **marked: int) -> Store:
    """Make a store as an older program made it."""
    folder.mkdir()
    (folder / "ipa-store.json").write_text(json.dumps({"format": 1, **marked}))
    return Store(folder)


def test_an_older_store_stays_with_the_version_that_it_has(tmp_path: Path) -> None:
    store = older(tmp_path / "store")
    scored(store, 1, version=2)
    assert version(tmp_path, store) == 2
    scored(store, 2)
    assert version(tmp_path, store) == 1
    assert version(tmp_path, store, scores__version=2) == 2


def test_an_older_store_without_scores_takes_the_version_of_its_time(tmp_path: Path) -> None:
    assert version(tmp_path, older(tmp_path / "store")) == 2


def test_a_store_of_generation_2_stays_with_version_2(tmp_path: Path) -> None:
    store = older(tmp_path / "store", generation=2)
    scored(store, 1)  # Somebody asked for it.
    assert version(tmp_path, store) == 2


def test_a_store_that_lost_its_generation_stays_with_the_version_that_it_has(tmp_path: Path) -> None:
    store = older(tmp_path / "store")
    scored(store, 1, version=3)
    assert version(tmp_path, store) == 3


def test_a_new_store_takes_the_newest_version_also_after_somebody_asked_for_version_1(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    scored(store, 1)
    assert version(tmp_path, store) == 3


def test_version_3_scores_the_candidates_of_an_older_store_anew_and_version_1_stays(folder: Path) -> None:
    (folder / "store" / "ipa-store.json").write_text('{"format":1}')
    (folder / "store" / "ipa-store-copy.json").unlink()
    first = run_fake(fake_config(folder, scores__version=1), TO_SCORES)
    assert set(first.computed()) == {"scores"}
    assert run_fake(fake_config(folder), TO_SCORES).computed() == {}
    again = run_fake(fake_config(folder, scores__version=3), TO_SCORES)
    assert again.computed() == {}  # The folder's run had them.


def test_a_run_says_that_scores_are_of_version_1_unless_somebody_asked_for_them(tmp_path: Path) -> None:
    store = older(tmp_path / "store")
    scored(store, 1)

    def notes(**changes: object) -> list[str]:
        config = fake_config(tmp_path, **changes)
        return list(Scores().notes(View(config, RunInputs(store, config, FAKES))))

    assert notes() == [
        "this store's hand scores are of version 1; `scores.version: 3` scores its candidates anew on the CPU, and "
        "keeps the candidates"
    ]
    assert notes(scores__version=1) == notes(scores__version=3) == []


def test_the_version_is_in_the_key_and_version_1_is_as_it_was(folder: Path) -> None:
    def action(number: int) -> Action:
        config = fake_config(folder, scores__version=number)
        done = run_fake(config, Scope(last="candidates"))
        return next(Scores().items(done.view)).action

    first, second = action(1), action(2)
    assert "version" not in first.config
    assert second.config == {**first.config, "version": 2}
    assert first.inputs["judge"] != second.inputs["judge"]


def test_coefficients_of_the_other_version_are_refused() -> None:
    config = ScoresConfig(version=2, model=str(PACKAGED[1]), fingers=False)
    with pytest.raises(ConfigError, match="coefficients of version 1 of the score, and version 2 is wanted"):
        hand_scorer(config, fake_extractor(PosesConfig()))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_black_candidate_is_rejected_since_version_2_and_scored_by_version_1(tmp_path: Path, number: int) -> None:
    store = Store(tmp_path / "store")
    black = store.objects.put(encode_video(np.zeros((4, 32, 32, 3), np.uint8), 8))
    settings = {} if number == 1 else {"version": number}
    item = Item("a", Action("scores", 2, settings, {"candidate": black, "driving": black, "pose": black}))
    asked: list[int] = []

    def scorer(version: int) -> object:
        asked.append(version)
        raise KeyError

    worker = cast(Any, SimpleNamespace(store=store, scorer=scorer))
    with pytest.raises(Rejected if number > 1 else KeyError, match="degenerate" if number > 1 else None):
        Scores().compute(item, worker)
    assert asked == ([] if number > 1 else [1])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_black_video_is_evaluated_by_version_1_alone(
    folder: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fake_config(folder, scores__version=number)
    done = run_fake(config, Scope(last="poses"))
    [item, *_] = [one for one in Evaluation().items(done.view) if isinstance(one, Item)]
    black = np.zeros((1, FRAMES, SIZE, SIZE, 3), np.uint8)
    monkeypatch.setattr(FakeModel, "decode", lambda model, latents: black)
    made = Evaluation().compute(item, Worker(done.store, config, FAKES)).record_json()
    [row] = made["results"]
    why = f"degenerate: {FRAMES} of {FRAMES} pictures have one colour (red 0, green 0, blue 0)" if number > 1 else None
    assert (row["score"]["unscorable"], row["score"]["score"] is None) == (why, number > 1)
    assert row["metrics"]["psnr"] > 0


def test_a_black_preview_has_no_score(folder: Path) -> None:
    early = {"at": [0.6], "keep": 0.5}
    config = fake_config(folder, scores__version=2, candidates__early=early)
    done = run_fake(config, Scope(last="poses"))
    [item, *_] = [one for one in Candidates().items(done.view) if isinstance(one, Item)]
    judge = preview_judge(item, Worker(done.store, config, FAKES))
    black = np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8)
    assert judge(black) is None
    assert judge(np.random.default_rng(0).integers(0, 256, black.shape, np.uint8)) is not None


@pytest.mark.parametrize(("number", "told"), [(2, [0.6, 0.6]), (3, [0.66076, 0.73106])])
def test_previews_at_the_ceiling_differ_since_version_3(folder: Path, number: int, told: list[float]) -> None:
    early = {"at": [0.6], "keep": 0.5}
    config = fake_config(folder, scores__version=number, candidates__early=early)
    done = run_fake(config, Scope(last="poses"))
    [item, *_] = [one for one in Candidates().items(done.view) if isinstance(one, Item)]
    orders = iter([2.0, 3.0])

    def score(*_: object) -> object:
        return SimpleNamespace(score=SimpleNamespace(score=0.6, order=next(orders)))

    worker = SimpleNamespace(store=done.store, scorer=lambda version: SimpleNamespace(score=score))
    judge = preview_judge(item, cast(Any, worker))
    video = np.random.default_rng(0).integers(0, 256, (FRAMES, SIZE, SIZE, 3), np.uint8)
    assert [judge(video), judge(video)] == told


@pytest.mark.parametrize(
    ("stage", "now"),
    [
        (Scores(), {"version": 2}),
        (Evaluation(), {"scores": {"version": 2}}),
        (Candidates(), {"early": {"scores": {"version": 2}}}),
    ],
    ids=["scores", "evaluation", "candidates"],
)
def test_a_plan_names_version_1_where_old_keys_leave_it_out(
    tmp_path: Path, stage: Stage[Any], now: dict[str, Any]
) -> None:
    was = json.loads(json.dumps(now).replace('"version": 2', ""))
    before, action = (Action(stage.name, stage.version, settings, {}) for settings in (was, now))
    told = why(stage, action, ActionResult(before, "done", None, {}), fake_config(tmp_path))
    assert told == "scores.version: 1 -> 2"
