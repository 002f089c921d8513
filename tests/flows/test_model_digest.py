"""A model's digest: what computes counts, documents beside it don't, and keys of older stores stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.engine.inputs import RunInputs
from storage import Store, StoreError
from storage.digest import FileDigests
from tests.fakes import FAKES, fake_config


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The model folder of :func:`fake_config`, with a document beside the weights."""
    folder = Path(fake_config(tmp_path).candidates.model.path)
    (folder / "README.md").write_text("as it came")
    return folder


def digest(folder: Path, store: str = "store", keep: bool = True) -> str:
    return RunInputs(Store(folder / store), fake_config(folder), FAKES, keep=keep).model_weights


def test_it_is_that_of_the_whole_folder_at_first_as_in_older_stores(tmp_path: Path, model: Path) -> None:
    assert digest(tmp_path) == FileDigests(None).tree(model)


@pytest.mark.parametrize("name", ["README.md", "sample.PNG", "assets/dance.mp4", "LICENSE.txt"])
def test_a_document_that_changes_later_does_not_count(tmp_path: Path, model: Path, name: str) -> None:
    before = digest(tmp_path)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("new")
    assert digest(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["weights", "model_index.json", "tokenizer/merges.txt", "transformer/more.safetensors"]
)
def test_a_file_that_computes_counts(tmp_path: Path, model: Path, name: str) -> None:
    before = digest(tmp_path)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("new")
    assert digest(tmp_path) != before


def test_weights_that_come_back_have_the_digest_that_they_had(tmp_path: Path, model: Path) -> None:
    before, weights = digest(tmp_path), (model / "weights").read_bytes()
    (model / "weights").write_text("others")
    digest(tmp_path)
    (model / "weights").write_bytes(weights)
    (model / "README.md").write_text("another commit")
    assert digest(tmp_path) == before


def test_a_plan_writes_nothing_and_sees_the_same(tmp_path: Path, model: Path) -> None:
    planned = digest(tmp_path, keep=False)
    assert not (tmp_path / "store" / "models").exists()
    assert digest(tmp_path) == planned


def test_a_damaged_note_of_it_is_told(tmp_path: Path, model: Path) -> None:
    digest(tmp_path)
    [note] = (tmp_path / "store" / "models").iterdir()
    note.write_text("")
    with pytest.raises(StoreError, match="holds no digest: it is damaged; remove it"):
        digest(tmp_path)
