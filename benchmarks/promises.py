"""Shows what the pipeline promises, on the demo: what a second run costs, what three kills lose, what edits recompute.

    python benchmarks/promises.py demo  --folder /tmp/promises    # the run, and the run again
    python benchmarks/promises.py kills --folder /tmp/promises    # SIGKILL in three stages, each continued and compared
    python benchmarks/promises.py plans --folder /tmp/promises    # `ipa plan` after each of five edits

`demo` comes first: the others compare with its result. Every line is printed from what the commands wrote.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONFIG = str(ROOT / "configs" / "demo.yaml")
KILLS = {
    "candidates": r"^candidates +[3-9]/",
    "finetune": r"^finetune .*\([3-9]\d %\)",
    "shards": r"^selection +1 items",
}
"""Stage that is under way -> the line of progress after which the run is killed."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Shows what the pipeline promises, on the demo.")
    parser.add_argument("what", choices=["demo", "kills", "plans"])
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    {"demo": demo, "kills": kills, "plans": plans}[options.what](options.folder.resolve())


def demo(folder: Path) -> None:
    for title in ("first run", "second run"):
        started = time.perf_counter()
        result = run(folder / "uninterrupted")
        computed = {stage["name"]: stage["computed"] for stage in result["stages"]}
        seconds = time.perf_counter() - started
        stages = sum(stage["seconds"] for stage in result["stages"])
        print(f"{title}: {result['status']}, {seconds:.1f} s in all, {stages:.1f} s of them in stages")
        print(f"  computed: {computed}")
    print(f"  report: {result['outputs']['report']}")


def kills(folder: Path) -> None:
    expected = digests(run(folder / "uninterrupted"))
    for stage, line in KILLS.items():
        home = folder / f"killed in {stage}"
        shutil.rmtree(home, ignore_errors=True)
        said = run_until(home, re.compile(line))
        result = run(home)
        computed = {row["name"]: row["computed"] for row in result["stages"] if row["computed"]}
        same = digests(result) == expected
        print(f"SIGKILL in {stage} (after '{said}'): continued, computed {computed}")
        print(f"  LoRA, shards and tables equal those of the uninterrupted run: {same}")


def plans(folder: Path) -> None:
    home = folder / "edited"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(ROOT / "demo" / "videos", home / "videos")
    shutil.copytree(folder / "uninterrupted" / "store", home / "store")
    videos = sorted((home / "videos").glob("*.mp4"))
    show(home, "nothing edited")
    original = videos[3].read_bytes()
    videos[3].write_bytes(videos[4].read_bytes() + b"\0")
    show(home, f"the bytes of {videos[3].name}")
    videos[3].write_bytes(original)
    table = home / "videos" / "metadata.csv"
    entries = table.read_text()
    renamed = videos[3].rename(home / "videos" / "renamed.mp4")
    table.write_text(entries.replace(videos[3].name, renamed.name))
    show(home, f"the name of {videos[3].name}, in the folder and in the metadata table")
    renamed.rename(videos[3])
    table.write_text(entries)
    videos[3].touch()
    show(home, f"the time of {videos[3].name}")
    show(home, "the scoring threshold", "selection.threshold=0.45")
    show(home, "alignment.beta", "alignment.beta=100")
    show(home, "generation steps", "candidates.steps=10")


def show(home: Path, edited: str, *changes: str) -> None:
    sources = [f"clips.sources={json.dumps([str(home / 'videos')])}"]
    metadata = [f"clips.metadata={json.dumps(str(home / 'videos' / 'metadata.csv'))}"]
    print(f"--- edited: {edited}", flush=True)
    subprocess.run([*ipa("plan", home), *options([*sources, *metadata, *changes])], check=True, cwd=home)


def ipa(command: str, home: Path) -> list[str]:
    store = f"execution.store={json.dumps(str(home / 'store'))}"
    return [sys.executable, "-m", "flows.cli", command, CONFIG, "--set", store]


def options(changes: Sequence[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def run(home: Path) -> dict[str, Any]:
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*ipa("run", home), "--json"], cwd=home, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_until(home: Path, line: re.Pattern[str]) -> str:
    """Start a run, kill it when it has said such a line, and return the line."""
    home.mkdir(parents=True)
    run = subprocess.Popen(ipa("run", home), cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for said in run.stderr:
        if line.search(said):
            run.send_signal(signal.SIGKILL)
            run.wait()
            return said.strip()
    raise SystemExit(f"the run in {home} ended before it said {line.pattern}")


def digests(result: dict[str, Any]) -> dict[str, str]:
    files = [path for name in ("lora", "shards") for path in sorted(Path(result["outputs"][name]).iterdir())]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
