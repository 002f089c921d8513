"""A stage is a class that names the items of a run and computes one item. Only computing needs weights.

The items follow from the config and from the results of earlier stages. The engine looks them up in the store, has the
misses computed and hands the results on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from ipa_core.config import Config, RunConfig, is_later
from ipa_core.records import Record
from storage import Action, ActionResult

if TYPE_CHECKING:
    from flows.engine.plan import Forecast
    from flows.engine.view import View
    from flows.engine.worker import Worker
    from ipa_core.models import Network

Status = Literal["cached", "computed", "failed", "pending"]
Place = Literal["cpu", "gpu", "train", "here"]
"""`cpu`: independent items that need no animation model. `gpu`: items that need it; a process keeps the model loaded.
`train`: one item that takes all GPUs. `here`: one small item, computed by the process that runs the flow."""


class RunStopped(Exception):  # noqa: N818 - its message ends a run
    """The run can't go on. The message says why and what to do."""


@dataclass(frozen=True)
class Item:
    """One action, with facts for people and the engine."""

    name: str
    """Shown to people: `dance.mp4 #002`."""
    action: Action
    parents: tuple[str, ...] = ()
    """Keys of the actions whose results are its inputs."""
    needs: tuple[str, ...] = ()
    """Digests of the objects that its computation reads."""
    source: str | None = None
    """Path or URL outside the store that its computation reads; only `clips` has one."""


@dataclass(frozen=True)
class Drop:
    """An input that does not go on, with its reason; one line of the report."""

    stage: str
    name: str
    reason: str


@dataclass(frozen=True)
class Output:
    """The result of computing an item: its record and the bytes by name."""

    record: Record | Mapping[str, Any]
    objects: Mapping[str, bytes | Path] = field(default_factory=dict)
    rejected: str | None = None
    """A finding about the input; see ``ipa_core.records.Rejected``."""

    def record_json(self) -> Mapping[str, Any]:
        return self.record.model_dump(mode="json") if isinstance(self.record, Record) else self.record


@dataclass(frozen=True)
class ItemResult:
    item: Item
    status: Status
    result: ActionResult | None
    """None if the item failed, or if a plan has no earlier result to predict from."""
    error: str | None = None

    @property
    def done(self) -> ActionResult | None:
        """The result, unless it is missing or a rejection."""
        return self.result if self.result is not None and self.result.outcome == "done" else None


Kept = TypeVar("Kept", bound=Record)
Wave = Callable[["View"], Iterable[Item | Drop]]


class Stage(ABC, Generic[Kept]):
    """Base class of `flows.stages`. An instance holds no state, because it travels to workers with each batch."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Raise it when the output for the same inputs and config changes; golden tests watch."""
    place: ClassVar[Place]
    section: ClassVar[str]
    """The section of the run config that holds its settings."""
    fields: ClassVar[Mapping[str, str]] = {}
    """Config path of a setting in the key, if not `section.setting`. A path may stand for all settings below it."""
    absent: ClassVar[Mapping[str, Any]] = {}
    """Value of a setting that older keys leave out, where it is not the field's default. For `ipa plan`."""
    record: ClassVar[type[Record]]
    """The record of a result that is not a rejection."""
    handed_on: ClassVar[bool] = False
    """The run's folder gets its outputs, so their bytes must be in the store."""

    def fields_of(self, config: RunConfig) -> Mapping[str, str]:
        """Return :attr:`fields` of this run, whose settings may stand in another place than usual."""
        return self.fields

    @abstractmethod
    def items(self, run: View) -> Iterable[Item | Drop]:
        """Return the items, and the inputs that become none."""

    def waves(self) -> Sequence[Wave]:
        """Return the waves. Items of a wave may depend on the results of the wave before. Most stages have one wave."""
        return (self.items,)

    @abstractmethod
    def compute(self, item: Item, worker: Worker) -> Output:
        """Compute an item. Read only ``item.needs``, ``item.source`` and the weights that the worker loads."""

    def nothing_left(self, run: View) -> str | None:
        """Return why the next stage has no input and what to do, or None if it has one."""
        return None

    def check(self, run: View) -> None:
        """Raise ``ConfigError`` for what the stage will need and can't have. Plans and runs ask before any work."""

    def notes(self, run: View) -> Iterable[str]:
        """Return what people should know about the input before the work."""
        return ()

    def read(self, result: ActionResult) -> Kept:
        return self.record.model_validate(result.record)  # type: ignore[return-value]

    def window_drops(self, item: Item, result: ActionResult) -> Iterable[Drop]:
        """Return the parts of a done item that do not go on."""
        return ()

    # For `ipa plan`.

    def forecast(self, run: Forecast) -> float:
        """Estimate the number of items that can't be listed before a stage upstream has run."""
        return 0

    def foretells(self, before: ActionResult, action: Action) -> bool:
        """Return whether an item's last result tells how much the stages after it get from its next action."""
        return True

    def work(self, action: Action) -> float:
        """Return the work of an item as a share of the stage's usual item."""
        return 1.0

    def size_of(self, action: Action) -> float:
        """Return what an item costs before :meth:`work`, in a unit of the stage's own. Times that were measured with
        other settings are scaled by it."""
        return 1.0

    def usual_size(self, config: RunConfig) -> float:
        """Return the same of the usual item with this config."""
        return 1.0

    def forecast_work(self, config: RunConfig) -> float:
        """Return the work of an item that can't be listed yet, as a share of the stage's usual item."""
        return 1.0

    def flops(self, network: Network, config: RunConfig) -> float | None:
        """Return the FLOPs of the usual item by formula, or None if no animation model runs."""
        return None


def key_fields(config: Config, *leave_out: str) -> dict[str, Any]:
    """Return the config's fields as they enter a key: without ``leave_out`` and without later fields at their default.

    So a later field (`ipa_core.config.LATER`) costs no cached item until somebody sets it.
    """
    dumped = config.model_dump(mode="json", exclude=set(leave_out))
    for name, about in type(config).model_fields.items():
        value = getattr(config, name)
        if name not in dumped:
            continue
        if is_later(about) and value == about.get_default(call_default_factory=True):
            del dumped[name]
        elif isinstance(value, Config):
            dumped[name] = key_fields(value)
    return dumped


def blob(result: ActionResult, name: str) -> str:
    """Return the digest of a named output."""
    return result.outputs[name].digest
