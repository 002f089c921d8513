"""Kills workers at random moments while they compute tiny items, some of which kill their worker each time.

    python -m tests.flows.worker_kills FOLDER KILLS [SECONDS]

It stops killing after so many seconds. Prints one line of JSON: the number of kills and of innocent items, the errors
of those that failed, and whether each guilty item was named.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from flows.engine.batches import Batches
from flows.engine.components import Components
from flows.engine.stage import Item, Output, Stage
from flows.engine.work import DIED, Outcome, Silent
from flows.engine.worker import Worker
from flows.engine.workers import LocalCrew
from ipa_core.config import CandidatesConfig, ClipsConfig, Execution, ModelConfig, RunConfig
from ipa_core.records import Record
from storage import Action, Store

GUILTY = "guilty"


class Tiny(Stage[Record]):
    """An item takes a few milliseconds, and the guilty one its process."""

    name, version, place, section, record = "tiny", 1, "cpu", "clips", Record

    def items(self, run: object) -> list[Item]:
        return []

    def compute(self, item: Item, worker: Worker) -> Output:
        if item.name == GUILTY:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.005)
        return Output({})


def tiny_items(number: int, names: list[str]) -> list[Item]:
    return [Item(name, Action("tiny", 1, {"round": number, "name": name}, {})) for name in names]


class Killer(Silent):
    """Kills each worker of this process at a random moment: one half while they start, which takes ``start`` seconds,
    and one half after the next outcome. It ends after so many kills, or at the time ``until``."""

    def __init__(self, kills: int, until: float) -> None:
        self.kills = 0
        self.start = 0.0
        self._wanted = kills
        self._until = until
        self._random = random.Random(0)
        self._due: dict[int, float] = {}
        """When to kill each worker, by process."""

    @property
    def ended(self) -> bool:
        return self.kills == self._wanted or time.monotonic() > self._until

    def done(self, outcome: Outcome) -> None:
        now = time.monotonic()
        for process, due in list(self._due.items()):
            if due == math.inf:
                self._due[process] = now + 0.2 * self._random.random()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._kill, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _kill(self, over: threading.Event) -> None:
        while not self.ended and not over.wait(0.01):
            for worker in workers():
                now = time.monotonic()
                if worker.pid not in self._due:
                    starting = self._random.random() < 0.5
                    self._due[worker.pid] = now + self.start * self._random.random() if starting else math.inf
                if self._due[worker.pid] <= now and not self.ended:
                    with suppress(psutil.NoSuchProcess):
                        worker.kill()
                        self.kills += 1


def workers() -> list[psutil.Process]:
    """The worker processes of this process that live."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def main(folder: Path, kills: int, seconds: float) -> None:
    config = RunConfig(
        name="tiny",
        clips=ClipsConfig(sources=(str(folder),)),
        candidates=CandidatesConfig(model=ModelConfig(path=str(folder))),
        execution=Execution(store=str(folder / "store"), workers=2, device="cpu"),
    )
    store = Store(folder / "store")
    crew = LocalCrew(store, config, Components())
    batches = Batches(store, crew, 10.0)

    def errors(number: int, names: list[str]) -> dict[str, str | None]:
        items = tiny_items(number, names)
        outcomes = {one.key: one for one in batches.compute(Tiny(), items, False, killer)}
        return {item.name: outcomes[item.action.key].error for item in items}

    killer = Killer(kills, time.monotonic() + seconds)
    started = time.monotonic()
    errors(0, ["the first, which measures how long a worker takes to start"])
    killer.start = time.monotonic() - started
    innocent = [f"item {number}" for number in range(40)]
    rounds = 0
    failed: list[str] = []
    named = True
    with killer.at_work():
        while not killer.ended:
            rounds += 1
            guilty = [GUILTY] if rounds % 4 == 1 else []
            found = errors(rounds, [*innocent[:20], *guilty, *innocent[20:]])
            named = named and found.get(GUILTY, DIED) == DIED
            failed += [error for name, error in found.items() if name != GUILTY and error is not None]
    crew.close()
    found = {"kills": killer.kills, "innocent": rounds * len(innocent), "failed": failed, "named": named}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else math.inf)
