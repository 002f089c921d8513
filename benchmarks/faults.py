"""Shows what a run survives: kills, dying and hanging workers, several runs on one store, damaged files, and disks and
servers that fail. About ten minutes.

    python -m benchmarks.faults [SECTION...] [--output docs/durability.md]

Each section prints rows: a promise, the command that shows it, and the command's figures. The exit code is 1 where a
promise was broken. `SECTIONS` is the list of sections.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.row import Row
from benchmarks.store_faults import damage, disk, server

ROOT = Path(__file__).resolve().parent.parent
RUN_KILLS = 20
WORKER_KILLS = 200
SECONDS = 100
"""After this time a section kills no more: a busy machine starts few processes."""
SHARED = 30
"""Videos that two runs share."""


def run_kills(folder: Path) -> list[Row]:
    """Kill a run with SIGKILL at random moments and start it again; compare with one that nobody killed."""
    from tests.fakes import write_videos

    command = [sys.executable, "-m", "tests.flows.plain_run"]
    for name in ("whole", "killed"):
        write_videos(folder / name / "videos", 8)
    started = time.monotonic()
    subprocess.run([*command, str(folder / "whole")], cwd=ROOT, stderr=subprocess.DEVNULL, check=True)
    usual = time.monotonic() - started
    draw = random.Random(0)
    kills = lost = 0
    store = folder / "killed" / "store"
    until = time.monotonic() + SECONDS
    while kills < RUN_KILLS and time.monotonic() < until:
        before = results(store)
        run = subprocess.Popen([*command, str(folder / "killed")], cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            run.wait(usual * draw.random())
            shutil.rmtree(store)  # It came to its end: the next one starts anew.
            continue
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            kills += 1
        after = results(store)
        lost += sum(after.get(key) != result for key, result in before.items())
    done = subprocess.run([*command, str(folder / "killed")], cwd=ROOT, capture_output=True, text=True)
    equal = results(store) == results(folder / "whole" / "store")
    printed = f"{kills} kills in runs of {usual:.0f} s: {lost} results lost or changed, end state equal: {equal}"
    kept = not lost and equal and not done.returncode and "Traceback" not in done.stderr
    return [Row("a run that is killed goes on where it was", "python -m tests.flows.plain_run", printed, kept)]


def results(store: Path) -> dict[str, Any]:
    """Record and outputs of each committed result, by key."""
    found = {}
    for path in store.glob("actions/*/*/*.json"):
        about = json.loads(path.read_bytes())["result"]
        found[path.stem] = [about["outcome"], about["record"], about["outputs"]]
    return found


def worker_kills(folder: Path) -> list[Row]:
    promise = "a worker that dies takes only its item along, and only if it dies of that item"
    numbers = [str(WORKER_KILLS), str(SECONDS)]
    shown = f"python -m tests.flows.worker_kills DIR {' '.join(numbers)}"
    command = [sys.executable, "-m", "tests.flows.worker_kills", str(folder), *numbers]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=4 * SECONDS)
    except subprocess.TimeoutExpired:
        return [Row(promise, shown, "it hangs", False)]
    tracebacks = done.stderr.count("Traceback")
    if done.returncode:
        return [Row(promise, shown, f"exit code {done.returncode}, {tracebacks} tracebacks", False)]
    found = json.loads(done.stdout)
    failed = f"{len(found['failed'])} of {found['innocent']} innocent items failed"
    guilty = f"guilty items named: {found['named']}"
    printed = f"{found['kills']} kills: 0 hangs, {tracebacks} tracebacks, {failed}, {guilty}"
    return [Row(promise, shown, printed, not tracebacks and not found["failed"] and found["named"])]


def hangs(folder: Path) -> list[Row]:
    from tests.flows.hanging import HUNG

    rows = []
    for place in ("cpu", "gpu"):
        command = [sys.executable, "-m", "tests.flows.hanging", str(folder / place), place]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        ended = sorted(name for name, error in found.items() if error == HUNG)
        printed = f"ended and named: {', '.join(ended)}; done: {', '.join(n for n, e in found.items() if e is None)}"
        kept = ended == ["deaf", "in C", "stopped"] and found["innocent"] is None
        promise = f"a {place.upper()} item without progress for execution.item_minutes is ended and named"
        rows.append(Row(promise, f"python -m tests.flows.hanging DIR {place}", printed, kept))
    return rows


def shared_runs(folder: Path) -> list[Row]:
    shared_folder(folder / "both")
    counts = [computed(run, folder / "both") for run in [ipa_run(folder / "both"), ipa_run(folder / "both")]]
    poses = [one.get("poses", 0) for one in counts]
    printed = f"{SHARED} poses: {poses[0]} computed by one run, {poses[1]} by the other"
    both = Row(
        "two runs of a config share its items", "ipa run, twice", printed, sum(poses) == SHARED and min(poses) > 0
    )

    shared_folder(folder / "one killed")
    first, second = ipa_run(folder / "one killed"), ipa_run(folder / "one killed")
    store = folder / "one killed" / "store"
    while len(list(store.glob("actions/poses/*/*.json"))) < SHARED // 3 and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    first.communicate()
    left = computed(second, folder / "one killed")
    there = len(list(store.glob("actions/poses/*/*.json")))
    printed = f"one of two killed: the other computed {left.get('poses')}, {there} of {SHARED} are there"
    printed += f", it ended {time.monotonic() - killed:.0f} s after the kill"
    return [both, Row("a run does not wait for a dead one", "ipa run, twice; kill -9", printed, there == SHARED)]


def shared_folder(folder: Path) -> None:
    import yaml

    from tests.fakes import fake_config, write_videos

    write_videos(folder / "videos", SHARED)
    config = fake_config(folder, execution__workers=1)
    (folder / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))


def ipa_run(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"IPA_COMPONENTS": "tests.flows.fault_components:SLOW", "IPA_SLOW": "0.5"}
    command = [sys.executable, "-m", "flows.cli", "run", str(folder / "run.yaml"), "--to", "poses", "--json"]
    # Not a pipe: the run that is not read first would wait for its reader.
    said = (folder / f"said {time.monotonic_ns()}").open("w")
    with said:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=said, text=True)


def computed(run: subprocess.Popen[str], folder: Path) -> dict[str, int]:
    """Number of items that a run computed, by stage; nothing where it failed or printed a traceback."""
    out, _ = run.communicate()
    if run.returncode != 0 or any("Traceback" in said.read_text() for said in folder.glob("said *")):
        return {}
    return {stage["name"]: stage["computed"] for stage in json.loads(out)["stages"]}


SECTIONS: list[Callable[[Path], list[Row]]] = [run_kills, worker_kills, hangs, shared_runs, damage, disk, server]
"""Each gets an empty folder."""

HEAD = """# Durability

Whatever ends a run, its workers or its machine, nothing that was committed is lost or changed, and the same command
goes on. An item that can't be computed is named, and the others are computed.

- A result is committed when its objects and its action file are whole, synced and renamed. Readers check digests.
- A worker that is killed blames the item that it had under way. That item is tried again alone; it fails after its
  fourth dead worker. An item that shows no progress for `execution.item_minutes` fails at once, and its process is
  replaced.
- Several runs may use one store, also on several machines. A file in `leases/` says that an item is under way. Other
  runs work on other items first and take its result. The lease of a dead process on the same machine counts for nothing
  at once, that of another machine after 45 s without a sign of life. Where no lease can be written, each run computes
  for itself.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="a Markdown file for the promise and the table")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="; ".join(one.__name__ for one in SECTIONS))
    options = parser.parse_args()
    output, names = options.output, options.sections
    if unknown := set(names).difference(one.__name__ for one in SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    rows = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for section in (one for one in SECTIONS if not names or one.__name__ in names):
            place = Path(folder) / section.__name__
            place.mkdir()
            for row in section(place):
                rows.append(row)
                print(f"{'kept  ' if row.kept else 'BROKEN'} {row.promise}: {row.printed}", flush=True)
    if output is not None:
        written = output.read_text() if output.exists() else ""
        _, heading, rest = written.partition("\n## ")  # Sections by hand stay.
        output.write_text(HEAD + table(rows, time.monotonic() - started) + heading + rest)
    sys.exit(not all(row.kept for row in rows))


def table(rows: list[Row], seconds: float) -> str:
    lines = ["| promise | kept | shown by | printed |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.promise} | {'yes' if row.kept else 'NO'} | `{row.command}` | {row.printed} |" for row in rows]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    about = f"Written by `make faults` on {datetime.now(UTC):%Y-%m-%d} in {seconds / 60:.0f} min: {machine}."
    return "\n".join([*lines, "", about, ""])


if __name__ == "__main__":
    main()
