"""Damage: find the files of a store that are not as they were written, and forget just these.

Objects, results, checkpoints, events and reviews carry digests, so any changed bit shows. A run's weights and shards
are compared with the digests of its results. The other files have their form only: whole JSON, YAML, Parquet or HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from storage import bundle
from storage.actions import COPY, MARKER, Store, is_sealed, key_of
from storage.checkpoints import digest_of_state
from storage.digest import digest_bytes, digest_in, is_digest, remembered
from storage.log import is_sealed_entry, numbered
from storage.registry import Lost, Registry

QUARANTINE: Final = "quarantine"


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written, or an event that is missing."""

    kind: str
    name: str
    """The name of the file in the store."""
    what: str

    def sentence(self) -> str:
        return f"{self.kind} {self.name}: {self.what}"


def damages(store: Store) -> Iterator[Damage]:
    """All damage but that of objects, which :func:`storage.maintenance.verify` reads. Nothing is changed. Raises
    :class:`StoreError` where disk or network fail."""
    for place in sorted({kind.place for kind in _KINDS}):
        names = _own_files(store) if place == "" else [name for name in store.folder.names(place) if _kind_of(name)]
        for name, what in zip(names, store.folder.each(lambda name: _wrong(store, name), names), strict=True):
            if what is not None:
                yield Damage(_kind_of(name).name, name, what)  # type: ignore[union-attr]
    yield from _missing_events(store)
    yield from _changed_files(store)


def forget(store: Store, damage: Damage) -> str:
    """Move a damaged file into the quarantine, and return what that means for people.

    A damaged event of the registry leaves a note in its place, because the numbers have no gaps.
    """
    store.folder.move(damage.name, f"{QUARANTINE}/{damage.name}")
    kind = _kind_of(damage.name) or _FILE
    if kind is _EVENT:
        number = int(damage.name[-len(numbered(0)) :].partition(".")[0])
        Registry(store.address).lose(number, Lost(at=datetime.now(UTC).isoformat(timespec="seconds"), why=damage.what))
    if kind is _COPY_OF_MARKER:
        store.folder.copy(MARKER, damage.name)
    return kind.after


@dataclass(frozen=True)
class _Kind:
    name: str
    pattern: str
    wrong: Callable[[str, bytes], str | None]
    """Takes name and bytes, and returns what is wrong or None."""
    after: str
    """What follows when the file is forgotten."""

    @property
    def place(self) -> str:
        """The folder of its files; "" for files of the store's own folder."""
        return self.pattern.partition("/")[0] if "/" in self.pattern else ""


def _kind_of(name: str) -> _Kind | None:
    return next((kind for kind in _KINDS if re.fullmatch(kind.pattern, name)), None)


def _own_files(store: Store) -> list[str]:
    return [name for name in ("files.json", "looks.json", "urls.json", COPY) if store.folder.size(name) is not None]


def _wrong(store: Store, name: str) -> str | None:
    kind, data = _kind_of(name), store.folder.read(name)
    if kind is None or data is None:  # Another process removed it after the listing.
        return None
    return kind.wrong(name, data)


def _missing_events(store: Store) -> Iterator[Damage]:
    there = {name.rpartition("/")[2] for name in store.folder.names("registry")}
    last = max((name for name in there if re.fullmatch(r"\d{6}\.json", name)), default=None)
    for number in range(1, int(last[:6]) if last else 1):
        if numbered(number) not in there:
            yield Damage(_EVENT.name, f"registry/{numbered(number)}", "missing")


def _changed_files(store: Store) -> Iterator[Damage]:
    """Weights, shards and tables in the folders of runs whose bytes are not those of the run's results."""
    for run in store.folder.folders("runs"):
        files = [name for name in store.folder.names(f"runs/{run}") if re.fullmatch(_FILE.pattern, name)]
        made = _made(store, run) if files else {}
        for name in files:
            wanted = made.get(name.rpartition("/")[2])
            if wanted and digest_in(store.folder, name) not in (None, *wanted):
                yield Damage(_FILE.name, name, "its bytes are not those of the run's result")


def _made(store: Store, run: str) -> dict[str, set[str]]:
    """The digests of the files that a run's training and shards made, by name."""
    from storage.manifests import table_rows

    try:
        rows = table_rows(store.folder.read(f"runs/{run}/items.parquet") or b"", stage=("finetune", "shards"))
        keys = [(row["stage"], row["key"]) for row in rows]
    except (KeyError, ValueError):
        return {}
    found: dict[str, set[str]] = {}
    for stage, key in keys:
        result = store.actions.get(stage, key) if is_digest(key) else None
        for name, blob in result.outputs.items() if result else ():
            found.setdefault(name, set()).add(blob.digest)
    return found


def _unsealed(name: str, data: bytes) -> str | None:
    return None if is_sealed(data, key_of(name) or "") else "its seal is broken"


def _unsealed_entry(kind: str) -> Callable[[str, bytes], str | None]:
    return lambda name, data: None if is_sealed_entry(kind, data) else "its seal is broken"


def _other_digest(name: str, data: bytes) -> str | None:
    return None if digest_bytes(data) == digest_of_state(name) else "its digest is another"


def _no_json(name: str, data: bytes) -> str | None:
    try:
        return None if isinstance(json.loads(data), dict) else "no JSON object"
    except ValueError:
        return "no whole JSON"


def _no_config(name: str, data: bytes) -> str | None:
    import yaml

    try:
        tree = yaml.safe_load(data.decode())
    except (ValueError, yaml.YAMLError):
        return "no YAML"
    # Every version writes its execution last.
    return None if isinstance(tree, dict) and {"name", "execution"} <= tree.keys() else "no whole config"


def _no_parquet(name: str, data: bytes) -> str | None:
    from storage.manifests import table_rows

    try:
        table_rows(data)
    except ValueError:
        return "no whole Parquet"
    return None


def _no_page(name: str, data: bytes) -> str | None:
    text = data.strip().lower()
    return None if text.startswith(b"<!doctype html") and text.endswith(b"</html>") else "no whole page"


def _no_rendered(name: str, data: bytes) -> str | None:
    return None if unsealed_text(data) is not None else "its seal is broken"


def _no_run_id(name: str, data: bytes) -> str | None:
    return None if re.fullmatch(rb"\d{8}-\d{6}-[0-9a-f]{4}", data) else "no run's id"


def _no_digest(name: str, data: bytes) -> str | None:
    return None if is_digest(data.decode(errors="replace")) else "no digest"


def _no_memory(name: str, data: bytes) -> str | None:
    entries = remembered(data)
    return None if entries is not None and len(entries) == len(json.loads(data)) else "no whole list of digests"


def _no_bundle(name: str, data: bytes) -> str | None:
    return "no whole bundle" if bundle.unpacked(data) is None else None


def _no_mp4(name: str, data: bytes) -> str | None:
    """Walk over the boxes: a cut file ends within one."""
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if place == 0 and data[4:8] != b"ftyp":
            return "no mp4"
        place += max(size, 8)
    return None if place == len(data) and place > 0 else "no whole mp4"


_SEAL: Final = "<!-- blake3 {} -->\n"


def sealed_text(text: str) -> bytes:
    """A text with its digest at the end, as a comment of HTML."""
    return text.encode() + _SEAL.format(digest_bytes(text.encode())).encode()


def unsealed_text(data: bytes) -> str | None:
    """The text that :func:`sealed_text` wrote; None for other bytes."""
    text = data[: -len(_SEAL.format("0" * 64))]
    return text.decode() if data == text + _SEAL.format(digest_bytes(text)).encode() else None


_AGAIN: Final = "it is computed again when a run needs it"
_UNKNOWN: Final = "`ipa status` and reports miss what it said"
_EVENT: Final = _Kind(
    "event of the registry", r"registry/\d{6}\.json", _unsealed_entry("event"), "`ipa models` shows what the others say"
)
_FILE: Final = _Kind(
    "file of a run",
    r"runs/[^/]+/[^/]+/[^/]+\.(safetensors|tar|parquet)",
    lambda name, data: None,  # Compared with the run's results.
    "the next run of the same config has its own",
)
_COPY_OF_MARKER: Final = _Kind("copy of the marker", re.escape(COPY), _no_json, "it is written again")
_RUN: Final = "record of a run"
_KINDS: Final = (
    _Kind("result", r"actions/[^/]+/[0-9a-f]{2}/[0-9a-f]{64}\.json", _unsealed, _AGAIN),
    _Kind(
        "checkpoint",
        r"checkpoints/[^/]+/\d{12}-[0-9a-f]{64}",
        _other_digest,
        "the training goes on from an earlier one",
    ),
    _EVENT,
    _Kind(
        "review", r"reviews/[0-9a-f]{2}/[^/]+\.json", _unsealed_entry("review"), "the candidate can be reviewed again"
    ),
    _Kind(
        "preference",
        r"preferences/[0-9a-f]{2}/[^/]+\.json",
        _unsealed_entry("preference"),
        "the two videos can be compared again",
    ),
    _Kind("seed of the comparisons", r"preferences/seed", _no_digest, "the next page draws new sides"),
    _Kind("calibration", r"calibrations/[0-9a-f]{64}\.json", _no_json, "`ipa score calibrate` writes it again"),
    _Kind(_RUN, r"runs/[^/]+/(run|progress|machine)\.json", _no_json, _UNKNOWN),
    _Kind(_RUN, r"runs/[^/]+/config\.yaml", _no_config, _UNKNOWN),
    _Kind(_RUN, r"runs/[^/]+/items\.parquet", _no_parquet, "`ipa store gc` keeps nothing for this run any more"),
    _Kind(_RUN, r"runs/[^/]+/report\.html", _no_page, "`ipa report` writes one from the run's record"),
    _Kind("rendered report", r"reports/[^/]+\.page", _no_rendered, "it is rendered again"),
    _Kind("rendered report", r"reports/[^/]+\.run", _no_run_id, "it is rendered again"),
    _Kind("model's digest", r"models/[0-9a-f]{64}", _no_digest, "the next run reads the model's folder again"),
    _COPY_OF_MARKER,
    _Kind("known digests", r"(files|looks|urls)\.json", _no_memory, "the files are read again"),
    _Kind("bundle", r"bundles/.+\.zip", _no_bundle, "the next look-up writes it again"),
    _Kind("sweep", r"sweeps/[^/]+/[^/]+\.json", _no_json, "`ipa sweep` writes it again"),
    _Kind("sweep", r"sweeps/[^/]+/[^/]+\.html", _no_page, "`ipa sweep` writes it again"),
    _Kind("preview", r"previews/[^/]+/[^/]+\.mp4", _no_mp4, "later steps draw their own"),
)
