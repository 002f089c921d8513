"""What a store keeps: `ipa store gc` removes what no kept run, review or adapter names, and `execution.retention` drops
bytes after a run has completed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from flows.engine.run import Run
from flows.engine.run_folder import RunFolder, runs
from flows.stages.candidates import candidates
from flows.stages.selection import Selection, decisions
from storage import Store
from storage.collection import (
    SPARED_SECONDS,
    Garbage,
    Marked,
    Roots,
    garbage,
    mark,
    remove,
    stale_leases,
    temporaries,
    unmarked,
)
from storage.damage import QUARANTINE
from storage.maintenance import drop
from storage.registry import Registry
from storage.reviews import Reviews, answers

ABANDONED: Final = 7 * 86400.0
"""Seconds without news after which unfinished work counts as killed. No process may be asked: it may run on another
machine, or in a container with process ids of its own."""


_LAST: Final = {"config.yaml": 1, "experiment": 2, "run.json": 3}


@dataclass(frozen=True)
class Policy:
    """The runs to keep for their age."""

    runs: int = 3
    """The last runs of each config, and the last that came to their end, by the config's name."""
    days: float = 30
    """Every run that began within so many days."""

    @property
    def seconds(self) -> float:
        return max(86400 * self.days, SPARED_SECONDS)


@dataclass(frozen=True)
class KeptRun:
    folder: RunFolder
    why: str
    """`of a champion`, `not ended`, `young`, `last of its config`, or `unknown` for a folder that is not named as runs
    are."""


@dataclass(frozen=True)
class Found:
    """The runs that stay, and the files that can go in the order of their removal."""

    kept: tuple[KeptRun, ...]
    garbage: tuple[Garbage, ...]

    @property
    def bytes(self) -> int:
        return sum(kind.bytes for kind in self.garbage)


def find_garbage(store: Store, policy: Policy) -> Found:
    """Find what can go, and change nothing. Raises ``StoreError`` for records that this version can't read."""
    folders = list(runs(store))
    kept = _kept(store, folders, policy)
    stays = {one.folder.run_id for one in kept}
    marked = mark(store, _roots(store, kept))
    results, objects = unmarked(store, marked)
    found = (
        _runs(store, [folder for folder in folders if folder.run_id not in stays]),
        _older(store, "reports", policy),
        *_unfinished(store, marked, policy),
        results,
        objects,
        temporaries(store),
        stale_leases(store),
        _older(store, QUARANTINE, policy),
    )
    return Found(tuple(kept), found)


def collect(store: Store, found: Found, removed: Callable[[int], None] = lambda count: None) -> None:
    """Remove what :func:`find_garbage` found, but what a run that began since or goes on uses by now."""
    known = {one.folder.run_id for one in found.kept if one.why != "not ended"}

    def held() -> Roots:
        used = [folder for folder in runs(store) if folder.run_id not in known]
        return Roots(actions=frozenset().union(*(folder.keys() for folder in used)))

    remove(store, found.garbage, held, removed)


@dataclass(frozen=True)
class _Facts:
    folder: RunFolder
    series: tuple[str, bool]
    """Name of the config, and whether it is an experiment. Sweeps must not push other runs out."""
    has_config: bool
    """False for a run that was killed at once, or whose removal was."""
    began: float | None
    """None for a folder that is not named as runs are."""
    status: str | None
    heard: float
    """Time of the last news."""


def _facts(folder: RunFolder) -> _Facts:
    summary, began = folder.summary(), _began(folder.run_id)
    progress = folder.progress() if summary is None else None
    with folder.readable("run.json"):
        status = None if summary is None else str(summary["status"])
    heard = progress.at if progress else began or 0.0
    return _Facts(folder, (folder.name, folder.is_experiment), folder.has_config, began, status, heard)


def _began(run_id: str) -> float | None:
    """Return the time in a run's id, in seconds since the epoch."""
    try:
        return datetime.strptime(run_id.rpartition("-")[0], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _kept(store: Store, folders: Sequence[RunFolder], policy: Policy) -> list[KeptRun]:
    champions = Registry(store.address).state().champions_runs()
    seen: Counter[tuple[str, bool]] = Counter()
    ended: Counter[tuple[str, bool]] = Counter()
    kept = []
    now = time.time()
    for facts in store.folder.each(_facts, folders):
        came_to_its_end = facts.status in ("completed", "nothing_new")
        if facts.folder.run_id in champions:
            why = "of a champion"
        elif facts.status is None and now - facts.heard < ABANDONED:
            why = "not ended"
        elif facts.began is None:
            why = "unknown"
        elif now - facts.began < policy.seconds:
            why = "young"
        elif facts.has_config and (
            seen[facts.series] < policy.runs or (came_to_its_end and ended[facts.series] < policy.runs)
        ):
            why = "last of its config"
        else:
            continue
        seen[facts.series] += 1
        ended[facts.series] += came_to_its_end
        kept.append(KeptRun(facts.folder, why))
    return kept


def _roots(store: Store, kept: Sequence[KeptRun]) -> Roots:
    registry = Registry(store.address).state()
    keys = store.folder.each(lambda one: one.folder.keys(), kept)
    judged = (name for name, history in Reviews(store.address).histories().items() if answers(history))
    return Roots(
        actions=frozenset(registry.actions()).union(*keys),
        objects=frozenset(registry.objects()),
        judged=frozenset(judged),
    )


def _runs(store: Store, folders: Sequence[RunFolder]) -> Garbage:
    """Return the folders of runs. The oldest goes first, and of its files those last that say what it was: a removal
    that is stopped leaves no run that looks like another."""
    names: list[str] = []
    for folder in reversed(folders):
        found = store.folder.names(f"runs/{folder.run_id}")
        names += sorted(found, key=lambda name: (_LAST.get(name.rpartition("/")[2], 0), name))
    return Garbage("runs", len(folders), tuple(names), store.folder.freed(names))


def _older(store: Store, place: str, policy: Policy) -> Garbage:
    """Return the files of a folder that are older than the runs that stay for their age.

    `reports` holds the rendered results of runs: a run's report has them inside, and a repeated run renders them again.
    `quarantine` holds damaged bytes, which nothing reads.
    """
    before = time.time() - policy.seconds
    names = list(store.folder.names(place))
    times = store.folder.each(store.folder.modified, names)
    return garbage(store, place, (name for name, at in zip(names, times, strict=True) if (at or 0.0) < before))


def _unfinished(store: Store, marked: Marked, policy: Policy) -> tuple[Garbage, Garbage]:
    """Return the checkpoints of trainings that have ended or that nobody goes on with, and the logs of trainings whose
    results go."""
    before = time.time() - max(policy.seconds, ABANDONED)
    ended = {key: stage for stage in store.actions.stages() for key in store.actions.keys(stage)}
    states, logs = [], []
    for key in store.folder.folders("checkpoints"):
        files = list(store.folder.names(f"checkpoints/{key}"))
        newest = max((store.folder.modified(name) or 0.0 for name in files), default=0.0)
        # A training that is repeated (--refresh) saves states after its earlier result was committed.
        committed = store.actions.committed(ended[key], key) if key in ended else 0.0
        if newest < max(committed, before):
            states += files
    for key in store.folder.folders("tensorboard"):
        files = list(store.folder.names(f"tensorboard/{key}"))
        newest = max((store.folder.modified(name) or 0.0 for name in files), default=0.0)
        if key not in marked.actions and newest < before:
            logs += files
    return garbage(store, "checkpoints", states), garbage(store, "training logs", logs)


def drop_unkept(run: Run) -> int:
    """Drop latents and conditioning of candidates that were not kept, if the config says so and the run computed
    something. Return the number of objects. They are computed again when an uncached item needs them."""
    selected = run.view.one(Selection)
    if selected is None or not run.computed or run.config.execution.retention != "kept":
        return 0
    kept = {(line.clip_id, line.seed) for line in decisions(selected[1], run.store) if line.kept}
    every, needed = set(), set()
    for one in candidates(run.view):
        pair = {one.candidate.latents, one.candidate.conditioning}
        every |= pair
        if (one.candidate.clip_id, one.candidate.seed) in kept:
            needed |= pair
    drop(run.store, every - needed)
    return len(every - needed)
