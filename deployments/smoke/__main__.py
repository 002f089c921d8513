"""Deploys everything on a server of its own and does what people do: see deployments/smoke.sh.

The pipeline's storage, stages, training and evaluation are real; generator and pose extractor are the tests' fakes, so
that faults come when they are called for and a challenger is better or worse than the champion by intent.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deployments.smoke.server import (
    RETRAIN,
    expect,
    finished,
    log_of,
    read,
    retry,
    runs_of,
    stages_of,
    start,
    tasks_of,
    wait,
)
from deployments.smoke.site import WORSE, Site, end, table


def main() -> None:
    parser = argparse.ArgumentParser(description="Deploys everything on a server of its own and does what people do.")
    parser.add_argument(
        "--folder", type=Path, help="where it all goes; default: a temporary folder, removed at the end"
    )
    names = [step.__name__ for step in STEPS]
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"some of {', '.join(names)}; default: all")
    options = parser.parse_args()
    unknown = set(options.steps) - set(names)
    if unknown:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ipa-smoke-"))
    try:
        with ExitStack() as stack:
            site = Site(folder.resolve())
            site.start(stack)
            for step in (step for step in STEPS if not options.steps or step.__name__ in options.steps):
                started = time.monotonic()
                said = step(site)
                print(
                    f"ok  {(step.__doc__ or '').splitlines()[0]} {said} [{time.monotonic() - started:.0f} s]",
                    flush=True,
                )
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


# What people do. Each step says in its first line what it shows.


def schedule_fires(site: Site) -> str:
    """The schedule fires, its run completes; a second is cancelled meanwhile; a batch's name and log name clips."""
    # Half a minute ahead: the server looks for new schedules every few seconds.
    when = datetime.now(UTC) + timedelta(seconds=30)
    daily = ("--interval", "86400", "--anchor-date", when.isoformat(), "--timezone", "UTC")
    site.prefect("deployment", "schedule", "create", RETRAIN, *daily)
    first = wait("the scheduled run", lambda: next(iter(runs_of(RETRAIN, "RUNNING")), None))
    second = finished(start(RETRAIN))
    expect("the second run", second.state.type.value, "CANCELLED")
    done = finished(first.id)
    expect("the scheduled run", done.state.message, "completed")
    site.prefect("deployment", "schedule", "clear", RETRAIN, "-y")
    clips = next(stage for stage in stages_of(done) if stage.name.startswith("clips"))
    tasks = wait("the tasks of the stage clips", lambda: tasks_of(clips))
    unread = [task.name for task in tasks if not re.fullmatch(r"clips: batch \d of \d", task.name)]
    expect("names of its batches that a person can't read", unread, [])
    expect("its log names clips", "video-00" in wait("its log", lambda: log_of(tasks[0])), True)
    return (
        f"'{done.name}' was auto-scheduled ({first.auto_scheduled}): {done.state.message}; the second: {second.state}"
    )


def promoted_once(site: Site) -> str:
    """The first LoRA beats the base model and is promoted; the run again finds nothing new and promotes nothing."""
    before = site.models()
    expect("roles", [model["role"] for model in before], ["champion"])
    again = finished(start(RETRAIN))
    expect("the run again", (again.state.type.value, again.state.message), ("COMPLETED", "nothing_new"))
    expect("its stages", {run.state.name for run in stages_of(again)}, {"Cached"})
    expect("the registry", site.models(), before)
    return f"champion {before[0]['adapter'][:12]}; again: {again.state.message}, all stages Cached"


def failed_stage_is_retried(site: Site) -> str:
    """A generator that fails: the run fails, is run again once, the web hook is told; retries mend both runs."""
    site.fault.touch()
    run = start(RETRAIN, changes=["candidates.seed=1", f"alignment.rank={WORSE}"])
    expect("the run", finished(run).state.type.value, "FAILED")
    second = wait("the automation's run", lambda: next(iter(runs_of(AGAIN)), None))
    expect("the second attempt", finished(second.id).state.type.value, "FAILED")
    wait("the web hook", lambda: site.told)
    time.sleep(5)
    expect("attempts by the automation", len(runs_of(AGAIN)), 1)
    site.fault.unlink()
    site.prefect("flow-run", "retry", str(run))
    expect("the run retried by command", finished(run, attempt=2).state.message, "completed")
    states = {stage.name.partition(",")[0]: stage.state.name for stage in stages_of(read(run))}
    before = {name: states[name] for name in ("clips", "poses")}
    expect("stages before the fault", before, {"clips": "Cached", "poses": "Cached"})
    counts = table(site.runs()[0])
    # The first batch was committed before the fault.
    expect("candidates", counts["candidates"]["cached"] > 0 and counts["candidates"]["computed"] > 0, True)
    retry(second.id)
    expect("the run retried from the API", finished(second.id, attempt=2).state.type.value, "COMPLETED")
    expect("its stages", {stage.state.name for stage in stages_of(read(second.id))}, {"Cached"})
    return f"told: '{site.told[0][:60]}...'; retried by `prefect flow-run retry`: candidates {counts['candidates']}"


def refused_once(site: Site) -> str:
    """The worse LoRA of that run was refused, once: also after the run again."""
    start_again = finished(start(RETRAIN, changes=["candidates.seed=1", f"alignment.rank={WORSE}"]))
    expect("the run again", start_again.state.message, "nothing_new")
    roles = sorted(model["role"] for model in site.models())
    expect("roles", roles, ["challenger", "champion"])
    refused = next(model for model in site.models() if model["role"] == "challenger")
    return f"{refused['adapter'][:12]}: {refused['decided']['reason']}"


def broken_config_is_told(site: Site) -> str:
    """A config that is not there: the run fails, the second attempt with the same config too, the web hook is told."""
    told, attempts = len(site.told), len(runs_of(AGAIN))
    expect(
        "the run", finished(start(RETRAIN, parameters={"config": {"path": "nowhere.yaml"}})).state.type.value, "FAILED"
    )
    wait("the automation's run", lambda: len(runs_of(AGAIN)) > attempts)
    again = finished(runs_of(AGAIN)[0].id)
    expect("its name", again.name.endswith(", again"), True)
    expected = ("FAILED", "there is no config file nowhere.yaml; `ipa init` writes one")
    expect("the second attempt", (again.state.type.value, again.state.message), expected)
    wait("the web hook", lambda: len(site.told) > told)
    expect("tracebacks in the workers' logs", site.said("exited with unexpected exception"), False)
    return f"'{again.name}': {again.state.message}; told: {site.told[-1][:50]}..."


def stage_deployment(site: Site) -> str:
    """The deployment of a stage finds its inputs in the last run: a run of `scores` with refresh redoes the scores."""
    done = finished(start(f"{RETRAIN}-scores", parameters={"refresh": ["scores"]}))
    expect("its end", done.state.type.value, "COMPLETED")
    computed = {name: row["computed"] for name, row in table(site.runs()[0]).items() if row["computed"]}
    expect("what was computed", list(computed), ["scores"])
    return f"'{done.name}': computed {computed}"


def killed_worker(site: Site) -> str:
    """The process of a run is killed in the middle of a batch: crashed, run again once, nothing computed twice."""
    attempts, made = len(runs_of(AGAIN)), site.candidates()
    run = start(RETRAIN, changes=["candidates.seed=2"])
    wait("candidates", lambda: site.candidates() > made)
    os.kill(site.process_of_last_run(), signal.SIGKILL)
    expect("the killed run", finished(run).state.type.value, "CRASHED")
    wait("the automation's run", lambda: len(runs_of(AGAIN)) > attempts)
    again = finished(runs_of(AGAIN)[0].id)
    expect("the second attempt", again.state.message, "completed")
    counts = table(site.runs()[0])["candidates"]
    expect("candidates of the killed run are kept", counts["cached"] > 0, True)
    return f"'{again.name}': candidates {counts}"


def restarted_server(site: Site) -> str:
    """The server is killed and started again in the middle of a run; the run completes."""
    made = site.candidates()
    run = start(RETRAIN, changes=["candidates.seed=3"])
    wait("candidates", lambda: site.candidates() > made)
    end(site.server, signal.SIGKILL)
    time.sleep(3)
    site.serve()
    done = finished(run)
    expect("the run", done.state.message, "completed")
    return f"'{done.name}': {done.state.message}"


def handed_over(site: Site) -> str:
    """Model stages go to the GPU pool's deployment; the run on the CPU pool computes none of them itself."""
    before = len(runs_of(GENERATE))
    run = start(RETRAIN, changes=["candidates.seed=4", f"execution.hand_over={GENERATE}"])
    expect("the run", finished(run).state.message, "completed")
    names = [run.name.rpartition(", only ")[2] for run in runs_of(GENERATE)[: len(runs_of(GENERATE)) - before]]
    expect("what the GPU pool did", sorted(names), ["candidates", "evaluation", "finetune", "references"])
    return f"on the GPU pool: {', '.join(reversed(names))}"


AGAIN, GENERATE = "retrain/again", "retrain/generate"
STEPS: list[Callable[[Site], str]] = [
    schedule_fires,
    promoted_once,
    failed_stage_is_retried,
    refused_once,
    broken_config_is_told,
    stage_deployment,
    killed_worker,
    restarted_server,
    handed_over,
]


if __name__ == "__main__":
    main()
