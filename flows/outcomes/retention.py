"""Drop bytes after a run has completed (`execution.retention`)."""

from __future__ import annotations

from flows.engine.run import Run
from flows.stages.candidates import candidates
from flows.stages.selection import Selection, decisions
from storage.maintenance import drop


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
