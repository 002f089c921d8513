"""Whether many runs in one process, as `ipa serve` has them, stay small: each round adds candidates to one store.

    python -m benchmarks.soak [--candidates 6000] [--rounds 5] [--folder DIR]

Each round is the flow up to the shards, with the fakes of the tests and another seed, against one Prefect server. (The
training has a process of its own in each run.) A line per round tells memory, Python's objects, descriptors
and threads of the flow's process, the same of the server, and by how much that memory, the store and Prefect's database
grew per item. The exit code is 1 if descriptors or memory of the flow's process grow from round 2 on.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.orchestration import QUIET, write

PER_CLIP = 4
MEMORY = 0.05
"""Growth of the memory per round, as a share of that of round 2, that still counts as flat."""


@dataclass(frozen=True)
class Size:
    memory: int
    """Resident bytes."""
    descriptors: int
    threads: int
    objects: int | None = None
    """What Python holds, of this process."""

    @staticmethod
    def own() -> Size:
        """Return the size of this process without garbage. Python seldom looks for all of it itself."""
        gc.collect()
        return replace(Size.of(os.getpid()), objects=len(gc.get_objects()))

    @staticmethod
    def of(process: int) -> Size:
        about = psutil.Process(process)
        with about.oneshot():
            return Size(about.memory_info().rss, about.num_fds(), about.num_threads())

    def __str__(self) -> str:
        held = f", {self.objects / 1e3:.0f} k objects" if self.objects else ""
        return f"{self.memory / 1e6:.0f} MB{held}, {self.descriptors} descriptors, {self.threads} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ipa-soak")
    options = parser.parse_args()
    for name in ("store", "prefect"):
        shutil.rmtree(options.folder / name, ignore_errors=True)
    write(options.folder, options.candidates // PER_CLIP)
    # Prefect reads them when it is imported.
    os.environ.update(QUIET | {"PREFECT_HOME": str(options.folder / "prefect")})
    sizes = soak(options.folder, options.rounds)
    sys.exit(not is_flat(sizes))


def soak(folder: Path, rounds: int) -> list[Size]:
    """Return the size of this process after each round."""
    from flows.engine.progress import silence
    from flows.orchestration.server import prefect_server
    from flows.retrain import retrain

    silence()
    sizes = []
    store, database = folder / "store", folder / "prefect"
    with prefect_server() as server:
        assert server is not None, "PREFECT_API_URL is set; the soak starts a server of its own"
        for number in range(rounds):
            before = stored(store), stored(database)
            started = time.monotonic()
            state = retrain(config(folder, number), last="shards", return_state=True)
            assert state.is_completed(), state.message
            items = sum(stage.computed for stage in state.result().stages)
            grown = stored(store) - before[0], stored(database) - before[1]
            sizes.append(Size.own())
            memory = f"memory {(sizes[-1].memory - sizes[-2].memory) / items / 1e3:+.1f} kB, " if number else ""
            print(
                f"round {number + 1}: {items} items in {time.monotonic() - started:.0f} s; flow {sizes[-1]}; server "
                f"{Size.of(server)}; {memory}store +{grown[0] / items / 1e3:.1f} kB, Prefect's database "
                f"+{grown[1] / items / 1e3:.2f} kB per item",
                flush=True,
            )
    return sizes


def config(folder: Path, number: int) -> Any:
    from tests.fakes import fake_config

    return fake_config(
        folder,
        candidates__per_clip=PER_CLIP,
        candidates__seed=number,
        clips__held_out=0.1,
        selection__threshold=0.5,
        execution__workers=2,
    )


def stored(folder: Path) -> int:
    """Bytes of all files below a folder; one with several names counts once."""
    files = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in files}.values())


def is_flat(sizes: list[Size]) -> bool:
    if len(sizes) < 3:
        return True
    second, last, rounds = sizes[1], sizes[-1], len(sizes) - 2
    return last.descriptors <= second.descriptors and last.memory <= second.memory * (1 + MEMORY * rounds)


if __name__ == "__main__":
    main()
