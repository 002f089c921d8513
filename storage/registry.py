"""The registry of adapters: the origin of each adapter, the champions, and the reasons for the decisions.

The registry is an append-only log of small files, `registry/000001.json`, `000002.json`, ... Each file is written once
and never changed. The champion, the role of an adapter and the people in its training are computed from the events. Two
runs may end at once: the second run then reads the event of the first one and decides again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from ipa_core.records import Digest, Record, Ruling
from storage.errors import StoreError
from storage.log import NumberedLog

Role = Literal["champion", "challenger", "former"]
"""``former``: the adapter was champion until another one took its place or it was rolled back."""

SHORT = 12
"""Number of digits of a digest that people read and type."""


class Lineage(Record):
    """The origin of an adapter."""

    model: Digest
    """Digest of the base model's folder. There is one champion per base model."""
    generator: Digest | None
    """The adapter that generated its candidates. ``None``: the base model alone generated them."""
    loras: Mapping[Digest, float] = Field(default_factory=dict)
    """The weights of LoRAs that were added to the generator (`candidates.loras`): its candidates are off-policy."""
    scores: Digest
    """Digest of the table of all scored candidates."""
    samples: Digest
    """Digest of the table of the preferred samples."""
    shards: dict[str, Digest]
    selection: Digest
    """Action key. ``finetune`` is an action key too."""
    finetune: Digest
    config: dict[str, Any]
    """The config of the run, without its execution."""


class Registered(Record):
    """A trained and evaluated adapter. An evaluation on new people writes another registration of the same adapter."""

    kind: Literal["registered"] = "registered"
    at: str
    """UTC, ISO 8601."""
    run: str
    adapter: Digest
    """Digest of the LoRA's bytes."""
    files: dict[str, Digest]
    """Digests of the files in the LoRA's folder, by name."""
    lineage: Lineage
    metrics: dict[str, float]
    """Its means on the held-out clips, by the names of the metrics."""
    trained_on: tuple[str, ...]
    """Groups (people) by name and source videos by digest. A video stays known when its group is renamed."""
    held_out: tuple[str, ...]
    """The groups and source videos that were kept for its evaluation."""


class Decided(Record):
    """A promotion or refusal by the rule or by a person, or a rollback by a person."""

    kind: Literal["promoted", "refused", "rolled_back"]
    at: str
    adapter: Digest
    against: Digest | None
    """The champion before a promotion or refusal, and after a rollback. ``None``: the base model."""
    by: str
    """`the rule`, or the name of a person."""
    reason: str
    run: str | None = None
    evidence: Digest | None = None
    """Action key of the comparison on which the rule decided. ``None`` where a person decided, or where the champion
    changed meanwhile: the rule may decide on the same comparison later."""
    ruling: Ruling | None = None


class Lost(Record):
    """Stands in the place of an event that was damaged. Nobody knows what it said."""

    kind: Literal["lost"] = "lost"
    at: str
    """UTC, ISO 8601; the time when `ipa store repair` wrote this."""
    why: str


Event = Registered | Decided | Lost
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


@dataclass(frozen=True)
class State:
    """The state of the registry after some events."""

    events: tuple[Event, ...] = ()

    @cached_property
    def adapters(self) -> dict[Digest, Registered]:
        """The first registration of each adapter, in their order."""
        found: dict[Digest, Registered] = {}
        for event in self._registered:
            found.setdefault(event.adapter, event)
        return found

    @cached_property
    def decisions(self) -> tuple[Decided, ...]:
        """Without those about an adapter whose registration was lost."""
        found = (event for event in self.events if isinstance(event, Decided))
        return tuple(event for event in found if event.adapter in self.adapters)

    @cached_property
    def _reigns(self) -> dict[Digest, list[Digest]]:
        """By base model: the chain of its champions, the present one last."""
        reigns: dict[Digest, list[Digest]] = {}
        for event in self.decisions:
            reign = reigns.setdefault(self.adapters[event.adapter].lineage.model, [])
            if event.kind == "promoted":
                reign.append(event.adapter)
            elif event.kind == "rolled_back" and reign[-1:] == [event.adapter]:  # Else its promotion was lost.
                reign.pop()
        return reigns

    @property
    def champions(self) -> tuple[Digest, ...]:
        """The champions of all base models."""
        return tuple(reign[-1] for reign in self._reigns.values() if reign)

    def champion(self, model: Digest) -> Digest | None:
        """The champion of a base model. ``None``: the base model itself is the incumbent."""
        reign = self._reigns.get(model)
        return reign[-1] if reign else None

    def before(self, champion: Digest) -> Digest | None:
        """The champion after a rollback of this one. ``None``: the base model."""
        reign = self._reigns[self.adapters[champion].lineage.model]
        return reign[-2] if len(reign) > 1 else None

    def role(self, adapter: Digest) -> Role:
        if adapter in self.champions:
            return "champion"
        promoted = any(event.kind == "promoted" and event.adapter == adapter for event in self.decisions)
        return "former" if promoted else "challenger"

    def opponent(self, adapter: Digest, model: Digest) -> Digest | None:
        """The champion, with which an adapter is compared besides the base model. A promoted adapter keeps its opponent
        of that time, so that a repeated run repeats its comparison."""
        for event in self.decisions:
            if event.adapter == adapter and event.kind == "promoted":
                return event.against
        return self.champion(model)

    def ruled(self, adapter: Digest, evidence: Digest) -> Decided | None:
        """The decision of the rule on this evidence, or None."""
        return next((one for one in self.decisions if (one.adapter, one.evidence) == (adapter, evidence)), None)

    def judged_before(self, adapter: Digest, model: Digest, evidence: Digest) -> int:
        """Number of the challengers of a base model that the rule judged before it judges this adapter on this
        evidence."""
        judged: list[Decided] = []
        for event in self.decisions:
            if (event.adapter, event.evidence) == (adapter, evidence):
                break
            if event.evidence is not None and self.adapters[event.adapter].lineage.model == model:
                judged.append(event)
        return len(judged)

    def trained_on(self, adapter: Digest | None) -> dict[str, str]:
        """The people in the training of an adapter and of all generators before it, each with the run."""
        found: dict[str, str] = {}
        for one in self.line(adapter):
            found = _by_run(self._registrations(one), "trained_on") | found
        return found

    def line(self, adapter: Digest | None) -> Iterator[Digest]:
        """An adapter, its generator, the generator of that one, and so on, as far as they are registered."""
        while adapter is not None and adapter in self.adapters:
            yield adapter
            adapter = self.adapters[adapter].lineage.generator

    def champions_runs(self) -> set[str]:
        """The runs that registered the champions and the adapters before them in their lines."""
        line = {adapter for champion in self.champions for adapter in self.line(champion)}
        return {event.run for adapter in line for event in self._registrations(adapter)}

    def held_out(self) -> dict[str, str]:
        """The people that were held out in any round, each with the first run."""
        return _by_run(self._registered, "held_out")

    def knows(self, entry: Registered) -> bool:
        """Whether the registry has this adapter with all these people already."""
        known = self._registrations(entry.adapter)
        return bool(known) and all(
            set(getattr(entry, side)) <= _by_run(known, side).keys() for side in ("trained_on", "held_out")
        )

    def _registrations(self, adapter: Digest) -> list[Registered]:
        return [event for event in self._registered if event.adapter == adapter]

    def find(self, name: str) -> Digest:
        """The adapter whose digest begins with ``name``. Raises :class:`StoreError` for no or several adapters."""
        found = [adapter for adapter in self.adapters if name and adapter.startswith(name)]
        if len(found) != 1:
            known = ", ".join(adapter[:SHORT] for adapter in found or self.adapters) or "none"
            wrong = f"'{name}' names {len(found)} adapters" if found else f"there is no adapter '{name}'"
            raise StoreError(f"{wrong}; {'they are' if found else 'registered are'}: {known}")
        return found[0]

    def objects(self) -> set[Digest]:
        """The digests of the adapters' files and of the objects in their lineage. They stay as long as the registry."""
        found: set[Digest] = set()
        for event in self._registered:
            lineage = event.lineage
            found.update(event.files.values(), lineage.shards.values(), (lineage.scores, lineage.samples))
            if lineage.generator is not None:
                found.add(lineage.generator)
        return found

    def actions(self) -> set[str]:
        """The keys of the adapters' selections and trainings, and of the comparisons that the rule decided on."""
        keys = {key for event in self._registered for key in (event.lineage.selection, event.lineage.finetune)}
        return keys | {event.evidence for event in self.decisions if event.evidence is not None}

    @property
    def _registered(self) -> list[Registered]:
        return [event for event in self.events if isinstance(event, Registered)]


class Registry:
    """The log at ``<address>/registry``. ``address`` belongs to a store: a path or an fsspec URL."""

    def __init__(self, address: str | Path) -> None:
        self._log = NumberedLog(
            address, "registry", "event", _EVENT, "bring it back from a copy, or let `ipa store repair` forget it"
        )

    def state(self) -> State:
        """All events. Raises :class:`StoreError` where one is missing or damaged."""
        return State(self._log.read_whole())

    def append(self, decide: Callable[[State], Event | None]) -> Event | None:
        """Write the event that ``decide`` makes from the state. It is called again where another writer was faster."""
        while True:
            state = self.state()
            event = decide(state)
            if event is None:
                return None
            if self._log.create(len(state.events) + 1, event):
                return event

    def lose(self, number: int, note: Lost) -> None:
        """Write a note in the place of the event of this number, whose file is gone."""
        self._log.create(number, note)

    def promote(self, adapter: Digest, by: str, reason: str, at: str) -> Decided:
        """Promote an adapter by hand. Raises :class:`StoreError` where it is champion already."""

        def decide(state: State) -> Decided:
            against = state.champion(state.adapters[adapter].lineage.model)
            if against == adapter:
                raise StoreError(f"{adapter[:SHORT]} is the champion already")
            return Decided(kind="promoted", at=at, adapter=adapter, against=against, by=by, reason=reason)

        return self._decided(decide)

    def roll_back(self, champion: Digest, by: str, reason: str, at: str) -> Decided:
        """Give the place back to the previous champion, or to the base model. Raises :class:`StoreError` where
        ``champion`` is not the champion."""

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
