"""`ipa score preview`: what early rejection (`candidates.early`) costs and saves on a config's model, on a few clips.

All candidates are finished and previewed at many noise levels on the way. Each setting is then replayed on them. The
generated candidates and their scores are items of the usual stages, so the store keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3
from pydantic import ValidationError

from flows.engine.components import Components
from flows.engine.loras import check_added
from flows.engine.progress import Progress
from flows.engine.run import Run
from flows.engine.stage import Item, ItemResult, RunStopped, Stage
from flows.engine.walk import Scope
from flows.experiments.sweep import check_here
from flows.stages import STAGES
from flows.stages.candidates import Candidates, SeedGroup
from flows.stages.poses import Poses
from flows.stages.scores import Scores as ScoresStage
from flows.stages.scores import scored_candidates
from ipa_core.config import CandidatesConfig, ConfigError, EarlyConfig, LoraFile, RunConfig
from ipa_core.generation.calibration import (
    Bar,
    Estimate,
    Result,
    Scores,
    bar_of,
    fewer,
    full,
    rank_correlation,
    ratio,
    replayed,
    screened,
)

LEVELS: Final = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6)
ALL: Final = "all candidates"
LORA_STEPS: Final = 4
SHARES: Final = {0.5: "half", 0.25: "a quarter"}
EVEN: Final = 0.5
"""Cost at which the alternatives are compared: half of all candidates of the config."""


@dataclass(frozen=True)
class Level:
    """A noise level at which all candidates of a setting were previewed. steps: those before it, with its own."""

    setting: str
    t: float
    steps: int
    correlation: Estimate | None


@dataclass(frozen=True)
class Way:
    """A way to generate. best, kept, strict: as shares of what all candidates of the first setting give; the same
    with `even_` for fewer candidates of the way's own setting, all finished, at equal cost. per_kept, per_strict: full
    generations (of the first setting) that a kept sample costs; None if nothing is kept."""

    setting: str
    name: str
    cost: float
    best: Estimate
    kept: Estimate
    strict: Estimate
    even_best: float
    even_kept: float
    even_strict: float
    per_kept: float | None
    per_strict: float | None


@dataclass(frozen=True)
class Calibration:
    clips: int
    per_clip: int
    threshold: float
    strict: float
    levels: tuple[Level, ...]
    ways: tuple[Way, ...]
    alternatives: tuple[Way, ...]
    """Ways that cost at most :data:`EVEN`: the ways to spend the same, each at its best."""


@dataclass(frozen=True)
class _Setting:
    name: str
    config: RunConfig
    clips: tuple[Scores, ...]


def calibrate(
    config: RunConfig,
    components: Components,
    clips: int,
    per_clip: int,
    *,
    shifts: Sequence[float] = (),
    few_steps: Sequence[int] = (),
    unguided: bool = False,
    guidance_until: Sequence[float] = (),
    lora: LoraFile | None = None,
    lora_steps: int = LORA_STEPS,
) -> Calibration:
    """Generate ``per_clip`` candidates of so many training clips by the config, and by its variants.

    ``shifts``: the same with other shifts, previewed too. ``few_steps``: the same noise in so few steps. ``unguided``
    and ``guidance_until``: without guidance, or with guidance until these noise levels, if the config has some.
    ``lora``: a step-distilled LoRA in ``lora_steps`` unguided steps. Raises ``ConfigError``, and ``RunStopped`` when an
    item fails.
    """
    check_here(config, components)
    changes: dict[str, dict[str, Any]] = {_name(config): {}}
    changes |= {f"shift {shift:g}": {"shift": shift} for shift in shifts if shift != config.candidates.shift}
    fewer_passes: dict[str, dict[str, Any]] = {f"{steps} steps": {"steps": steps} for steps in few_steps}
    if max(few_steps, default=0) >= config.candidates.steps:
        raise ConfigError(
            f"a first pass of {max(few_steps)} steps is no cheaper: candidates.steps is {config.candidates.steps}"
        )
    if config.candidates.guidance_scale > 1:
        changes |= {"no guidance": {"guidance_scale": 1.0}} if unguided else {}
        fewer_passes |= {f"guidance until t = {t:g}": {"guidance_until": t} for t in guidance_until}
    elif unguided or guidance_until:
        raise ConfigError("candidates.guidance_scale is 1: there is no guidance that could be switched off")
    if lora is not None:
        told = {"loras": (lora,), "steps": lora_steps, "guidance_scale": 1.0}
        fewer_passes[f"{Path(lora.path).name} in {lora_steps} steps"] = told
        check_added((lora,), "the LoRA", config.candidates, components)
    previewed = {name: _changed(config, per_clip, change) for name, change in changes.items()}
    finished = {name: _changed(config, per_clip, one, previewed=False) for name, one in fewer_passes.items()}
    settings = [_generated(variant, components, clips, name) for name, variant in previewed.items()]
    cheap = [_generated(variant, components, clips, name) for name, variant in finished.items()]
    first = settings[0]
    bar = bar_of(first.clips, config.selection.threshold, config.selection.per_clip)
    ways = _Ways(first, bar)
    for setting in settings:
        ways.of_setting(setting)
    for setting in cheap:
        ways.of_cheap(setting)
    return Calibration(
        clips=len(first.clips),
        per_clip=per_clip,
        threshold=bar.threshold,
        strict=round(bar.strict, 4),
        levels=tuple(level for setting in settings for level in _levels(setting)),
        ways=tuple(ways.found),
        alternatives=tuple(ways.alternatives([*settings, *cheap])),
    )


def _name(config: RunConfig) -> str:
    return f"shift {config.candidates.shift:g}"


def _changed(config: RunConfig, per_clip: int, change: dict[str, Any], *, previewed: bool = True) -> RunConfig:
    """Raises ``ConfigError`` for a change that the config does not take."""
    told = dict(config.candidates) | {"per_clip": per_clip, "group": None, "early": None, **change}
    try:
        own = CandidatesConfig.model_validate(told)
    except ValidationError as error:
        about = error.errors()[0]
        raise ConfigError(
            f"candidates.{'.'.join(map(str, about['loc']))}: {about['msg'].replace('Input should', 'must', 1)} "
            f"(got {about['input']})"
        ) from None
    if previewed:
        by_step = {own.steps_to(level): level for level in reversed(LEVELS)}  # One level a step, the highest.
        at = tuple(level for step, level in sorted(by_step.items()) if step < own.steps)
        if not at:
            raise ConfigError(f"candidates.steps is {own.steps}: no step is left after a preview; take more")
        own = own.model_copy(update={"early": EarlyConfig(at=at, keep=1.0)})
    return config.model_copy(update={"candidates": own})


def _generated(config: RunConfig, components: Components, clips: int, name: str) -> _Setting:
    Progress().line(f"{name}: {clips} clips, {config.candidates.per_clip} candidates of each")
    with Run(config, STAGES, components, Scope(last=Poses.name), experiment=True) as run:
        run.walk(forecast=False)
        items = [one for one in Candidates().items(run.view) if isinstance(one, Item)]
        items.sort(key=lambda item: blake3(f"preview/{item.action.inputs['clip']}".encode()).digest())
        for stage, chosen in ((Candidates(), items[:clips]), (ScoresStage(), None)):
            asked = list(stage.items(run.view)) if chosen is None else chosen
            run.view.add(stage.name, _done(run, stage, [one for one in asked if isinstance(one, Item)]))
        found = _scores(run)
    run.check()
    return _Setting(name, config, tuple(found))


def _done(run: Run, stage: Stage[Any], items: Sequence[Item]) -> list[ItemResult]:
    if not items:
        raise RunStopped("no training clip with a pose can be scored; add videos or lower clips.held_out")
    entries = run.items(stage, items)
    for entry in entries:
        if entry.done is None:
            raise RunStopped(f"{entry.item.name} failed: {entry.error}; run the same command again")
    return entries


def _scores(run: Run) -> list[Scores]:
    final: dict[str, list[float]] = {}
    for one in scored_candidates(run.view):
        final.setdefault(one.generated.action, []).append(one.scored.score.score or 0.0)
    groups = {result.key: SeedGroup.model_validate(result.record) for _, result in run.view.done(Candidates)}
    return [Scores(np.array(final[key]), _previews(group)) for key, group in groups.items()]


def _previews(group: SeedGroup) -> dict[float, Any]:
    found: dict[float, list[float]] = {}
    for preview in group.previews:
        found.setdefault(preview.t, []).append(preview.score or 0.0)
    return {t: np.array(scores) for t, scores in found.items()}


def _levels(setting: _Setting) -> list[Level]:
    noise = setting.config.candidates.noise_levels
    return [
        Level(setting.name, t, 1 + int(np.argmin(np.abs(np.array(noise) - t))), rank_correlation(setting.clips, t))
        for t in setting.clips[0].previews
    ]


class _Ways:
    """Collects the ways to generate, each compared with all candidates of the first setting."""

    def __init__(self, first: _Setting, bar: Bar) -> None:
        self.found: list[Way] = []
        self._first, self._bar, self._whole = first, bar, full(first.clips, bar)

    def of_setting(self, setting: _Setting) -> None:
        self.found.append(self._way(setting, ALL, full(setting.clips, self._bar)))
        levels = list(setting.clips[0].previews)
        rules = {
            f"t = {t:.2f}, {words}": EarlyConfig(at=(t,), keep=keep) for keep, words in SHARES.items() for t in levels
        }
        rules |= {
            f"t = {one:.2f} and {two:.2f}, half twice": EarlyConfig(at=(one, two))
            for one, two in zip(levels, levels[2:], strict=False)
        }
        for t in levels:
            least = float(np.median([clip.previews[t].max() for clip in setting.clips]))
            rules[f"t = {t:.2f}, half of half of the clips"] = EarlyConfig(at=(t,), least=least)
        for name, rule in rules.items():
            result = replayed(setting.clips, self._bar, rule, setting.config.candidates)
            self.found.append(self._way(setting, name, result))

    def of_cheap(self, setting: _Setting) -> None:
        """Take a setting of fewer passes as a way of its own, and as a first pass that says who is generated in full.
        Its candidates come from the same noise."""
        self.found.append(self._way(setting, ALL, full(setting.clips, self._bar)))
        for keep, words in SHARES.items():
            found = screened(self._first.clips, setting.clips, self._bar, keep, self._unit(setting))
            self.found.append(self._way(self._first, f"first {setting.name}, then {words}", found))

    def alternatives(self, settings: Sequence[_Setting]) -> Iterator[Way]:
        """Give fewer candidates of each setting, and of early rejection and of first passes the setting that gives
        most. It is chosen and measured on the same clips, so it looks better than it is."""
        for setting in settings:
            share = min(1.0, EVEN / self._unit(setting))
            count = share * len(self._first.clips[0].final)
            yield self._way(setting, f"{count:.3g} candidates", fewer(setting.clips, self._bar, share))
        for begin in ("t = ", "first "):
            cheap = [one for one in self.found if one.name.startswith(begin) and one.cost <= EVEN]
            for name in dict.fromkeys(one.setting for one in cheap):
                own = [one for one in cheap if one.setting == name]
                yield max(own, key=lambda one: (one.kept.value, one.strict.value, -one.cost))

    def _unit(self, setting: _Setting) -> float:
        """Return the passes of one candidate of a setting, as a share of the first setting's."""
        return sum(setting.config.candidates.passes) / sum(self._first.config.candidates.passes)

    def _way(self, setting: _Setting, name: str, result: Result) -> Way:
        whole, candidates = self._whole, len(self._first.clips) * len(self._first.clips[0].final)
        even = fewer(setting.clips, self._bar, result.cost)
        cost = result.cost * self._unit(setting)
        kept, strict = (float(each.sum()) for each in (result.kept, result.strict))
        return Way(
            setting=setting.name,
            name=name,
            cost=cost,
            best=ratio(result.best, whole.best),
            kept=ratio(result.kept, whole.kept),
            strict=ratio(result.strict, whole.strict),
            even_best=ratio(even.best, whole.best).value,
            even_kept=ratio(even.kept, whole.kept).value,
            even_strict=ratio(even.strict, whole.strict).value,
            per_kept=cost * candidates / kept if kept else None,
            per_strict=cost * candidates / strict if strict else None,
        )
