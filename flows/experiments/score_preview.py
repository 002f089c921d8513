"""`ipa score preview`: what early rejection (`candidates.early`) costs and saves on a config's model, on a few clips.

All candidates are finished and previewed at many noise levels on the way. Each setting is then replayed on them. The
generated candidates and their scores are items of the usual stages, so the store keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from blake3 import blake3

from flows.engine.components import Components
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
from ipa_core.config import EarlyConfig, RunConfig
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
SHARES: Final = {0.5: "half", 0.25: "a quarter"}
_ENOUGH: Final = 12
"""Clips below which drawing them again says little."""
AIM: Final = 0.95
"""Share of the kept samples that early rejection should leave."""


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
) -> Calibration:
    """Generate ``per_clip`` candidates of so many training clips by the config, and by its variants.

    ``shifts``: the same with other shifts, previewed too. ``few_steps``: the same noise in so few steps. ``unguided``:
    without guidance, if the config has some. Raises ``ConfigError``, and ``RunStopped`` when an item fails.
    """
    check_here(config, components)
    changes: dict[str, dict[str, Any]] = {_name(config): {}}
    changes |= {f"shift {shift:g}": {"shift": shift} for shift in shifts if shift != config.candidates.shift}
    if unguided and config.candidates.guidance_scale > 1:
        changes["no guidance"] = {"guidance_scale": 1.0}
    passes = {f"{steps} steps": steps for steps in few_steps if steps < config.candidates.steps}
    settings = [
        _generated(_changed(config, per_clip, change), components, clips, name) for name, change in changes.items()
    ]
    few = [
        _generated(_changed(config, per_clip, {"steps": steps}, previewed=False), components, clips, name)
        for name, steps in passes.items()
    ]
    first = settings[0]
    bar = bar_of(first.clips, config.selection.threshold, config.selection.per_clip)
    ways = _Ways(first, bar)
    for setting in settings:
        ways.of_setting(setting)
    for setting in few:
        ways.of_few_steps(setting)
    return Calibration(
        clips=len(first.clips),
        per_clip=per_clip,
        threshold=bar.threshold,
        strict=round(bar.strict, 4),
        levels=tuple(level for setting in settings for level in _levels(setting)),
        ways=tuple(ways.found),
    )


def _name(config: RunConfig) -> str:
    return f"shift {config.candidates.shift:g}"


def _changed(config: RunConfig, per_clip: int, change: dict[str, Any], *, previewed: bool = True) -> RunConfig:
    own = config.candidates.model_copy(update={"per_clip": per_clip, "group": None, "early": None, **change})
    if previewed:
        by_step = {own.steps_to(level): level for level in reversed(LEVELS)}  # One level a step, the highest.
        at = tuple(level for step, level in sorted(by_step.items()) if step < own.steps)
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
        noise = setting.config.candidates.noise_levels
        unit = self._unit(setting)
        self._add(setting, "all candidates", full(setting.clips, self._bar), unit)
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
            self._add(setting, name, replayed(setting.clips, self._bar, rule, noise), unit)

    def of_few_steps(self, setting: _Setting) -> None:
        cost = setting.config.candidates.steps / self._first.config.candidates.steps
        self._add(setting, "all candidates", full(setting.clips, self._bar, cost), cost)
        for keep, words in SHARES.items():
            found = screened(self._first.clips, setting.clips, self._bar, keep, cost)
            self._add(self._first, f"first {setting.name}, then {words}", found, 1.0)

    def _unit(self, setting: _Setting) -> float:
        """Return the cost of one candidate of a setting, as a share of the first setting's: guidance doubles it."""
        passes = [1 + (one.config.candidates.guidance_scale > 1) for one in (setting, self._first)]
        return passes[0] / passes[1]

    def _add(self, setting: _Setting, name: str, result: Result, unit: float) -> None:
        whole, clips, per_clip = self._whole, len(self._first.clips), len(self._first.clips[0].final)
        even = fewer(setting.clips, self._bar, result.cost if name != "all candidates" else 1.0)
        cost = result.cost * unit if name != "all candidates" else unit
        kept, strict = (float(each.sum()) for each in (result.kept, result.strict))
        self.found.append(
            Way(
                setting=setting.name,
                name=name,
                cost=cost,
                best=ratio(result.best, whole.best),
                kept=ratio(result.kept, whole.kept),
                strict=ratio(result.strict, whole.strict),
                even_best=ratio(even.best, whole.best).value,
                even_kept=ratio(even.kept, whole.kept).value,
                even_strict=ratio(even.strict, whole.strict).value,
                per_kept=cost * clips * per_clip / kept if kept else None,
                per_strict=cost * clips * per_clip / strict if strict else None,
            )
        )


Table = tuple[str, str, tuple[str, ...], list[tuple[str, ...]]]
"""Caption, alignment (an `l` or an `r` for each column), head, rows."""


def tables(found: Calibration) -> list[Table]:
    """Return the tables that people read."""
    levels: list[tuple[str, ...]] = [
        (
            row.setting,
            f"{row.t:.2f}",
            str(row.steps),
            "–" if row.correlation is None else _estimate(row.correlation, ".2f"),
        )
        for row in found.levels
    ]
    ways: list[tuple[str, ...]] = [
        (
            *(row.setting, row.name, f"{row.cost:.2f}"),
            *(_estimate(one, ".0%") for one in (row.best, row.kept, row.strict)),
            " / ".join(_number(one, ".0%") for one in (row.even_best, row.even_kept, row.even_strict)),
            *("–" if one is None else f"{one:.2f}" for one in (row.per_kept, row.per_strict)),
        )
        for row in found.ways
    ]
    shares = "best, kept and strict are shares of what all candidates of the first setting give"
    return [
        (
            "Rank correlation of preview and final score within a clip",
            "lrrr",
            ("setting", "t", "steps until then", "correlation"),
            levels,
        ),
        (
            f"What a kept sample costs. Cost: share of the steps of all candidates; {shares}; "
            "at equal cost: fewer candidates of the same setting, all finished; last: full generations a sample",
            "llrrrrrrr",
            ("setting", "way", "cost", "best", "kept", "strict", "at equal cost", "per kept", "per strict"),
            ways,
        ),
    ]


def verdict(found: Calibration) -> list[str]:
    """Return sentences: how near early rejection of the first setting comes to the aim."""
    mine = [row for row in found.ways if row.setting == found.ways[0].setting and row.name.startswith("t =")]
    lines = [
        f"{found.clips} clips, {found.per_clip} candidates of each. Kept: a score of at least {found.threshold:g} "
        f"(selection.threshold). Strict: at least {found.strict:.3f}, which one finished candidate in ten reaches."
    ]
    if found.clips < _ENOUGH:
        lines.append(f"{found.clips} clips are an indication at most, and their intervals are too narrow.")
    for word in ("kept", "strict"):
        half = [row for row in mine if row.cost <= 0.5]
        enough = [row for row in mine if getattr(row, word).value >= AIM]
        if half:
            row = max(half, key=lambda row: getattr(row, word).value)
            share = _estimate(getattr(row, word), ".0%")
            lines.append(f"At half of the steps at most, {share} of the {word} samples stay ({row.name}).")
        if enough:
            row = min(enough, key=lambda row: row.cost)
            lines.append(f"{AIM:.0%} of the {word} samples cost {row.cost:.2f} of the steps ({row.name}).")
        else:
            lines.append(f"No setting keeps {AIM:.0%} of the {word} samples.")
    return lines


def _estimate(one: Estimate, form: str) -> str:
    value = _number(one.value, form)
    return value if one.low is None or one.high is None else f"{value} ({one.low:{form}} to {one.high:{form}})"


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else f"{value:{form}}"  # A share of nothing.
