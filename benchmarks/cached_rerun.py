"""What a fully cached run costs, beside one Prefect cached task per item.

1,500 clips x 4 candidates with the fake generator and extractor of the tests. Filling the store takes a while and is
not measured; it is kept in --folder, so that a second call only measures. Both sides run under one ephemeral Prefect
server: ours is the `retrain` flow, the peer a flow that maps one task with an INPUTS cache policy over the same items,
measured on --peer-items of them and scaled.

    python benchmarks/cached_rerun.py --folder /tmp/cached-rerun
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
for name, value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "ERROR",
}.items():
    os.environ.setdefault(name, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ipa-cached-rerun")
    parser.add_argument("--clips", type=int, default=1500)
    parser.add_argument("--peer-items", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only-ours", action="store_true", help="print what our side takes in this process, as JSON")
    options = parser.parse_args()
    if options.only_ours:
        print(json.dumps(ours_in_this_process(options.folder)))
        return
    fill(options.folder, options.clips)
    ours = measure_ours(options.folder)
    peer = measure_peer(options.peer_items, ours["items"])
    result = {"ours": ours, "peer": peer, "ratio": round(peer["process_seconds"] / ours["process_seconds"], 1)}
    if options.json:
        print(json.dumps(result))
        return
    print(f"items: {ours['items']} in 8 stages, computed: {ours['computed']}")
    print(f"ours:  {ours['process_seconds']:.1f} s of process time, {ours['peak_megabytes']:.0f} MB at the peak")
    print(
        f"peer:  {peer['process_seconds']:.1f} s of process time (one Prefect cached task per item: "
        f"{peer['measured_seconds']:.1f} s for {options.peer_items}, scaled)"
    )
    print(f"ratio: {result['ratio']}")


def config(folder: Path) -> Any:
    from tests.fakes import fake_config

    return fake_config(folder, candidates__per_clip=4, clips__held_out=0.1, selection__threshold=0.5)


def fill(folder: Path, clips: int) -> None:
    from flows.engine.run import Run
    from flows.stages import STAGES
    from tests.fakes import FAKES, write_video

    for number in range(clips):
        path = folder / "videos" / f"video-{number:04d}.mp4"
        if not path.exists():
            write_video(path, number)
    settings = config(folder)
    with Run(settings, STAGES, FAKES) as run:
        run.walk()
    run.check()


def measure_ours(folder: Path) -> dict[str, Any]:
    """In a process of its own: the peak of memory is this run's alone."""
    command = [sys.executable, __file__, "--folder", str(folder), "--only-ours"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours_in_this_process(folder: Path) -> dict[str, Any]:
    """A flow run that does nothing starts Prefect; what the cached run takes beyond it is ours."""
    from prefect import flow

    from flows.retrain import retrain

    os.environ["IPA_COMPONENTS"] = "tests.fakes:FAKES"
    flow(lambda: None, name="nothing")()
    before = process_seconds()
    summary = retrain(config(folder), return_state=True).result()
    return {
        "items": sum(row.items for row in summary.stages),
        "computed": sum(row.computed for row in summary.stages),
        "process_seconds": round(process_seconds() - before, 2),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def measure_peer(count: int, items: int) -> dict[str, float]:
    from prefect import flow, task
    from prefect.cache_policies import INPUTS

    with tempfile.TemporaryDirectory() as results:

        @task(cache_policy=INPUTS, persist_result=True, result_storage=Path(results), result_serializer="json")
        def one(number: int) -> int:
            return number

        @flow(persist_result=True, result_serializer="json")
        def each() -> None:
            for future in [one.submit(number) for number in range(count)]:
                future.result()

        each()  # fills the cache
        before = process_seconds()
        each()
        spent = process_seconds() - before
    return {"measured_seconds": round(spent, 2), "process_seconds": round(spent * items / count, 1)}


def process_seconds() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


if __name__ == "__main__":
    main()
