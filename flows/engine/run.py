"""One run from its folder to its summary, free of any orchestrator. A `Watch` follows it, a `Crew` computes for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from flows.engine.batches import Batches
from flows.engine.components import Components
from flows.engine.inputs import RunInputs
from flows.engine.machine import this_machine
from flows.engine.plan import expected_work
from flows.engine.progress import Progress, StageProgress
from flows.engine.room import Room, check_room
from flows.engine.run_folder import RunFolder
from flows.engine.stage import Drop, Item, ItemResult, RunStopped, Stage
from flows.engine.stop import stop_sentence, stop_signal
from flows.engine.store import open_store
from flows.engine.summary import Promotion, RunProgress, RunStatus, RunSummary, StageTable, drops, stage_table
from flows.engine.view import View
from flows.engine.walk import Scope, Stages, looked_up, readable_records
from flows.engine.watch import Watch
from flows.engine.work import MakeCrew, Outcome, Silent
from flows.engine.workers import LocalCrew
from ipa_core.config import ConfigError, RunConfig
from storage import ActionResult, Store, StoreError

log = logging.getLogger(__name__)
REPAIRS: Final = 10
"""Repairs of an item's damaged inputs before the item counts as failed."""


class UpstreamChanged(Exception):  # noqa: N818 - control flow: look everything up again
    """Recomputed bytes came out different, so everything derived from them must be derived anew."""


class Run:
    """A run over one store; it computes the missing items.

    Within ``with Run(...) as run``, :meth:`walk` computes the stages of the scope; more may follow. ``RunStopped``,
    ``ConfigError`` and ``StoreError`` end the block with ``summary.status == "failed"`` and their message; any other
    error passes through. Nothing computed is lost. "The last run" never means an ``experiment``.
    """

    def __init__(
        self,
        config: RunConfig,
        stages: Stages,
        components: Components,
        scope: Scope | None = None,
        crew: MakeCrew | None = None,
        watch: Watch | None = None,
        generator: str | None = None,
        experiment: bool = False,
        quiet: bool = False,
    ) -> None:
        self.config = config
        self.stages = stages
        self.store: Store = open_store(config.execution)
        self.folder = RunFolder.new(self.store)
        self.view = View(config, RunInputs(self.store, config, components, generator=generator))
        self._components = components
        self._generator = generator
        self._experiment = experiment
        self._forecast = False
        """Whether to forecast the run's work before its first computation."""
        self.outputs: dict[str, str] = {}
        """Paths or URLs of the run's `lora`, `shards` and `report`."""
        self.promotion: Promotion | None = None
        self._scope = scope or Scope()
        self._watch = watch or Watch()
        self._progress = Progress(listen=self._listen, quiet=quiet)
        self._crew = (crew or LocalCrew)(self.store, config, components)
        self._batches = Batches(self.store, self._crew, config.execution.batch_minutes)
        self._started = time.perf_counter()
        self._held: dict[str, Item] = {}
        """Items that the run has looked up, by key: `ipa store gc` keeps their results as long as the run's folder."""
        self._room = Room(self.store)
        self._seconds: dict[str, float] = {}
        self._renewed: set[str] = set()
        """Keys computed in this run: they are not refreshed twice, and count as computed when looked up again."""
        self._summary: RunSummary | None = None
        self._stopped: RunStopped | ConfigError | StoreError | None = None

    @property
    def summary(self) -> RunSummary:
        """Exists once the run has ended."""
        assert self._summary is not None
        return self._summary

    def check(self) -> None:
        """Raise the error that stopped the run, if there is one."""
        if self._stopped is not None:
            raise self._stopped

    @property
    def computed(self) -> bool:
        return any(entry.status != "cached" for entries in self.view.results.values() for entry in entries)

    def __enter__(self) -> Self:
        self.folder.write_config(self.config)
        self.folder.write_machine(this_machine())
        if self._experiment:
            self.folder.mark_experiment()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, RunStopped | ConfigError | StoreError):
            self._stopped = error
        expected = self._stopped is not None
        try:
            self._summary = self.summed_up(error)
            self._record_items()
            self.folder.write_summary(self._summary)
        finally:
            self._crew.close()
            with suppress(StoreError):  # They only save time.
                self.store.digests.save()
            self._watch.close()
        if error is None or expected:
            self._watch.outcome(self.summary)
        return expected

    def summed_up(self, error: BaseException | None = None) -> RunSummary:
        """Return the summary of the run if it ends now, with this error."""
        status, sentence = self._ending(error)
        dropped: tuple[Drop, ...] = ()
        with suppress(RunStopped), readable_records():  # If records can't be read, the error says it.
            dropped = drops(self.view, self.stages)
        return RunSummary(
            run_id=self.folder.run_id,
            status=status,
            stages=tuple(self._table(name) for name in self._seconds),
            outputs=self.outputs,
            error=sentence,
            dropped=dropped,
            promotion=self.promotion,
            seconds=round(time.perf_counter() - self._started, 1),
            queued=self._watch.queued,
        )

    def _ending(self, error: BaseException | None) -> tuple[RunStatus, str | None]:
        if error is None:
            return ("completed" if self.computed else "nothing_new"), None
        signal = stop_signal(error)
        if signal is not None:
            return "stopped", stop_sentence(signal)
        known = isinstance(error, RunStopped | ConfigError | StoreError)
        return "failed", str(error) if known else f"{type(error).__name__}: {error}"

    def walk(self, *, forecast: bool = True) -> None:
        """Compute all stages of the scope, one after the other. Raises ``RunStopped`` and ``ConfigError``.

        Without ``forecast`` only the time left of each stage is told: for a run with work beside its stages.
        """
        stages = self._scope.walked(self.stages)
        self._forecast = forecast
        self.view.inputs.read()
        for stage in stages:
            stage.check(self.view)
        for last in (False, True):
            self.view.clear()
            try:
                with readable_records():
                    for stage in stages:
                        self._watch.stage(stage, self._stage)
                return
            except UpstreamChanged as change:
                if last:
                    raise RunStopped(f"{change} twice; is the store's disk damaged? `ipa store verify` tells") from None
                log.warning("%s; looking everything up again", change)

    def items(self, stage: Stage[Any], items: Sequence[Item]) -> list[ItemResult]:
        """Look up or compute items of a stage beside the run's own. Raises ``RunStopped``."""
        known = self.store.actions.lookup(stage.name, [item.action.key for item in items])
        try:
            return self._resolved(stage, items, known)
        except UpstreamChanged as change:
            raise RunStopped(f"{change}; run the same command again") from None

    def read(self, digest: str) -> bytes:
        """Return the bytes of an object of this run; compute them again if they are gone."""
        self.restore({digest})
        return self.store.objects.get(digest)

    def _expect(self) -> None:
        """Forecast the work of the whole run, before its first computation."""
        if self._forecast:
            self._forecast = False
            about = (self.store, self.config, self.stages, self._components, self._scope, self._generator)
            self._progress.expect(expected_work(*about))

    def _stage(self, stage: Stage[Any]) -> StageTable:
        started = time.perf_counter()
        for note in stage.notes(self.view):
            self._progress.line(f"note: {note}")
        try:
            for items, known in looked_up(self.view, stage):
                self.view.add(stage.name, self._resolved(stage, items, known))
        finally:
            spent = time.perf_counter() - started
            self._seconds[stage.name] = self._seconds.get(stage.name, 0.0) + spent
            self._crew.end_stage()
            self._listen(None)
            self._record_items()
        self._progress.finish(stage.name, self._table(stage.name).sentence())
        self._check(stage)
        return self._table(stage.name)

    def _resolved(
        self, stage: Stage[Any], items: Sequence[Item], known: Mapping[str, ActionResult]
    ) -> list[ItemResult]:
        """Return the result of each item, in their order; compute those that are not ``known``."""
        refresh = stage.name in self._scope.refresh
        self._held |= {item.action.key: item for item in items}
        if stage.name in self._scope.only_looked_up(self.stages):
            return self._found(stage, items, known)
        fresh = {key for key in known if not refresh or key in self._renewed}
        waiting = list({item.action.key: item for item in items if item.action.key not in fresh}.values())
        if waiting:
            self._expect()
            self._record_items()  # A collection that runs meanwhile sees what this run uses and makes.
            note = self._room.note(stage, waiting)
            if note is not None:
                self._progress.line(f"note: {note}")
        works = {item.action.key: stage.work(item.action) for item in waiting}
        names = {item.action.key: item.name for item in waiting}
        self._progress.start(stage.name, cached=len(items) - len(waiting), works=works, names=names)
        outcomes: dict[str, Outcome] = {}
        lost = {digest for item in waiting for digest in item.needs}
        try:
            for _ in range(REPAIRS):
                self.restore(lost)
                found = self._batches.compute(stage, waiting, refresh, self._progress) if waiting else []
                outcomes |= {outcome.key: outcome for outcome in found}
                lost = {outcome.lost for outcome in found if outcome.lost}
                waiting = [item for item in waiting if outcomes[item.action.key].lost]
        except BaseException:
            self.view.add(stage.name, self._committed(stage, items, known, fresh))
            raise
        self._renewed |= {outcome.key for outcome in outcomes.values() if outcome.result and not outcome.elsewhere}
        return [self._entry(item, known.get(item.action.key), outcomes.get(item.action.key)) for item in items]

    def _committed(
        self, stage: Stage[Any], items: Sequence[Item], known: Mapping[str, ActionResult], fresh: set[str]
    ) -> list[ItemResult]:
        """Return the items of a stage that breaks off which are in the store, for the record of the run."""
        now = self.store.actions.lookup(stage.name, [item.action.key for item in items])
        return [
            ItemResult(item, "cached" if key in fresh else "computed", now[key])
            for item in items
            if (key := item.action.key) in now and (key in fresh or now[key] != known.get(key))
        ]

    def _entry(self, item: Item, known: ActionResult | None, outcome: Outcome | None) -> ItemResult:
        if outcome is None:
            return ItemResult(item, "computed" if item.action.key in self._renewed else "cached", known)
        error = f"its input {outcome.lost[:12]} is damaged again and again" if outcome.lost else outcome.error
        if outcome.result is None:
            return ItemResult(item, "failed", None, error)
        return ItemResult(item, "cached" if outcome.elsewhere else "computed", outcome.result, error)

    def _found(self, stage: Stage[Any], items: Sequence[Item], known: Mapping[str, ActionResult]) -> list[ItemResult]:
        """Return items of a stage that this run only looks up. A few may have failed in the run that computed it."""
        missing = [item for item in items if item.action.key not in known]
        self._progress.start(stage.name, cached=len(items) - len(missing), works={})
        if len(missing) > self.config.execution.max_failed * len(items):
            raise RunStopped(
                f"{len(missing)} of {len(items)} items of {stage.name} are not in the store (the first: "
                f"{missing[0].name}); run without --from, or with --from {stage.name}"
            )
        error = "not in the store, and this run only looks it up"
        return [
            ItemResult(item, "cached", known[item.action.key])
            if item.action.key in known
            else ItemResult(item, "failed", None, error)
            for item in items
        ]

    def restore(self, digests: set[str]) -> None:
        """Make sure that these objects are in the store: compute items again whose bytes are gone."""
        missing = self.store.objects.missing(digests)
        if not missing:
            return
        makers: dict[str, tuple[Stage[Any], Item, ActionResult]] = {}
        for stage in self.stages:
            for entry in self.view.results.get(stage.name, []):
                if entry.result and any(output.digest in missing for output in entry.result.outputs.values()):
                    makers[entry.item.action.key] = (stage, entry.item, entry.result)
        made = {output.digest for _, _, result in makers.values() for output in result.outputs.values()}
        if missing - made:
            lost = sorted(missing - made)[0]
            raise RunStopped(f"object {lost[:12]} is not in the store and nothing in this run makes it")
        for stage, item, before in makers.values():
            log.warning("%s: computing %s again, its bytes are not in the store", stage.name, item.name)
            self.restore(set(item.needs))
            outcome = self._batches.compute(stage, [item], True, Silent())[0]
            if outcome.result is None:
                raise RunStopped(f"{stage.name} of {item.name} can't be computed again: {outcome.error or 'lost'}")
            self._renewed.add(item.action.key)
            self.view.replace(stage.name, ItemResult(item, "computed", outcome.result))
            if outcome.result.outputs != before.outputs or outcome.result.record != before.record:
                raise UpstreamChanged(f"{stage.name} of {item.name} came out different when it was computed again")

    def _check(self, stage: Stage[Any]) -> None:
        entries = self.view.results[stage.name]
        failed = [entry for entry in entries if entry.status == "failed"]
        if failed:
            check_room(self.store)  # The reason of the failures, if there is no room.
        limit = self.config.execution.max_failed
        if entries and len(failed) / len(entries) > limit:
            raise RunStopped(
                f"{len(failed)} of {len(entries)} items of {stage.name} failed, more than execution.max_failed = "
                f"{limit} allows; the first, {failed[0].item.name}: {failed[0].error}. What was computed is kept: "
                "mend the cause and run the same command again"
            )
        sentence = stage.nothing_left(self.view)
        if sentence:
            raise RunStopped(sentence)

    def _record_items(self) -> None:
        self.folder.write_items(self.view.results, self._held.values())

    def _table(self, stage: str) -> StageTable:
        return stage_table(self.view.results, stage, self._seconds[stage])

    def _listen(self, progress: StageProgress | None) -> None:
        through = tuple(self._table(name) for name in self._seconds if progress is None or name != progress.stage)
        self.folder.write_progress(RunProgress(through, progress, self._watch.flow_run))
        if progress is not None:
            self._watch.progress(progress)
