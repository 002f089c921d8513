"""Manifests: Parquet tables for people and tools."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def table_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as Parquet. The same rows give the same bytes.

    A column exists where any row has it. The other rows are null in this column. Raises ``ValueError`` for a column
    whose values have no common type.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError) as error:
            raise ValueError(f"column {name} can't be written as Parquet: {error}") from error
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def table_rows(data: bytes, **values: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that :func:`table_bytes` wrote, or those whose columns have one of ``values``. Raises ``ValueError`` for
    bytes that are no Parquet."""
    filters = [(column, "in", list(wanted)) for column, wanted in values.items()]
    try:
        if not values.keys() <= set(pq.read_schema(io.BytesIO(data)).names):  # A table without rows has no columns.
            return []
        return pq.read_table(io.BytesIO(data), filters=filters or None).to_pylist()
    except (pa.ArrowException, OSError) as error:  # Some damage is an OSError to Arrow.
        raise ValueError(f"no whole Parquet: {error}") from error
