"""The files of a run's folder that another run has too."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from flows.engine.summary import RunSummary
from flows.outcomes import exports
from flows.training.job import LORA
from storage import Store
from storage.digest import digest_file
from tests.fakes import fake_config
from tests.flows.conftest import whole_run


@pytest.fixture(scope="module", autouse=True)
def weights_are_large(finished: Path) -> Iterator[None]:
    with patch.object(exports, "LARGE", size_of_weights(finished)):
        yield


@pytest.fixture(scope="module")
def two_runs(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The LoRA folders of a run and of the next, which found nothing new. Not to be changed."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("two runs") / "run"))
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
        if path.name != "README.md":
            assert not path.samefile(store.objects.path(digest_file(path)))


def test_the_card_ends_with_the_evaluation(two_runs: tuple[Path, Path]) -> None:
    card = (two_runs[1] / "README.md").read_text()
    assert "\n## Evaluation\n\nHands, aligned against base: " in card
    assert "\n| sharpness of hands kept | " in card


def test_small_files_may_be_edited(two_runs: tuple[Path, Path]) -> None:
    first, second = two_runs
    assert not (first / "README.md").samefile(second / "README.md")


def test_weights_that_somebody_changed_are_not_taken(folder: Path) -> None:
    first = lora(whole_run(fake_config(folder)))
    digest = digest_file(first / LORA)
    with (first / LORA).open("r+b") as weights:
        weights.write(b"mine")
    second = lora(whole_run(fake_config(folder)))
    assert digest_file(second / LORA) == digest


def test_a_report_takes_its_space_once(folder: Path) -> None:
    first, second = (Path(whole_run(fake_config(folder)).outputs["report"]) for _ in range(2))
    assert second.samefile(first)
