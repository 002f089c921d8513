import pytest

from storage import Action, ActionResult, Blob, StoreError
from storage.digest import digest_bytes
from storage.manifests import manifest_rows, read_manifest, write_manifest

VIDEO = digest_bytes(b"video")


def result(number: int) -> ActionResult:
    record = {"crop": {"x": 1.5, "y": number}, "seeds": [1, 2], "prompt": "a dancer"}
    action = Action("clips", 1, {"number": number}, {"video": VIDEO})
    return ActionResult(action, "done", None, record, {"mp4": Blob(VIDEO, 5)})


def test_rows_are_read_back_as_they_were(tmp_path):
    rows = [
        {"key": "a", "score": 0.25, "reason": None, "seeds": [1, 2], "kept": True},
        {"key": "b", "score": None, "reason": "no person", "seeds": [], "kept": False},
    ]
    write_manifest(rows, tmp_path / "table.parquet")
    assert read_manifest(tmp_path / "table.parquet") == rows


@pytest.mark.parametrize("rows", [[], [{}]])
def test_a_table_may_be_empty(tmp_path, rows):
    write_manifest(rows, tmp_path / "table.parquet")
    assert read_manifest(tmp_path / "table.parquet") == []


def test_a_column_exists_where_any_row_has_it(tmp_path):
    write_manifest([{"a": 1}, {"b": 2.5}], tmp_path / "table.parquet")
    assert read_manifest(tmp_path / "table.parquet") == [{"a": 1, "b": None}, {"a": None, "b": 2.5}]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [{"key": str(number), "score": number / 7} for number in range(100)]
    write_manifest(rows, tmp_path / "one")
    write_manifest(rows, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_column_without_a_common_type_is_named(tmp_path):
    with pytest.raises(ValueError, match="column score can't be written"):
        write_manifest([{"score": 1.0}, {"score": "high"}], tmp_path / "table.parquet")


def test_rows_come_from_results_in_any_order():
    results = [result(number) for number in range(5)]
    rows = manifest_rows(results)
    assert rows == manifest_rows(reversed(results))
    assert [row["key"] for row in rows] == sorted(result.key for result in results)


def test_a_row_is_flat():
    assert manifest_rows([result(3)]) == [
        {
            "key": result(3).key,
            "stage": "clips",
            "version": 1,
            "outcome": "done",
            "reason": None,
            "input.video": VIDEO,
            "output.mp4": VIDEO,
            "record.crop.x": 1.5,
            "record.crop.y": 3,
            "record.prompt": "a dancer",
            "record.seeds": "[1,2]",
        }
    ]


def test_a_table_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(StoreError, match=r"there is no table .*absent\.parquet"):
        read_manifest(tmp_path / "absent.parquet")


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "table.parquet").write_bytes(b"text")
    with pytest.raises(ValueError):
        read_manifest(tmp_path / "table.parquet")
