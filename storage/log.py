"""Write-once files that are numbered: the registry of adapters, and the decisions by hand.

Each file holds one record under the name of its kind, and the digest of that record, so that damage is told from a
decision. A file is created only where none of its number is: of two writers at once, both are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from storage.digest import digest_bytes, json_bytes
from storage.errors import StoreError
from storage.folders import open_folder

Entry = TypeVar("Entry")


class NumberedLog(Generic[Entry]):
    """The files below ``<address>/<place>``; ``remedy`` says what to do about a damaged one."""

    def __init__(self, address: str | Path, place: str, kind: str, entry: TypeAdapter[Entry], remedy: str) -> None:
        self._folder = open_folder(address)
        self._place = place
        self._kind = kind
        self._entry = entry
        self._remedy = remedy

    def names(self, below: str = "") -> list[str]:
        """Of the files, relative to the place, sorted; ``below`` is a folder in it."""
        prefix = f"{self._place}/{below}".rstrip("/")
        return sorted(name.removeprefix(f"{self._place}/") for name in self._folder.names(prefix))

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Entry]]:
        """The entries of those files that are there. Raises :class:`StoreError` where one is damaged."""
        for name, data in self._folder.read_many(self._place, names):
            try:
                yield name, self._entry.validate_python(_unseal(self._kind, data))
            except ValueError:  # pydantic's too
                raise StoreError(f"{self._place}/{name} is damaged; {self._remedy}") from None

    def write(self, name: str, entry: BaseModel) -> bool:
        """Create a file, durably; False where there is one of this name."""
        record = entry.model_dump(mode="json")
        data = json_bytes({self._kind: record, "blake3": digest_bytes(json_bytes(record))})
        return self._folder.write(f"{self._place}/{name}", data, replace=False)


def _unseal(kind: str, data: bytes) -> Any:
    """Raises ``ValueError`` where the file is damaged."""
    try:
        sealed = json.loads(data)
        if digest_bytes(json_bytes(sealed[kind])) == sealed["blake3"]:
            return sealed[kind]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no sealed {kind}") from error
    raise ValueError(f"the digest of the {kind} is another")
