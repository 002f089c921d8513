"""Manifests: Parquet tables of what a stage made. Indexes for people and tools; rebuilt from the action cache."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.actions import ActionResult
from storage.digest import canonical_json
from storage.folders import StoreError, read_whole, write_whole


def manifest_rows(results: Iterable[ActionResult]) -> list[dict[str, Any]]:
    """One flat row per result, by key: nested fields as ``record.crop.x``, lists as JSON text."""
    rows = []
    for result in sorted(results, key=lambda result: result.key):
        action = result.action
        row = {"key": result.key, "stage": action.stage, "version": action.version}
        row |= {"outcome": result.outcome, "reason": result.reason}
        row |= {f"input.{name}": digest for name, digest in sorted(action.inputs.items())}
        row |= {f"output.{name}": blob.digest for name, blob in sorted(result.outputs.items())}
        row |= dict(_flat("record", result.record))
        rows.append(row)
    return rows


def write_manifest(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as Parquet, whole and durably; the same rows give the same bytes.

    A column exists where any row has it; the others are null there. Raises ``ValueError`` for a column whose values
    have no common type, and :class:`StoreError` where the file can't be written.
    """
    write_whole(path, table_bytes(rows))


def table_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """What :func:`write_manifest` writes."""
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


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """The rows of :func:`write_manifest`. Raises :class:`StoreError`, and ``ValueError`` where it is no Parquet."""
    data = read_whole(path)
    if data is None:
        raise StoreError(f"there is no table {path}")
    return table_rows(data)


def table_rows(data: bytes) -> list[dict[str, Any]]:
    """The rows of :func:`table_bytes`. Raises ``ValueError`` where it is no Parquet."""
    return pq.read_table(io.BytesIO(data)).to_pylist()


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}", item)
    else:
        yield name, canonical_json(value).decode() if isinstance(value, list) else value
