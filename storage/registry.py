"""The registry of adapters: what each was made from, which one is the champion, and why.

An append-only log of small files, `registry/000001.json`, `000002.json`, ..., each written once and never changed. Who
is champion, what role an adapter has and whom it has seen are folds over the events. A file is created only where none
of its number is: of two runs that end at once, the second reads what the first wrote and decides again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from ipa_core.records import Digest, Record, Ruling
from storage.errors import StoreError
from storage.log import NumberedLog

Role = Literal["champion", "challenger", "former"]
"""``former``: was champion, until another took over or it was rolled back."""

SHORT = 12
"""Digits of a digest that people read and type."""


class Lineage(Record):
    """What an adapter was made from."""

    model: Digest
    """Of the base model's folder. There is one champion per base model."""
    generator: Digest | None
    """The adapter that generated its candidates; ``None``: the base model alone."""
    scores: Digest
    """Table of all scored candidates."""
    samples: Digest
    """Table of the preferred samples."""
    shards: dict[str, Digest]
    selection: Digest
    """Action key; as is ``finetune``."""
    finetune: Digest
    config: dict[str, Any]
    """Of the run, without how it was executed."""


class Registered(Record):
    """A trained and evaluated adapter. Written again when it is evaluated on people that were not known of it yet."""

    kind: Literal["registered"] = "registered"
    at: str
    """UTC, ISO 8601."""
    run: str
    adapter: Digest
    """Of the LoRA's bytes."""
    files: dict[str, Digest]
    """The LoRA's folder."""
    lineage: Lineage
    metrics: dict[str, float]
    """Its means on the held-out clips, by the metrics' names."""
    trained_on: tuple[str, ...]
    """Groups (people) and source videos, told by name and digest; a video stays known when its group is renamed."""
    held_out: tuple[str, ...]
    """The same of what was kept for its evaluation."""


class Decided(Record):
    """A promotion or refusal, by the rule or by a person; a rollback, by a person."""

    kind: Literal["promoted", "refused", "rolled_back"]
    at: str
    adapter: Digest
    against: Digest | None
    """The champion before, or after a rollback; ``None``: the base model."""
    by: str
    """`the rule`, or who."""
    reason: str
    run: str | None = None
    evidence: Digest | None = None
    """Action key of the comparison that the rule decided on; ``None`` where a person did, or where the champion had
    changed meanwhile: then the same comparison may be decided on later."""
    ruling: Ruling | None = None


Event = Registered | Decided
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


@dataclass(frozen=True)
class State:
    """What the events come to."""

    events: tuple[Event, ...] = ()

    @cached_property
    def adapters(self) -> dict[Digest, Registered]:
        """Each adapter's first registration, in that order."""
        found: dict[Digest, Registered] = {}
        for event in self.events:
            if isinstance(event, Registered):
                found.setdefault(event.adapter, event)
        return found

    @cached_property
    def decisions(self) -> tuple[Decided, ...]:
        return tuple(event for event in self.events if isinstance(event, Decided))

    @cached_property
    def _reigns(self) -> dict[Digest, list[Digest]]:
        """By base model: its champions since the base model itself, the present one last."""
        reigns: dict[Digest, list[Digest]] = {}
        for event in self.decisions:
            reign = reigns.setdefault(self.adapters[event.adapter].lineage.model, [])
            if event.kind == "promoted":
                reign.append(event.adapter)
            elif event.kind == "rolled_back":
                reign.pop()
        return reigns

    @property
    def champions(self) -> tuple[Digest, ...]:
        """Of all base models."""
        return tuple(reign[-1] for reign in self._reigns.values() if reign)

    def champion(self, model: Digest) -> Digest | None:
        """``None``: the base model is the incumbent."""
        reign = self._reigns.get(model)
        return reign[-1] if reign else None

    def before(self, champion: Digest) -> Digest | None:
        """Who is champion when this one is rolled back; ``None``: the base model."""
        reign = self._reigns[self.adapters[champion].lineage.model]
        return reign[-2] if len(reign) > 1 else None

    def role(self, adapter: Digest) -> Role:
        if adapter in self.champions:
            return "champion"
        promoted = any(event.kind == "promoted" and event.adapter == adapter for event in self.decisions)
        return "former" if promoted else "challenger"

    def opponent(self, adapter: Digest, model: Digest) -> Digest | None:
        """Whom an adapter is compared with besides the base model: the champion. One that was promoted keeps the
        opponent that it had then, so that a repeated run repeats its comparison."""
        for event in self.decisions:
            if event.adapter == adapter and event.kind == "promoted":
                return event.against
        return self.champion(model)

    def ruled(self, adapter: Digest, evidence: Digest) -> Decided | None:
        """What the rule decided on this evidence."""
        return next((one for one in self.decisions if (one.adapter, one.evidence) == (adapter, evidence)), None)

    def trained_on(self, adapter: Digest | None) -> dict[str, str]:
        """People that an adapter, or the one that generated for it, and so on, was trained on, and in which run."""
        found: dict[str, str] = {}
        while adapter is not None and adapter in self.adapters:
            found = _by_run(self._registrations(adapter), "trained_on") | found
            adapter = self.adapters[adapter].lineage.generator
        return found

    def held_out(self) -> dict[str, str]:
        """People that were held out in any round, and in which run first."""
        return _by_run((event for event in self.events if isinstance(event, Registered)), "held_out")

    def knows(self, entry: Registered) -> bool:
        """Whether registering it would add nothing."""
        known = self._registrations(entry.adapter)
        return bool(known) and all(
            set(getattr(entry, side)) <= _by_run(known, side).keys() for side in ("trained_on", "held_out")
        )

    def _registrations(self, adapter: Digest) -> list[Registered]:
        return [event for event in self.events if isinstance(event, Registered) and event.adapter == adapter]

    def find(self, name: str) -> Digest:
        """The adapter whose digest begins so. Raises :class:`StoreError`."""
        found = [adapter for adapter in self.adapters if name and adapter.startswith(name)]
        if len(found) != 1:
            known = ", ".join(adapter[:SHORT] for adapter in found or self.adapters) or "none"
            wrong = f"'{name}' names {len(found)} adapters" if found else f"there is no adapter '{name}'"
            raise StoreError(f"{wrong}; {'they are' if found else 'registered are'}: {known}")
        return found[0]

    def objects(self) -> set[Digest]:
        """Of the adapters' files: they stay as long as the registry does."""
        return {digest for event in self.adapters.values() for digest in event.files.values()}


class Registry:
    """The log at ``<address>/registry``; ``address`` is a store's, a path or an fsspec URL."""

    def __init__(self, address: str | Path) -> None:
        self._log = NumberedLog(address, "registry", "event", _EVENT, "bring it back from a copy")

    def state(self) -> State:
        """All events. Raises :class:`StoreError` where one is missing or damaged."""
        return State(self._log.read_whole())

    def append(self, decide: Callable[[State], Event | None]) -> Event | None:
        """Write the event that ``decide`` makes of the state; it is asked again where somebody else was faster."""
        while True:
            state = self.state()
            event = decide(state)
            if event is None:
                return None
            if self._log.create(len(state.events) + 1, event):
                return event

    def promote(self, adapter: Digest, by: str, reason: str, at: str) -> Decided:
        """By hand. Raises :class:`StoreError` where it is champion already."""

        def decide(state: State) -> Decided:
            against = state.champion(state.adapters[adapter].lineage.model)
            if against == adapter:
                raise StoreError(f"{adapter[:SHORT]} is the champion already")
            return Decided(kind="promoted", at=at, adapter=adapter, against=against, by=by, reason=reason)

        return self._decided(decide)

    def roll_back(self, champion: Digest, by: str, reason: str, at: str) -> Decided:
        """Give the place back to the champion before, or to the base model. Raises :class:`StoreError` where
        ``champion`` is not champion."""

        def decide(state: State) -> Decided:
            if state.role(champion) != "champion":
                raise StoreError(f"{champion[:SHORT]} is not champion (it is {state.role(champion)})")
            before = state.before(champion)
            return Decided(kind="rolled_back", at=at, adapter=champion, against=before, by=by, reason=reason)

        return self._decided(decide)

    def _decided(self, decide: Callable[[State], Decided]) -> Decided:
        event = self.append(decide)
        assert isinstance(event, Decided)
        return event


def _by_run(events: Iterable[Registered], side: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for event in events:
        for person in getattr(event, side):
            found.setdefault(person, event.run)
    return found
