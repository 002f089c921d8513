"""Say what a run would do, and why, without computing anything."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flows.engine.components import Components
from flows.engine.course import Expected
from flows.engine.estimates import Estimate, Estimates
from flows.engine.inputs import RunInputs
from flows.engine.machine import provenance
from flows.engine.room import shortage
from flows.engine.run_folder import last_items
from flows.engine.stage import Item, ItemResult, RunStopped, Stage
from flows.engine.view import View
from flows.engine.walk import Scope, Stages, looked_up
from ipa_core.config import Config, ConfigError, Execution, RunConfig, is_later
from ipa_core.models.location import MissingModel
from storage import Action, ActionResult, Store
from storage.digest import digest_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StagePlan:
    name: str
    items: int
    cached: int
    compute: int
    uncounted: int
    """Estimated number of items to compute that can't be listed before a stage upstream has run."""
    why: dict[str, int]
    """Reason -> number of items to compute."""
    estimate: Estimate
    """Estimate for all items to compute."""


@dataclass(frozen=True)
class Plan:
    stages: tuple[StagePlan, ...]
    drift: dict[str, int] = field(default_factory=dict)
    """`torch: 2.12.0 -> 2.13.0` -> number of cached results made with the first; the second is installed here."""
    notes: tuple[str, ...] = ()
    """Sentences of the stages about the input, and about missing weights."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_run(
    store: Store,
    config: RunConfig,
    stages: Stages,
    components: Components,
    clips: int | None = None,
    *,
    refresh: frozenset[str] = frozenset(),
    generator: str | None = None,
) -> Plan:
    """Walk the stages as a run would. An item to compute keeps the result that it had the last time.

    With ``clips`` the plan is for that many new clips, and ignores the config's sources. ``refresh`` and ``generator``
    are those of the run.
    """
    inputs = _Inputs(store, config, components, keep=False, generator=generator)
    prediction = _Prediction(store, config, inputs, clips, refresh)
    for stage in stages:
        prediction.check(stage)
    for stage in stages:
        prediction.walk(stage)
    prediction.find_missing_bytes(stages)
    return prediction.plan(stages)


def expected_work(
    store: Store, config: RunConfig, stages: Stages, components: Components, scope: Scope, generator: str | None
) -> dict[str, Expected]:
    """Forecast the work of a run's stages. Empty when a stage can't be planned: the run says why when it gets there."""
    walked, looked_up_only = scope.walked(stages), scope.only_looked_up(stages)
    try:
        plan = plan_run(store, config, walked, components, refresh=scope.refresh, generator=generator)
    except (RunStopped, ConfigError) as trouble:
        log.debug("no forecast: %s", trouble)
        return {}
    estimates = {row.name: row.estimate for row in plan.stages if row.name not in looked_up_only}
    return {name: Expected(one.items, one.seconds if one.items else 0.0) for name, one in estimates.items()}


class _Inputs(RunInputs):
    """Inputs that may lack the model's weights; everything that needs them then counts as to be computed."""

    missing: str | None = None
    """The message about the missing weights."""

    @property
    def model_weights(self) -> str:
        if self.missing is None:
            try:
                return super().model_weights
            except MissingModel as missing:
                self.missing = str(missing)
        return digest_bytes(b"the weights are not here")


class Forecast:
    """Input of a stage's `forecast`: the view, and the number of upstream items that are not known yet."""

    def __init__(self, view: View, new_clips: int) -> None:
        self.view = view
        self.new_clips = new_clips
        self._uncounted: dict[str, float] = {}

    def unknown(self, stage: type[Stage[Any]]) -> float:
        """Return the number of items that can't be listed yet, and of listed ones without a known result."""
        entries = self.view.results.get(stage.name, [])
        blind = sum(entry.status == "pending" and entry.result is None for entry in entries)
        return blind + self._uncounted[stage.name]

    def count(self, stage: Stage[Any]) -> None:
        self._uncounted[stage.name] = stage.forecast(self)

    def uncounted(self, stage: str) -> int:
        return round(self._uncounted[stage])


class _Prediction:
    """Walks the stages. A missing item is pending, with the last result of an item of the same name."""

    def __init__(
        self, store: Store, config: RunConfig, inputs: _Inputs, clips: int | None, refresh: frozenset[str]
    ) -> None:
        self._store = store
        self._refresh = refresh
        self._config = config
        self._inputs = inputs
        self._clips = clips
        self._view = View(config, inputs)
        self._forecast = Forecast(self._view, clips or 0)
        self._here = provenance()
        self._drift: Counter[str] = Counter()
        self._last = last_items(store)
        self._pending: dict[str, str] = {}
        """Stage of each pending item, by key."""
        self._reasons: dict[str, Counter[str]] = {}
        self._notes: list[str] = []

    def check(self, stage: Stage[Any]) -> None:
        if self._clips:
            return
        try:
            stage.check(self._view)
        except MissingModel as missing:  # A plan needs no weights.
            self._inputs.missing = str(missing)

    def walk(self, stage: Stage[Any]) -> None:
        self._reasons[stage.name] = Counter()
        if self._clips:
            self._view.add(stage.name, ())
        else:
            self._notes += [f"note: {note}" for note in stage.notes(self._view)]
            for items, known in looked_up(self._view, stage):
                self._view.add(stage.name, [self._look(stage, item, known.get(item.action.key)) for item in items])
        self._forecast.count(stage)

    def _look(self, stage: Stage[Any], item: Item, known: ActionResult | None) -> ItemResult:
        upstream = next((self._pending[parent] for parent in item.parents if parent in self._pending), None)
        refresh = stage.name in self._refresh
        if known is not None and upstream is None and not refresh:
            self._drift.update(_drift(known.provenance, self._here))
            if stage.place == "gpu" and "attention" in known.provenance:
                self._drift.update(_drift(_sampled(known.provenance), _sampling(self._config.execution)))
            return ItemResult(item, "cached", known)
        key = self._last.get((stage.name, item.name))
        before = self._store.actions.get(stage.name, key) if key else None
        self._pending[item.action.key] = stage.name
        if upstream:
            reason = f"follows from {upstream}"
        elif self._inputs.missing and "model" in item.action.inputs:
            reason = "the weights are not here"
        elif refresh:
            reason = "refreshed"
        else:
            reason = why(stage, item.action, before, self._config)
        self._reasons[stage.name][reason] += 1
        guess = known or before
        if guess is not None and not stage.foretells(guess, item.action):
            guess = None
        return ItemResult(item, "pending", replace(guess, action=item.action) if guess else None)

    def find_missing_bytes(self, stages: Stages) -> None:
        """Mark cached items pending if their bytes are gone and an item to compute, or the run's folder, needs them."""
        results = self._view.results
        needs = {
            digest
            for entries in results.values()
            for entry in entries
            if entry.status == "pending" and not any(parent in self._pending for parent in entry.item.parents)
            for digest in entry.item.needs
        }
        for stage in stages:
            if stage.handed_on:
                done = results.done(stage.name)
                needs |= {output.digest for _, result in done for output in result.outputs.values()}
        missing = self._store.objects.missing(needs)
        for name, entries in results.items():
            for number, entry in enumerate(entries):
                outputs = entry.result.outputs.values() if entry.result else ()
                if entry.status == "cached" and any(output.digest in missing for output in outputs):
                    entries[number] = replace(entry, status="pending")
                    self._reasons[name]["bytes missing"] += 1

    def plan(self, stages: Stages) -> Plan:
        """Return the plan. Read the weights' digest as a stage would, because times are measured per model."""
        estimates = Estimates(self._store, self._config, self._inputs.model_weights)
        rows = tuple(self._stage_plan(stage, estimates) for stage in stages)
        notes = list(self._notes)
        needed = sum(row.estimate.bytes or 0 for row in rows)
        sentence = shortage(self._store, "the run", needed) if needed else None
        notes += [f"note: {sentence}"] if sentence else []
        if not self._store.exists:
            notes.append(f"note: there is no store at {self._store.address} yet; a run makes it")
        notes += [self._inputs.missing] if self._inputs.missing else []
        return Plan(rows, dict(self._drift), tuple(notes))

    def _stage_plan(self, stage: Stage[Any], estimates: Estimates) -> StagePlan:
        entries = self._view.results[stage.name]
        pending = [entry for entry in entries if entry.status == "pending"]
        uncounted = self._forecast.uncounted(stage.name)
        work = sum(stage.work(entry.item.action) for entry in pending)
        work += uncounted * stage.forecast_work(self._config)
        return StagePlan(
            name=stage.name,
            items=len(entries) + uncounted,
            cached=len(entries) - len(pending),
            compute=len(pending),
            uncounted=uncounted,
            why=dict(self._reasons[stage.name]),
            estimate=estimates.of(stage, work),
        )


def _drift(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the changes since a result was made that may change low bits."""
    return [f"{name}: {was[name]} -> {now[name]}" for name in now if name in was and was[name] != now[name]]


def _sampled(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the execution settings with which videos were made, as far as they may change low bits."""
    compiled, gpus = "compiled" in provenance, int(provenance.get("gpus_per_clip", 1))
    return {"execution.compile": compiled, "execution.gpus_per_clip": gpus}


def _sampling(execution: Execution) -> dict[str, Any]:
    return {"execution.compile": execution.compile, "execution.gpus_per_clip": execution.gpus_per_clip}


_INPUT_WORDS = {
    "model": "model weights changed",
    "weights": "pose weights changed",
    "people": "pose weights changed",
    "video": "the video's bytes changed",
    "lora": "the LoRA changed",
    "verdicts": "reviews changed",
    "judge": "the hand score's coefficients or network changed",
    "second_judge": "the second judge changed",
}


def why(stage: Stage[Any], action: Action, before: ActionResult | None, config: RunConfig) -> str:
    """Return the difference between an action and the one of the same name in an earlier run."""
    if before is None:
        return "new input"
    old = before.action
    if old.version != action.version:
        return f"stage version: {old.version} -> {action.version}"
    changes = [
        f"{_path(stage, name, config)}: {_shown(was, stage, name, config)} -> {_shown(now, stage, name, config)}"
        for name, was, now in _differences(old.config, action.config)
        if was != now
    ]
    changes += [
        _INPUT_WORDS.get(name, f"{name} changed")
        for name in sorted({*old.inputs, *action.inputs})
        if old.inputs.get(name) != action.inputs.get(name)
    ]
    return ", ".join(dict.fromkeys(changes)) or "not in the store"


_ABSENT = object()


def _path(stage: Stage[Any], name: str, config: RunConfig) -> str:
    """Return the config path of a setting in a key."""
    fields = stage.fields_of(config)
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        start = ".".join(parts[:length])
        if start in fields:
            return ".".join([fields[start], *parts[length:]])
    return f"{stage.section}.{name}"


def _shown(value: Any, stage: Stage[Any], name: str, config: RunConfig) -> Any:
    """Return the value to show. A later field that the key leaves out is at its default."""
    if value is not _ABSENT:
        return value
    if name in stage.absent:
        return stage.absent[name]
    node: Any = config
    *parents, last = _path(stage, name, config).split(".")
    for parent in parents:
        node = getattr(node, parent, None)
    about = type(node).model_fields.get(last) if isinstance(node, Config) else None
    return about.get_default(call_default_factory=True) if about is not None and is_later(about) else None


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name in sorted({*old, *new}):
        was, now = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found += _differences(was, now, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", was, now))
    return found
