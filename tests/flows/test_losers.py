"""Shards and trainings of methods that learn from losing candidates."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from flows.engine.stage import RunStopped
from flows.engine.walk import Scope
from ipa_core.alignment.data import ShardSamples
from tests.fakes import fake_config
from tests.flows.conftest import Done, run_fake


def packed(done: Done) -> list[dict[str, object]]:
    with tarfile.open(done.store.objects.path(done.output("shards", "000000.tar"))) as tar:
        return [json.loads(tar.extractfile(one).read()) for one in tar if one.name.endswith(".json")]  # type: ignore[union-attr]


def shards(folder: Path, method: str, **changes: object) -> Done:
    return run_fake(fake_config(folder, alignment__method=method, **changes), Scope(last="shards"))


def test_shards_of_ipa_say_nothing_of_losers(folder: Path) -> None:
    assert all("kept" not in one and "reward" not in one for one in packed(run_fake(fake_config(folder))))


def test_shards_hold_the_kept_and_the_losing_candidates_of_a_clip(folder: Path) -> None:
    samples = packed(shards(folder, "kto"))
    by_clip = {one["clip_id"]: [other for other in samples if other["clip_id"] == one["clip_id"]] for one in samples}
    for found in by_clip.values():
        assert sorted(one["reward"] for one in found) == [0.0, 1.0]
        assert [one["score"] for one in found if one["kept"]] == [max(one["score"] for one in found)]


def test_the_labels_of_a_control_are_reversed(folder: Path) -> None:
    samples = packed(shards(folder, "dpo", selection__pick="worst", selection__threshold=0.0))
    kept = {one["clip_id"]: one["score"] for one in samples if one["kept"]}
    assert all(one["score"] >= kept[one["clip_id"]] for one in samples if not one["kept"])
    assert {one["reward"] for one in samples if one["kept"]} == {1.0}


def test_no_pair_by_the_margin_stops_the_run(folder: Path) -> None:
    with pytest.raises(RunStopped, match=r"no clip has a pair for alignment\.method: dpo"):
        shards(folder, "dpo", alignment__pair_margin=0.99)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_errors_of_all_draws_are_computed_ahead(method: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_: object) -> None:
        raise AssertionError("computed in the step")

    monkeypatch.setattr("ipa_core.alignment.learn.reference_error", computed)
    done = run_fake(fake_config(folder, alignment__method=method), Scope(last="finetune"))
    paths = [done.store.objects.path(done.output("shards", "000000.tar"))]
    assert len(ShardSamples(paths).labels) == len(packed(done))
