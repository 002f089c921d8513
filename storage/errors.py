"""Errors of the store. Each message is one sentence for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NEWER: Final = "install the version of ipa-pipeline that wrote it, or a newer one"
"""The end of a sentence about something that this version can't read, although it is intact."""


class StoreError(Exception):
    """The store can't do what was asked of it."""


class MissingObject(StoreError):  # noqa: N818 - the name says the state of the object
    """The store has no object of this digest."""

    # The digest is the only argument: so the exception can be pickled on its way out of a worker process.
    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"object {self.digest} is not in the store"


class CorruptObject(StoreError):  # noqa: N818
    """The bytes did not match the digest. They are in ``quarantine/`` now; the object can be put again."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest

    def __str__(self) -> str:
        return f"object {self.digest} was damaged and has been moved to the store's quarantine"


@contextmanager
def one_sentence(doing: str) -> Iterator[None]:
    """Turn an ``OSError`` (no space, no permission, no network) into a :class:`StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"can't {doing}: {error.strerror or error}") from error
