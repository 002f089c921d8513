"""Items that hang in every way that a process can: python -m tests.flows.hanging FOLDER cpu|gpu

Prints one line of JSON: the error of each item by name.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

from flows.engine import workers
from flows.engine.batches import Batches
from flows.engine.stage import Item, Output, Place, Stage
from flows.engine.work import Silent
from flows.engine.worker import Worker
from flows.engine.workers import LocalCrew
from ipa_core.records import Record
from storage import Action, Store
from tests.fakes import FAKES, fake_config

HUNG = "the worker process showed no progress for execution.item_minutes; its last lines are above"


class Hanging(Stage[Record]):
    """Each item is named after what it does to its process. Nothing that a process does by itself ends it then."""

    name, version, section, record = "hanging", 1, "clips", Record

    def __init__(self, place: Place) -> None:
        self.place = place  # type: ignore[misc]

    def items(self, run: object) -> list[Item]:
        names = ("in C", "innocent", "stopped", "deaf")
        return [Item(name, Action("hanging", 1, {"name": name}, {})) for name in names]

    def compute(self, item: Item, worker: Worker) -> Output:
        match item.name:
            case "in C":
                ctypes.PyDLL(None).sleep(600)  # It keeps Python's lock.
            case "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
        return Output({})


def errors(folder: Path, place: Place) -> dict[str, str | None]:
    """The error of each item by name."""
    config = fake_config(folder, execution__workers=3, execution__gpus=3, execution__item_minutes=0.05)
    store = Store(folder / "store")
    crew = LocalCrew(store, config, FAKES)
    stage = Hanging(place)
    items = stage.items(None)
    found = {one.key: one.error for one in Batches(store, crew, 10.0).compute(stage, items, False, Silent())}
    crew.close()
    return {item.name: found[item.action.key] for item in items}


if __name__ == "__main__":
    workers._GRACE = 1.0  # type: ignore[misc]
    print(json.dumps(errors(Path(sys.argv[1]), sys.argv[2])))  # type: ignore[arg-type]
