"""ActionCache keeps the result of each computation. :class:`Store` holds all durable parts of one address."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from storage.checkpoints import Checkpoints
from storage.copies import GIGABYTES
from storage.digest import FileDigests, digest_bytes, is_digest, json_bytes, plain_json
from storage.errors import NEWER, StoreError
from storage.folders import Folder, LocalFolder, cache_folder, open_folder
from storage.leases import Leases
from storage.objects import ObjectStore

log = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Action:
    """One item's computation, named by content: no paths, no times. Raises ``ValueError`` where it can have no key."""

    stage: str
    version: int
    """The version of the stage's code."""
    config: Mapping[str, Any]
    """The fields that this stage uses; JSON-able."""
    inputs: Mapping[str, str]
    """Name of each input and the digest of its bytes."""

    def __post_init__(self) -> None:
        _check_stage(self.stage)
        if type(self.version) is not int or self.version < 0:
            raise ValueError(f"version of stage {self.stage} must be a whole number from 0, got {self.version!r}")
        # The action copies its mappings: the key must stay right when the caller changes them later.
        object.__setattr__(self, "config", plain_json(self.config, f"config of stage {self.stage}"))
        object.__setattr__(self, "inputs", dict(self.inputs))
        for name, digest in self.inputs.items():
            if not isinstance(name, str) or not is_digest(digest):
                raise ValueError(
                    f"input {name!r} of stage {self.stage} must be 64 lower-case hex digits, got {digest!r}"
                )

    @cached_property
    def key(self) -> str:
        """The blake3 of the canonical JSON of the four fields."""
        about = {"stage": self.stage, "version": self.version, "config": self.config, "inputs": self.inputs}
        return digest_bytes(json_bytes(about))


@dataclass(frozen=True)
class Blob:
    """An object that an action made; ``size`` in bytes."""

    digest: str
    size: int


@dataclass(frozen=True)
class ActionResult:
    """The result of an action. Raises ``ValueError`` for a record or provenance that is not JSON-able."""

    action: Action
    outcome: Literal["done", "rejected"]
    reason: str | None
    """The reason of a rejection; None for an action that is done."""
    record: Mapping[str, Any]
    outputs: Mapping[str, Blob] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Library versions, device, seconds. They are for people and are in no key."""

    def __post_init__(self) -> None:
        if self.outcome not in ("done", "rejected"):
            raise ValueError(f"outcome must be 'done' or 'rejected', got {self.outcome!r}")
        if (self.outcome == "rejected") != bool(self.reason):
            raise ValueError(f"a reason belongs to 'rejected' alone, got {self.outcome!r} with reason {self.reason!r}")
        object.__setattr__(self, "record", plain_json(self.record, "record"))
        object.__setattr__(self, "provenance", plain_json(self.provenance, "provenance"))
        object.__setattr__(self, "outputs", dict(self.outputs))

    @property
    def key(self) -> str:
        return self.action.key

    def to_json(self) -> bytes:
        """Canonical JSON of everything, the whole action included."""
        action = self.action
        about = {
            "action": {
                "stage": action.stage,
                "version": action.version,
                "config": action.config,
                "inputs": action.inputs,
            },
            "outcome": self.outcome,
            "reason": self.reason,
            "record": self.record,
            "outputs": {name: [blob.digest, blob.size] for name, blob in self.outputs.items()},
            "provenance": self.provenance,
        }
        return json_bytes(about)


def _read_result(data: bytes) -> ActionResult:
    """The result that :meth:`ActionResult.to_json` wrote, from bytes whose digest was right. Raises one of
    _OTHER_FORM for a result that is not written so."""
    about = json.loads(data)
    action = _make(Action, about["action"])
    outputs = {name: Blob(digest, size) for name, (digest, size) in about["outputs"].items()}
    if about["outcome"] not in ("done", "rejected"):
        raise ValueError(f"outcome must be 'done' or 'rejected', got {about['outcome']!r}")
    return _make(ActionResult, about | {"action": action, "outputs": outputs})


_OTHER_FORM: Final = (AttributeError, KeyError, TypeError, ValueError)


def _make(kind: type[Value], fields: dict[str, Any]) -> Value:
    """A value without the checks of its class: of ten thousand results they would take 3/4 of the reading time. Fields
    that only another version knows stay unread."""
    value = object.__new__(kind)
    value.__dict__.update(fields)
    return value


class ActionCache:
    """One small immutable file per action at ``<address>/actions/<stage>/ab/<key>.json``."""

    def __init__(self, address: str | Path) -> None:
        self._folder = open_folder(address)
        self._objects = ObjectStore(address)

    def get(self, stage: str, key: str) -> ActionResult | None:
        """The committed result, or None. A damaged file counts as none, and a warning names it."""
        data = self._folder.read(f"{_stage_folder(stage)}/{_name(key)}")
        return None if data is None else _open(data, stage, key)

    def lookup(self, stage: str, keys: Iterable[str]) -> dict[str, ActionResult]:
        """The same as :meth:`get` for many keys at once. Absent results are left out."""
        names = {_name(key): key for key in keys}
        found = self._folder.read_many(_stage_folder(stage), names)
        results = ((names[name], _open(data, stage, names[name])) for name, data in found)
        return {key: result for key, result in results if result is not None}

    def commit(self, result: ActionResult) -> ActionResult:
        """Store a result after its objects, and return the result that stands: the first one that was committed.

        A result stands as long as its file and its objects exist. Afterwards the next commit takes its place. Raises
        :class:`MissingObject` or :class:`CorruptObject` where the store does not have all bytes of an output.
        """
        for blob in result.outputs.values():
            if self._objects.size(blob.digest) != blob.size:
                self._objects.check(blob.digest)
                raise ValueError(f"object {blob.digest} does not have the {blob.size} bytes that the result says")
        stage, key = result.action.stage, result.key
        name, data = f"{_stage_folder(stage)}/{_name(key)}", _seal(result)
        if self._folder.write(name, data, replace=False):
            return result
        standing = self.get(stage, key)
        if standing is not None and not self._objects.missing(blob.digest for blob in standing.outputs.values()):
            return standing
        self._folder.write(name, data)
        return result

    def committed(self, stage: str, key: str) -> float:
        """The time of the commit, in seconds since the epoch; 0 for an absent result."""
        return self._folder.modified(f"{_stage_folder(stage)}/{_name(key)}") or 0.0

    def forget(self, stage: str, key: str) -> None:
        """Remove a result, so that the item is computed again. An absent result is no error."""
        self._folder.delete(f"{_stage_folder(stage)}/{_name(key)}")

    def keys(self, stage: str) -> Iterator[str]:
        """The key of every result of a stage, sorted."""
        for name in self._folder.names(_stage_folder(stage)):
            if (key := key_of(name)) is not None:
                yield key

    def all(self, stage: str) -> Iterator[ActionResult]:
        """Every result of a stage, in the order of the keys."""
        yield from self.lookup(stage, self.keys(stage)).values()

    def stages(self) -> list[str]:
        """The stages that have results. Raises :class:`StoreError` for a name that this version gives no stage."""
        found = self._folder.folders("actions")
        for name in found:
            if not _is_stage(name):
                raise StoreError(f"{self._folder.address(f'actions/{name}')} is no stage of this version; {NEWER}")
        return found


def key_of(name: str) -> str | None:
    """The key of a result's file; None for other files."""
    found = re.fullmatch(r"actions/[^/]+/[0-9a-f]{2}/([0-9a-f]{64})\.json", name)
    return found and found[1]


# An action file is one JSON object: the key, the result, and the digest of the bytes before the digest.
_MIDDLE, _TAIL = b',"blake3":"', b'"}\n'
_SEAL_LENGTH = len(_MIDDLE) + 64 + len(_TAIL)


def _head(key: str) -> bytes:
    return b'{"key":"' + key.encode() + b'","result":'


def _seal(result: ActionResult) -> bytes:
    data = _head(result.key) + result.to_json()
    return data + _MIDDLE + digest_bytes(data).encode() + _TAIL


def is_sealed(sealed: bytes, key: str) -> bool:
    """Whether the bytes of an action's file are as they were written for this key."""
    data, seal = sealed[:-_SEAL_LENGTH], sealed[-_SEAL_LENGTH:]
    return data.startswith(_head(key)) and seal == _MIDDLE + digest_bytes(data).encode() + _TAIL


def _open(sealed: bytes, stage: str, key: str) -> ActionResult | None:
    if is_sealed(sealed, key):
        try:
            result = _read_result(sealed[len(_head(key)) : -_SEAL_LENGTH])
        except _OTHER_FORM:  # The bytes are as they were written. They must not be overwritten.
            raise StoreError(f"this version can't read the result of action {key} of stage {stage}; {NEWER}") from None
        if result.action.stage == stage:
            return result
    log.warning("The result of action %s of stage %s is damaged and counts as absent.", key, stage)
    return None


def _is_stage(name: str) -> bool:
    return re.fullmatch("[a-z][a-z0-9_-]*", name) is not None


def _check_stage(stage: str) -> None:
    if not _is_stage(stage):
        raise ValueError(f"a stage's name is lower-case letters, digits, - and _, got {stage!r}")


def _stage_folder(stage: str) -> str:
    _check_stage(stage)
    return f"actions/{stage}"


def _name(key: str) -> str:
    if not is_digest(key):
        raise ValueError(f"an action key is 64 lower-case hex digits, got {key!r}")
    return f"{key[:2]}/{key}.json"


class Store:
    """All durable parts of one address (a folder, or an fsspec URL). The first use makes the store.

    With ``make=False`` nothing is made: :attr:`exists` says whether there is a store, and one that does not exist reads
    as empty. ``cache_gb`` limits this machine's copies of remote objects. A pickled store opens its address again.

    Raises :class:`StoreError` for a folder that is not empty and not a store, and for a store of another format.
    """

    address: str | Path
    """The absolute path, or the URL."""
    exists: bool

    def __init__(self, address: str | Path, *, make: bool = True, cache_gb: float = GIGABYTES) -> None:
        self._cache_gb = cache_gb
        self.folder = folder = open_folder(address)
        self.address = folder.path if isinstance(folder, LocalFolder) else folder.url
        self.exists = _is_store(folder, self.address)
        if make and not self.exists:
            for name in (COPY, MARKER):
                folder.write(name, json_bytes({"format": FORMAT, "generation": GENERATION}), replace=False)
            self.exists = True
        self.objects = ObjectStore(self.address, cache_gb)
        self.actions = ActionCache(self.address)
        self.checkpoints = Checkpoints(self.address)
        self.leases = Leases(self.address)
        # Digests of files belong to this machine. Digests of URLs belong to all machines that share the store.
        machine = folder.path if isinstance(folder, LocalFolder) else cache_folder()
        self.digests = FileDigests(machine / "files.json", urls=folder) if self.exists else FileDigests(None)

    @cached_property
    def generation(self) -> int:
        """The generation of defaults that the store was made with (see :data:`GENERATION`)."""
        if not self.exists:
            return GENERATION
        said = (self.folder.read(name) for name in (MARKER, COPY))
        return max(_number(marker, "generation") or 1 for marker in said if marker is not None)

    def __reduce__(self) -> tuple[Any, tuple[str | Path]]:
        return partial(Store, cache_gb=self._cache_gb), (self.address,)


MARKER: Final = "ipa-store.json"
COPY: Final = "ipa-store-copy.json"
"""The same again: a store that loses its generation would compute everything anew under other keys."""
FORMAT: Final = 1
"""The format of the store. It rises with a change that an older version would misread, and with each new place whose
files name objects: `storage.collection` does not know what they keep. A version reads its own format only."""
GENERATION: Final = 3
"""It rises with a better default that would change keys, so that older stores can keep the default they were made with.
1: no number in the marker; the hand score is of version 1. 2: it is of version 2. 3: of version 3."""


def _is_store(folder: Folder, address: str | Path) -> bool:
    """Whether the folder is a store of this format; False for an empty folder. Raises :class:`StoreError`."""
    marker = folder.read(MARKER)
    if marker is None:
        stranger = next((name for name in folder.names() if name != COPY), None)
        # Another process may make this store now. It writes copy and marker before all other files.
        marker = folder.read(MARKER)
        if marker is None and stranger is not None:
            raise StoreError(
                f"{address} is not empty and not a store (it holds {stranger}): name a new or empty folder"
                + (f"; if it was one, `ipa store repair` writes {MARKER} again" if _was_store(folder) else "")
            )
    if marker is None:
        return False
    found = _format(marker)
    if found is None:
        raise StoreError(f"{folder.address(MARKER)} is damaged; `ipa store repair` writes it again")
    if found != FORMAT:
        raise StoreError(f"{address} is a store of format {found}, and this version reads format {FORMAT}; {NEWER}")
    return True


def mend_marker(address: str | Path) -> bool:
    """Write the marker of a store again where it is damaged or lost, and return whether it was. A store without a copy
    of the marker is of generation 1."""
    folder = open_folder(address)
    marker = folder.read(MARKER)
    lost = _was_store(folder) if marker is None else _format(marker) is None
    if lost:
        copy = folder.read(COPY)
        folder.write(MARKER, json_bytes({"format": FORMAT}) if copy is None or _format(copy) is None else copy)
    return lost


def _was_store(folder: Folder) -> bool:
    return bool(folder.folders("actions") and folder.folders("objects"))


def _format(marker: bytes) -> int | None:
    """The format that a marker says; None for a damaged marker. A newer version may say more beside it."""
    return _number(marker, "format")


def _number(marker: bytes, name: str) -> int | None:
    try:
        about = json.loads(marker)
    except ValueError:
        return None
    found = about.get(name) if isinstance(about, dict) else None
    return found if type(found) is int else None
