"""What a run would do, and why, without computing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from flows.engine.components import Components
from flows.engine.estimates import MODEL_STAGES, Estimate, Estimates, runs_model, work_of
from flows.engine.inputs import RunInputs
from flows.engine.run_folder import last_items
from flows.engine.stage import Item, ItemResult, Results, StageName
from flows.engine.workbench import provenance
from flows.stages import STAGES, references
from ipa_core.config import RunConfig
from ipa_core.models.location import MissingModel
from storage import Action, ActionResult, Store
from storage.digest import digest_bytes


@dataclass(frozen=True)
class StagePlan:
    name: StageName
    items: int
    cached: int
    compute: int
    uncounted: int
    """Estimate of the items to compute that can't be listed before a stage upstream has run."""
    why: dict[str, int]
    """Reason -> number of items to compute."""
    estimate: Estimate
    """Of all to compute."""


@dataclass(frozen=True)
class Plan:
    stages: tuple[StagePlan, ...]
    drift: dict[str, int] = field(default_factory=dict)
    """`torch: 2.12.0 -> 2.13.0` -> number of cached results that were made with the first; the second is here."""
    notes: tuple[str, ...] = ()
    """What the plan had to do without."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_run(store: Store, config: RunConfig, components: Components, clips: int | None = None) -> Plan:
    """Walk the stages as a run would. Where an item would be computed, go on with what it gave the last time.

    With ``clips`` the plan is for so many new clips, and the config's sources are not looked at.
    """
    walk = _Walk(store, config, components, clips)
    walk.all_stages()
    walk.missing_bytes()
    return walk.plan()


class _Inputs(RunInputs):
    """Goes on without the model's weights: then everything that needs them counts as to be computed."""

    missing: str | None = None
    """The sentence that says so."""

    def model_weights(self) -> str:
        if self.missing is None:
            try:
                return super().model_weights()
            except MissingModel as missing:
                self.missing = str(missing)
        return digest_bytes(b"the weights are not here")


class _Walk:
    def __init__(self, store: Store, config: RunConfig, components: Components, clips: int | None) -> None:
        self._store = store
        self._config = config
        self._clips = clips
        self._inputs = _Inputs(store, config, components, keep=False)
        self._here = provenance()
        self._drift: Counter[str] = Counter()
        self._last = last_items(store)
        self._results = Results()
        self._pending: dict[str, StageName] = {}
        self._reasons: dict[StageName, Counter[str]] = {}
        self._uncounted: dict[StageName, float] = {}

    def all_stages(self) -> None:
        for stage in STAGES:
            self._results[stage.NAME] = []
            self._reasons[stage.NAME] = Counter()
            for wave in () if self._clips else stage.WAVES:
                for item in wave(self._config, self._results, self._inputs).items:
                    self._results[stage.NAME].append(self._look(stage.NAME, item))
            self._uncounted[stage.NAME] = self._estimate_uncounted(stage.NAME)

    def _look(self, stage: StageName, item: Item) -> ItemResult:
        key = item.action.key
        known = self._store.actions.get(stage, key)
        upstream = next((self._pending[parent] for parent in item.parents if parent in self._pending), None)
        if known is not None and upstream is None:
            self._drift.update(_drift(known.provenance, self._here))
            return ItemResult(item, "cached", known)
        before = self._before(stage, item.name)
        self._pending[key] = stage
        if upstream:
            reason = f"follows from {upstream}"
        elif self._inputs.missing and runs_model(item.action):
            reason = "the weights are not here"
        else:
            reason = why(item.action, before)
        self._reasons[stage][reason] += 1
        guess = known or before
        return ItemResult(item, "pending", replace(guess, action=item.action) if guess else None)

    def _before(self, stage: StageName, name: str) -> ActionResult | None:
        key = self._last.get((stage, name))
        return self._store.actions.get(stage, key) if key else None

    def _estimate_uncounted(self, stage: StageName) -> float:
        held_out = self._config.clips.held_out
        match stage:
            case "clips":
                return self._clips or 0
            case "poses":
                windows = [len(result.record["clips"]) for _, result in self._results.done("clips")]
                return (self._blind("clips") + self._uncounted["clips"]) * (fmean(windows) if windows else 1)
            case "candidates":
                return (self._blind("poses") + self._uncounted["poses"]) * (1 - held_out)
            case "scores":
                per_clip = self._config.candidates.per_clip
                return (self._blind("candidates") + self._uncounted["candidates"]) * per_clip
            case "selection" | "shards" | "finetune":
                return 0 if self._results[stage] else 1
            case "references":
                alignment = self._config.alignment
                unknown = alignment.method == "ipa" and self._results.one("shards") is None
                return alignment.steps * alignment.batch_size / references.EPOCHS if unknown else 0
            case "evaluation":
                clips = (self._blind("poses") + self._uncounted["poses"]) * held_out
                return min(clips, self._config.evaluation.max_clips or clips) * 2
            case _:
                return 0

    def _blind(self, stage: StageName) -> int:
        """Items of which nothing is known that downstream items could be listed from."""
        return sum(entry.status == "pending" and entry.result is None for entry in self._results[stage])

    def missing_bytes(self) -> None:
        """Cached items whose bytes are gone although something that will be computed, or handed over, needs them."""
        needs = {
            digest
            for entries in self._results.values()
            for entry in entries
            if entry.status == "pending" and not any(parent in self._pending for parent in entry.item.parents)
            for digest in entry.item.needs
        }
        for stage in ("finetune", "shards"):
            needs |= {output.digest for _, result in self._results.done(stage) for output in result.outputs.values()}
        missing = self._store.objects.missing(needs)
        for name, entries in self._results.items():
            for number, entry in enumerate(entries):
                outputs = entry.result.outputs.values() if entry.result else ()
                if entry.status == "cached" and any(output.digest in missing for output in outputs):
                    entries[number] = replace(entry, status="pending")
                    self._reasons[name]["bytes missing"] += 1

    def plan(self) -> Plan:
        """What was found. Reads the weights' digest where a stage would, to tell whose times to go by."""
        estimates = Estimates(self._store, self._config, self._inputs.model_weights())
        stages = tuple(self._stage_plan(stage.NAME, estimates) for stage in STAGES)
        return Plan(stages, dict(self._drift), (self._inputs.missing,) if self._inputs.missing else ())

    def _stage_plan(self, stage: StageName, estimates: Estimates) -> StagePlan:
        entries = self._results[stage]
        pending = [entry for entry in entries if entry.status == "pending"]
        uncounted = round(self._uncounted[stage])
        priced = [entry for entry in pending if stage not in MODEL_STAGES or runs_model(entry.item.action)]
        return StagePlan(
            name=stage,
            items=len(entries) + uncounted,
            cached=len(entries) - len(pending),
            compute=len(pending),
            uncounted=uncounted,
            why=dict(self._reasons[stage]),
            estimate=estimates.of(stage, sum(work_of(entry.item.action) for entry in priced) + uncounted),
        )


def _drift(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What may change low bits and differs from when a result was made."""
    return [f"{name}: {was[name]} -> {now[name]}" for name in now if name in was and was[name] != now[name]]


_INPUT_WORDS = {
    "model": "model weights changed",
    "weights": "pose weights changed",
    "people": "pose weights changed",
    "video": "the video's bytes changed",
    "lora": "the LoRA changed",
    "verdicts": "decisions by hand changed",
    "judge": "the hand score's coefficients or network changed",
}


def why(action: Action, before: ActionResult | None) -> str:
    """What distinguishes an action from the one of the same name in an earlier run."""
    if before is None:
        return "new input"
    old = before.action
    if old.version != action.version:
        return f"stage version: {old.version} -> {action.version}"
    config = _section(action.stage)
    changes = [
        f"{config}.{name}: {was} -> {now}" for name, was, now in _differences(old.config, action.config) if was != now
    ]
    changes += [
        _INPUT_WORDS.get(name, f"{name} changed")
        for name in sorted({*old.inputs, *action.inputs})
        if old.inputs.get(name) != action.inputs.get(name)
    ]
    return ", ".join(dict.fromkeys(changes)) or "not in the store"


def _section(stage: str) -> str:
    """Name of the config section that a stage's settings come from."""
    return {"references": "alignment", "finetune": "alignment", "evaluation": "candidates"}.get(stage, stage)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name in sorted({*old, *new}):
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found += _differences(was, now, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", was, now))
    return found
