"""Runs the stages in order: look up, have a crew compute the misses, heal, report. Knows no orchestrator."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from flows.engine.batches import Dispatcher
from flows.engine.components import Components
from flows.engine.inputs import RunInputs
from flows.engine.progress import Progress
from flows.engine.stage import STAGE_NAMES, Drop, Item, ItemResult, Results, RunStopped, Stage, StageName
from flows.engine.work import Crew
from flows.engine.workbench import Outcome
from flows.stages import STAGES
from ipa_core.config import RunConfig
from storage import ActionResult, Store

log = logging.getLogger(__name__)
Around = Callable[[StageName, Callable[[], None]], None]
"""``around(name, work)`` calls ``work``, which runs a stage; an orchestrator shows it as something of its own."""
REPAIRS = 10
"""Damaged inputs of one item that are made again before it counts as failed."""


@dataclass(frozen=True)
class Scope:
    """Which stages a run looks at. Stages before ``first`` must be complete in the store."""

    first: StageName = "clips"
    last: StageName = "evaluation"
    refresh: frozenset[StageName] = frozenset()

    def __post_init__(self) -> None:
        if STAGE_NAMES.index(self.first) > STAGE_NAMES.index(self.last):
            raise RunStopped(f"--from {self.first} comes after --to {self.last}")

    def stages(self) -> list[Stage]:
        return [stage for stage in STAGES if STAGE_NAMES.index(stage.NAME) <= STAGE_NAMES.index(self.last)]

    def only_looks_up(self, stage: Stage) -> bool:
        return STAGE_NAMES.index(stage.NAME) < STAGE_NAMES.index(self.first)


class UpstreamChanged(Exception):  # noqa: N818 - control flow: look everything up again
    """Bytes that were computed again came out different, so what was derived from them has to be derived anew."""


class Runner:
    """One run over one store. Afterwards ``results``, ``dropped`` and ``seconds`` tell what happened."""

    def __init__(
        self,
        store: Store,
        config: RunConfig,
        components: Components,
        progress: Progress,
        crew: Crew,
        generator: str | None = None,
    ) -> None:
        self.store = store
        self.config = config
        self.results = Results()
        self.dropped: list[Drop] = []
        self.seconds: dict[StageName, float] = {}
        self.inputs = RunInputs(store, config, components, generator=generator)
        self._progress = progress
        self._crew = crew
        self._dispatcher = Dispatcher(store, crew, config.execution.batch_minutes)
        self._renewed: set[str] = set()
        """Keys computed in this run: not refreshed twice, and counted as computed when looked up again."""

    def run(self, scope: Scope, around: Around = lambda name, work: work()) -> None:
        """Raises :class:`RunStopped`."""
        try:
            self._all_stages(scope, around)
        except UpstreamChanged as change:
            log.warning("%s; looking everything up again", change)
            try:
                self._all_stages(scope, around)
            except UpstreamChanged as again:
                raise RunStopped(f"{again} twice; is the store's disk damaged? `ipa store verify` tells") from None

    def items(self, stage: Stage, items: list[Item]) -> list[ItemResult]:
        """Items of a stage beside the run's own, looked up or computed; what they were made from is in ``results``.
        Raises :class:`RunStopped`."""
        try:
            return self._wave(stage, items, Scope())
        except UpstreamChanged as change:
            raise RunStopped(f"{change}; run the same command again") from None

    def close(self) -> None:
        self._crew.close()
        self.store.digests.save()

    def _all_stages(self, scope: Scope, around: Around) -> None:
        self.results.clear()
        self.dropped.clear()
        for stage in scope.stages():
            around(stage.NAME, lambda stage=stage: self._stage(stage, scope))  # type: ignore[misc]

    def _stage(self, stage: Stage, scope: Scope) -> None:
        started = time.perf_counter()
        entries: list[ItemResult] = []
        self.results[stage.NAME] = entries
        try:
            for wave in stage.WAVES:
                found = wave(self.config, self.results, self.inputs)
                self.dropped += found.dropped
                entries += self._wave(stage, list(found.items), scope)
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage.NAME] = self.seconds.get(stage.NAME, 0.0) + spent
            self._crew.end_stage()
            self._progress.finish(stage.NAME, entries)
        self._check(stage, entries)

    def _wave(self, stage: Stage, items: list[Item], scope: Scope) -> list[ItemResult]:
        refresh = stage.NAME in scope.refresh and not scope.only_looks_up(stage)
        known = self.store.actions.lookup(stage.NAME, [item.action.key for item in items])
        fresh = {key for key in known if not refresh or key in self._renewed}
        misses = list({item.action.key: item for item in items if item.action.key not in fresh}.values())
        self._progress.start(stage.NAME, cached=len(items) - len(misses), misses=len(misses))
        if scope.only_looks_up(stage):
            found = self._absent(stage, items, misses)
        else:
            found = self._compute(stage, misses, refresh)
        outcomes = {outcome.key: outcome for outcome in found}
        return [self._entry(item, known.get(item.action.key), outcomes.get(item.action.key)) for item in items]

    def _entry(self, item: Item, known: ActionResult | None, outcome: Outcome | None) -> ItemResult:
        if outcome is not None:
            status = "computed" if outcome.result else "failed"
            return ItemResult(item, status, outcome.result, outcome.error)  # type: ignore[arg-type]
        return ItemResult(item, "computed" if item.action.key in self._renewed else "cached", known)

    def _absent(self, stage: Stage, items: list[Item], misses: list[Item]) -> list[Outcome]:
        """Items of a stage that this run only looks up: a few may have failed in the run that computed it."""
        if len(misses) > self.config.execution.max_failed * len(items):
            raise RunStopped(
                f"{len(misses)} of {len(items)} items of {stage.NAME} are not in the store (the first: "
                f"{misses[0].name}); run without --from, or with --from {stage.NAME}"
            )
        return [Outcome(item.action.key, error="not in the store, and this run only looks it up") for item in misses]

    def _compute(self, stage: Stage, items: list[Item], refresh: bool) -> list[Outcome]:
        outcomes: dict[str, Outcome] = {}
        lost = {digest for item in items for digest in item.needs}
        waiting = items
        for _ in range(REPAIRS):
            self.restore(lost)
            found = self._dispatcher.compute(stage, waiting, refresh, self._on_done) if waiting else []
            outcomes |= {outcome.key: outcome for outcome in found}
            lost = {outcome.lost for outcome in found if outcome.lost}
            waiting = [item for item in waiting if outcomes[item.action.key].lost]
        for key, outcome in outcomes.items():
            if outcome.lost:
                outcomes[key] = replace(
                    outcome, lost=None, error=f"its input {outcome.lost[:12]} is damaged again and again"
                )
        self._renewed |= {outcome.key for outcome in outcomes.values() if outcome.result}
        return list(outcomes.values())

    def _on_done(self, outcome: Outcome) -> None:
        if not outcome.lost:
            self._progress.advance(outcome.error)

    def restore(self, digests: set[str]) -> None:
        """Make sure that these objects are in the store, computing again what made them."""
        missing = self.store.objects.missing(digests)
        if not missing:
            return
        makers: dict[str, tuple[Stage, Item, ActionResult]] = {}
        for stage in STAGES:
            for entry in self.results.get(stage.NAME, []):
                if entry.result and any(output.digest in missing for output in entry.result.outputs.values()):
                    makers[entry.item.action.key] = (stage, entry.item, entry.result)
        made = {output.digest for _, _, result in makers.values() for output in result.outputs.values()}
        if missing - made:
            lost = sorted(missing - made)[0]
            raise RunStopped(f"object {lost[:12]} is not in the store and nothing in this run makes it")
        for stage, item, before in makers.values():
            log.warning("%s: computing %s again, its bytes are not in the store", stage.NAME, item.name)
            self.restore(set(item.needs))
            outcome = self._dispatcher.compute(stage, [item], True, lambda outcome: None)[0]
            if outcome.result is None:
                raise RunStopped(f"{stage.NAME} of {item.name} can't be computed again: {outcome.error or 'lost'}")
            self._renewed.add(item.action.key)
            self.results[stage.NAME] = [
                ItemResult(item, "computed", outcome.result) if entry.item.action.key == item.action.key else entry
                for entry in self.results[stage.NAME]
            ]
            if outcome.result.outputs != before.outputs or outcome.result.record != before.record:
                raise UpstreamChanged(f"{stage.NAME} of {item.name} came out different when it was computed again")

    def _check(self, stage: Stage, entries: list[ItemResult]) -> None:
        failed = [entry for entry in entries if entry.status == "failed"]
        limit = self.config.execution.max_failed
        if entries and len(failed) / len(entries) > limit:
            raise RunStopped(
                f"{len(failed)} of {len(entries)} items of {stage.NAME} failed, more than execution.max_failed = "
                f"{limit} allows; the first, {failed[0].item.name}: {failed[0].error}. What was computed is kept: "
                "mend the cause and run the same command again"
            )
        sentence = stage.nothing_left(self.config, self.results)
        if sentence:
            raise RunStopped(sentence)
