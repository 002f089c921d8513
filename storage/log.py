"""Numbered files that are written once: the events of the registry, and what people said.

Each file holds one record under the name of its kind, and the digest of that record. The digest shows damage. A file is
created only where its number is free, so that two writers at once lose nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ipa_core.records import Record
from storage.digest import digest_bytes, is_digest, json_bytes
from storage.errors import NEWER, StoreError
from storage.folders import open_folder

Entry = TypeVar("Entry", bound=BaseModel)


class NumberedLog(Generic[Entry]):
    """The files ``<address>/<place>/<series>000001.json``, ``<series>000002.json``, ...

    A series is the beginning of a file's name. The registry has one series, which is empty. Reviews have one series per
    candidate. ``kind`` names the record inside the file. ``remedy`` tells people how to repair a damaged file.
    """

    def __init__(self, address: str | Path, place: str, kind: str, entry: TypeAdapter[Entry], remedy: str) -> None:
        self._folder = open_folder(address)
        self._place = place
        self._kind = kind
        self._entry = entry
        self._remedy = remedy

    def names(self, below: str = "") -> list[str]:
        """Names of the files, relative to the place, sorted; ``below`` is a folder in the place."""
        prefix = f"{self._place}/{below}".rstrip("/")
        return sorted(name.removeprefix(f"{self._place}/") for name in self._folder.names(prefix))

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Entry]]:
        """The entries of those files that exist. Raises :class:`StoreError` for a damaged file, and for an entry that
        this version can't read."""
        for name, data in self._folder.read_many(self._place, names):
            try:
                record = _unseal(self._kind, data)
            except ValueError:
                raise StoreError(f"{self._place}/{name} is damaged; {self._remedy}") from None
            try:
                entry = self._entry.validate_python(record)
            except ValidationError:
                raise StoreError(
                    f"this version can't read {self._folder.address(self._place)}/{name}; {NEWER}"
                ) from None
            yield name, entry

    def read_whole(self) -> tuple[Entry, ...]:
        """All entries of a log with one series, in order. Raises :class:`StoreError` for a missing or damaged file."""
        names = self.names()
        found = dict(self.read(names))
        expected = [numbered(number) for number in range(1, len(names) + 1)]
        absent = next((name for name in expected if name not in found), None)
        if absent is not None:
            raise StoreError(f"{self._place}/{absent} is missing from the store; {self._remedy}")
        return tuple(found[name] for name in expected)

    def create(self, number: int, entry: Entry) -> bool:
        """Write the file of this number durably in a log with one series; False where the number is taken."""
        return self._write(numbered(number), entry)

    def append(self, series: str, number: int, entry: Entry) -> str:
        """Write an entry durably at the first free number from ``number`` on, and return the name of its file."""
        while not self._write(name := numbered(number, series), entry):
            number += 1
        return name

    def _write(self, name: str, entry: Entry) -> bool:
        return self._folder.write(f"{self._place}/{name}", _seal(self._kind, entry), replace=False)


class Opinion(Record):
    """What a person said, and when."""

    by: str
    at: str
    """UTC, ISO 8601 with microseconds. The text sorts by time."""


Said = TypeVar("Said", bound=Opinion)
_OF_A_SUBJECT: Final = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})-(\d{6})\.json")


class Histories(Generic[Said]):
    """What people said about things that digests name: files `<place>/ab/<digest>-000001.json`, ... of a log.

    Each file is written once and never changed, so two people may speak at once. Entries count in the order of their
    times: an earlier one that is imported later does not take the place of a later one. Each file is read once.
    """

    def __init__(self, log: NumberedLog[Said], subject: Callable[[Said], str]) -> None:
        self._log = log
        self._subject = subject
        self._read: dict[str, Said] = {}

    def histories(self) -> dict[str, list[Said]]:
        """All entries about each subject that has any, in the order of their times. Raises :class:`StoreError` for a
        damaged file."""
        names = set(self._log.names())
        self._load(sorted(name for name in names - self._read.keys() if _OF_A_SUBJECT.fullmatch(name)))
        found: dict[str, list[Said]] = {}
        for _, entry in sorted(self._read.items(), key=lambda item: (item[1].at, item[0])):
            found.setdefault(self._subject(entry), []).append(entry)
        return found

    def history(self, subject: str) -> list[Said]:
        """All entries about a subject in the order of their times. Raises :class:`StoreError`."""
        names = (name for name in self._log.names(subject[:2]) if _OF_A_SUBJECT.fullmatch(name))
        wanted = [name for name in names if name.startswith(_series(subject))]
        self._load(name for name in wanted if name not in self._read)
        return sorted((self._read[name] for name in wanted if name in self._read), key=lambda entry: entry.at)

    def add(self, entry: Said) -> None:
        """Keep an entry durably. Raises ``ValueError`` where its subject is no digest, and :class:`StoreError`."""
        subject = self._subject(entry)
        if not is_digest(subject):
            raise ValueError(f"a subject is told by 64 lower-case hex digits, got {subject!r}")
        number = len(self.history(subject)) + 1
        self._read[self._log.append(_series(subject), number, entry)] = entry

    def _load(self, names: Iterable[str]) -> None:
        self._read |= dict(self._log.read(names))


def _series(subject: str) -> str:
    return f"{subject[:2]}/{subject}-"


def numbered(number: int, series: str = "") -> str:
    """The name of a file."""
    return f"{series}{number:06d}.json"


def _seal(kind: str, entry: BaseModel) -> bytes:
    record = entry.model_dump(mode="json")
    return json_bytes({kind: record, "blake3": digest_bytes(json_bytes(record))})


def is_sealed_entry(kind: str, data: bytes) -> bool:
    """Whether the bytes of a file are as they were written for an entry of this kind."""
    try:
        _unseal(kind, data)
    except ValueError:
        return False
    return True


def _unseal(kind: str, data: bytes) -> Any:
    """The record as JSON. Raises ``ValueError`` for a damaged file."""
    try:
        sealed = json.loads(data)
        if digest_bytes(json_bytes(sealed[kind])) == sealed["blake3"]:
            return sealed[kind]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no sealed {kind}") from error
    raise ValueError(f"the digest of the {kind} is another")
