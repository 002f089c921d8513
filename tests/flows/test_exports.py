"""The files of a run's folder that another run has too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.engine.run_folder import RunSummary, runs
from flows.outcomes import exports
from flows.training.job import LORA
from storage import Store
from storage.digest import digest_file
from tests.fakes import fake_config
from tests.flows.conftest import whole_run


@pytest.fixture
def two_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folders of a run and of the next, which found nothing new. The weights count as large."""
    monkeypatch.setattr(exports, "LARGE", size_of_weights(folder))
    return lora(whole_run(fake_config(folder))), lora(whole_run(fake_config(folder)))


def size_of_weights(folder: Path) -> int:
    store = Store(folder / "store")
    return min(result.outputs[LORA].size for result in store.actions.all("finetune"))


def lora(summary: RunSummary) -> Path:
    return Path(summary.outputs["lora"])


def test_equal_weights_take_their_space_once(two_runs: tuple[Path, Path]) -> None:
    first, second = two_runs
    assert first.parent != second.parent
    assert (first / LORA).samefile(second / LORA)


def test_no_file_of_a_lora_is_an_object(two_runs: tuple[Path, Path]) -> None:
    store = Store(two_runs[0].parents[2])
    for path in two_runs[1].iterdir():
        assert not path.samefile(store.objects.path(digest_file(path)))


def test_small_files_may_be_edited(two_runs: tuple[Path, Path]) -> None:
    first, second = two_runs
    before = (second / "README.md").read_bytes()
    with (first / "README.md").open("a") as card:
        card.write("mine")
    assert (second / "README.md").read_bytes() == before


def test_the_older_run_may_go(two_runs: tuple[Path, Path]) -> None:
    first, second = two_runs
    digest = digest_file(first / LORA)
    shutil.rmtree(first.parent)
    assert digest_file(second / LORA) == digest


def test_weights_that_somebody_changed_are_not_taken(folder: Path, two_runs: tuple[Path, Path]) -> None:
    digest = digest_file(two_runs[0] / LORA)
    with (two_runs[0] / LORA).open("r+b") as weights:
        weights.write(b"mine")
    third = lora(whole_run(fake_config(folder)))
    assert digest_file(third / LORA) == digest


def test_a_report_takes_its_space_once(folder: Path) -> None:
    first, second = (Path(whole_run(fake_config(folder)).outputs["report"]) for _ in range(2))
    assert second.samefile(first)
    assert len(list(runs(Store(folder / "store")))) == 3
