"""`ipa sweep`: many trainings through the same cached pipeline, evaluated on the same clips, in one table.

An arm is the sweep's run config with some settings changed. Arms share every stage whose keys don't hold the changed
settings: a sweep over beta computes candidates, scores and reference errors once.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from flows.engine.components import Components
from flows.engine.machine import processor, provenance
from flows.engine.progress import Progress, span
from flows.engine.run import Run
from flows.engine.stage import RunStopped
from flows.engine.view import View
from flows.outcomes.retention import drop_unkept
from flows.stages import STAGES
from flows.stages.evaluation import Evaluation, evaluated
from flows.stages.finetune import Finetune, lora_digest
from flows.stages.finetune import Training as TrainingRecord
from flows.stages.judge import who_judged
from flows.stages.looks import with_looks
from ipa_core.config import Config, ConfigError, PositiveInt, RunConfig
from ipa_core.config_file import load_config, read_config
from ipa_core.evaluation.comparison import ClipResult
from ipa_core.evaluation.sweep import Arm, SweepTable, sweep_table
from ipa_core.evaluation.sweep import Run as Training
from ipa_core.reporting.page import Page, Section, Table
from ipa_core.reporting.sweep_page import sweep_sections


class ArmConfig(Config):
    """One way to train."""

    name: str
    section: str = "Arms"
    """The arm's heading in the table."""
    set: tuple[str, ...] = ()
    """Changed settings, as ``alignment.beta=20``."""
    seeds: PositiveInt | None = None
    """Number of the sweep's seeds that it is trained with, from the first; None: all."""
    generator: str | None = None
    """An earlier arm, whose LoRA of the same seed generates the candidates: the arm is its next on-policy round."""


class TableConfig(Config):
    """A table to show beside, such as a paper's."""

    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class EqualDriftConfig(Config):
    """Two ways to train at several strengths, to compare where they have moved the model equally far."""

    arms: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    """Each of ``arms`` is compared with these, between the two points nearest in drift."""


class SweepConfig(Config):
    """An experiment. ``configs/paper-ablation.yaml`` is one."""

    name: str
    about: str = ""
    """The question; the first paragraph of the page."""
    run: str
    """The run config that all arms start from; relative to the sweep's file."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    """``alignment.seed`` of the trainings of each arm."""
    arms: Annotated[tuple[ArmConfig, ...], Field(min_length=1)]
    contrasts: tuple[tuple[str, str], ...] = ()
    """Pairs of arms; the arm expected to be better comes first."""
    equal_drift: EqualDriftConfig = EqualDriftConfig()
    beside: TableConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> SweepConfig:
        names = [arm.name for arm in self.arms]
        trainings: dict[str, int] = {}
        for arm in self.arms:
            if arm.name in trainings:
                raise ValueError(f"two arms are called '{arm.name}'")
            seeds = len(self.seeds[: arm.seeds])
            if arm.generator is not None:
                if arm.generator not in trainings:
                    raise ValueError(f"generator of '{arm.name}': there is no arm '{arm.generator}' before it")
                if trainings[arm.generator] < seeds:
                    raise ValueError(f"generator of '{arm.name}': '{arm.generator}' is trained with fewer seeds")
            trainings[arm.name] = seeds
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} holds one twice")
        for field, named in (
            ("contrasts", [name for pair in self.contrasts for name in pair]),
            ("equal_drift", [*self.equal_drift.arms, *self.equal_drift.series]),
        ):
            for name in named:
                if name not in names:
                    raise ValueError(f"{field}: there is no arm '{name}'")
        if bool(self.equal_drift.arms) != bool(self.equal_drift.series):
            raise ValueError("equal_drift: name both the arms and the series that they are compared with")
        return self


def load_sweep(path: Path) -> SweepConfig:
    """Load a sweep file and make ``run`` absolute. Raises :class:`ConfigError`."""
    found = read_config(path, SweepConfig)
    return found.model_copy(update={"run": str(path.resolve().parent / found.run)})


@dataclass(frozen=True)
class Swept:
    """Result of a sweep. ``seconds`` is the time of this command; ``item_seconds`` is the time to compute all items of
    the table, today or before."""

    table: SweepTable
    arms: tuple[Arm, ...]
    judges: str
    """See `flows.stages.judge.who_judged`."""
    computed: int
    cached: int
    seconds: float
    item_seconds: float


def run_sweep(sweep: SweepConfig, components: Components, overrides: Sequence[str] = ()) -> Swept:
    """Run all arms, one after the other, in this process and its ``execution.workers``. An arm that can't go on, or has
    another base model, is in the table with the reason.

    Raises :class:`ConfigError`, before anything is computed, when an arm's settings are wrong or send work elsewhere,
    and :class:`RunStopped` when no arm came to its end.
    """
    started = time.perf_counter()
    trainings = [
        (arm, seed, load_config(Path(sweep.run), [*overrides, *arm.set, f"alignment.seed={seed}"]))
        for arm in sweep.arms
        for seed in sweep.seeds[: arm.seeds]
    ]
    for _, _, config in trainings:
        check_here(config, components)
    tally = _Tally(components)
    runs: dict[str, list[Training]] = {arm.name: [] for arm in sweep.arms}
    troubles: dict[str, str] = {}
    first_ended = started
    for number, (arm, seed, config) in enumerate(trainings):
        if number == 1:
            first_ended = time.perf_counter()
        # Without the first, which also computes the items that all share.
        spent = time.perf_counter() - first_ended
        left = "" if number < 2 else f", about {span(spent / (number - 1) * (len(trainings) - number))} left"
        Progress().line(f"training {number + 1} of {len(trainings)}: {arm.name}, seed {seed}{left}")
        try:
            runs[arm.name].append(tally.train(config, _generator(arm, seed, runs)))
        except RunStopped as stop:
            troubles[arm.name] = f"seed {seed}: {stop}"
            print(f"{arm.name}, {troubles[arm.name]}", file=sys.stderr)
    if tally.base is None:
        raise RunStopped(f"no arm came to its end; the first: {next(iter(troubles.values()))}")
    arms = tuple(
        Arm(
            name=arm.name,
            section=arm.section,
            settings=arm.set,
            runs=tuple(runs[arm.name]),
            trouble=troubles.get(arm.name),
        )
        for arm in sweep.arms
    )
    return Swept(
        table=sweep_table(
            sweep.name, tally.base, arms, sweep.contrasts, sweep.equal_drift.arms, sweep.equal_drift.series
        ),
        arms=arms,
        judges=tally.judges,
        computed=tally.computed,
        cached=tally.cached,
        seconds=time.perf_counter() - started,
        item_seconds=sum(tally.seconds.values()),
    )


def _generator(arm: ArmConfig, seed: int, runs: Mapping[str, Sequence[Training]]) -> str | None:
    if arm.generator is None:
        return None
    found = [run.lora for run in runs[arm.generator] if run.seed == seed]
    if not found:
        raise RunStopped(f"its generator, {arm.generator}, has no LoRA of this seed")
    return found[0]


def check_here(config: RunConfig, components: Components) -> None:
    """Check before any work. Raises ``MissingModel`` without the weights, :class:`ConfigError` when the config sends
    work elsewhere, which only a run through Prefect does."""
    components.model_folder(config.candidates.model)
    if config.execution.cluster or config.execution.hand_over:
        raise ConfigError(
            "this command computes on this machine: leave execution.cluster and execution.hand_over out; results that "
            "runs through Prefect have put into the store are used"
        )


class _Tally:
    """Runs trainings and keeps their common results."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self.base: tuple[ClipResult, ...] | None = None
        self.judges = ""
        self.computed = self.cached = 0
        self.seconds: dict[str, float] = {}
        """Seconds of each item, by key."""

    def train(self, config: RunConfig, generator: str | None) -> Training:
        with Run(config, STAGES, self._components, generator=generator, experiment=True) as run:
            run.walk()
            drop_unkept(run)
        view = run.view
        self._count(view)
        run.check()
        failed = [entry for entry in view.results[Evaluation.name] if entry.status == "failed"]
        if failed:
            raise RunStopped(
                f"{len(failed)} items of the evaluation failed, the first, {failed[0].item.name}: {failed[0].error}; "
                "run the same command again"
            )
        seen = [row for clip in evaluated(view) for row in with_looks(clip.results, clip.result, view.store)]
        rows = sorted(seen, key=lambda row: (row.model, row.clip_id, row.seed))
        base = tuple(row for row in rows if row.model == "base")
        if self.base is None:
            self.base, self.judges = base, who_judged(view)
        elif base != self.base:
            raise RunStopped(
                "this arm is evaluated against another base model, other clips or other noise than those before; "
                "arms of a sweep may differ in how many candidates they have, selection, shards and alignment"
            )
        one, lora = view.one(Finetune), lora_digest(view)
        assert one is not None and lora is not None  # The evaluation needed them.
        record = TrainingRecord.model_validate(one[1].record)
        return Training(
            seed=config.alignment.seed,
            lora=lora,
            samples=record.samples,
            steps=record.steps,
            results=tuple(row for row in rows if row.model == "aligned"),
        )

    def _count(self, view: View) -> None:
        for entries in view.results.values():
            for entry in entries:
                self.computed += entry.status == "computed"
                self.cached += entry.status == "cached"
                if entry.result is not None:
                    self.seconds[entry.result.key] = entry.result.provenance.get("seconds", 0.0)


def sweep_page(sweep: SweepConfig, swept: Swept, command: str) -> Page:
    """Make the page of a sweep: the question, the results, the machine and versions."""
    table = swept.table
    asked = Section(
        "",
        (
            *([sweep.about] if sweep.about else []),
            f"{table.clips} held-out clips, {table.videos} videos of each model with the same noise; training seeds "
            f"{', '.join(map(str, sweep.seeds))}. Written by `{command}`.",
            f"{swept.judges}.",
        ),
    )
    beside = (
        []
        if sweep.beside is None
        else [Section("Beside it", (sweep.beside.about, Table(sweep.beside.columns, sweep.beside.rows)))]
    )
    return Page(sweep.name, (asked, *sweep_sections(table), *beside, _made_with(swept)))


def _made_with(swept: Swept) -> Section:
    libraries = ", ".join(f"{name} {value}" for name, value in provenance().items() if name != "machine")
    rows = [(f"{arm.name}, seed {run.seed}", run.lora) for arm in swept.arms for run in arm.runs]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    sentence = (
        f"{today}, {processor()}; {libraries}. This command took {span(swept.seconds)} ({swept.computed:,} items "
        f"computed, {swept.cached:,} cached); to compute all items of the table takes {span(swept.item_seconds)}."
    )
    return Section("Made with", (sentence, Table(("training", "blake3 of its LoRA"), tuple(rows))))
