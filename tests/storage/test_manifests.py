import pytest

from storage.manifests import table_bytes, table_rows


def test_rows_are_read_back_as_they_were():
    rows = [
        {"key": "a", "score": 0.25, "reason": None, "seeds": [1, 2], "kept": True},
        {"key": "b", "score": None, "reason": "no person", "seeds": [], "kept": False},
    ]
    assert table_rows(table_bytes(rows)) == rows


@pytest.mark.parametrize("rows", [[], [{}]])
def test_a_table_may_be_empty(rows):
    assert table_rows(table_bytes(rows)) == []


def test_a_column_exists_where_any_row_has_it():
    assert table_rows(table_bytes([{"a": 1}, {"b": 2.5}])) == [{"a": 1, "b": None}, {"a": None, "b": 2.5}]


def test_the_same_rows_give_the_same_bytes():
    rows = [{"key": str(number), "score": number / 7} for number in range(100)]
    assert table_bytes(rows) == table_bytes(rows)


def test_a_column_without_a_common_type_is_named():
    with pytest.raises(ValueError, match="column score can't be written"):
        table_bytes([{"score": 1.0}, {"score": "high"}])


def test_what_is_no_table_is_refused():
    with pytest.raises(ValueError):
        table_rows(b"text")


def test_only_the_rows_that_are_asked_for_are_read() -> None:
    rows = [{"stage": stage, "number": number} for number, stage in enumerate(("clips", "poses", "scores"))]
    assert table_rows(table_bytes(rows), stage=("poses", "scores")) == rows[1:]
    assert table_rows(table_bytes([]), stage=("poses",)) == []
