"""What a stage is: it names the items of a run, and computes one item. Computing is the only part that needs weights.

A stage's items follow from the config and from what the stages before it found; `flows.engine.walk` looks them up, computes
the misses and hands the results on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from ipa_core.config import Config, RunConfig
from ipa_core.records import Verdict
from storage import Action, ActionResult, Blob, Store

if TYPE_CHECKING:
    from flows.engine.workbench import Workbench
    from ipa_core.clips import Video
    from storage.registry import State

StageName = Literal[
    "clips", "poses", "candidates", "scores", "selection", "shards", "references", "finetune", "evaluation"
]
STAGE_NAMES: tuple[StageName, ...] = get_args(StageName)
Status = Literal["cached", "computed", "failed", "pending"]
Place = Literal["cpu", "gpu", "train", "here"]
"""`cpu`: independent items that need no animation model. `gpu`: items that do; who computes one keeps the model loaded.
`train`: one item that takes the GPUs for itself. `here`: one small item, computed by the process that runs the flow."""


class RunStopped(Exception):  # noqa: N818 - the sentence that ends a run
    """The run can't go on. The message says why and what to do."""


@dataclass(frozen=True)
class Item:
    """One action with what people and the runner need to know about it."""

    name: str
    """For people: `dance.mp4 #002`."""
    action: Action
    parents: tuple[str, ...] = ()
    """Keys of the actions whose results this one was made from."""
    needs: tuple[str, ...] = ()
    """Digests of the objects that computing it reads."""
    source: str | None = None
    """Path or URL outside the store that computing it reads; only `clips` has one."""


@dataclass(frozen=True)
class Output:
    """What computing an item gave: its record and the bytes by name."""

    record: Mapping[str, Any]
    objects: Mapping[str, bytes | Path] = field(default_factory=dict)
    rejected: str | None = None
    """A finding about the input, see ``ipa_core.records.Rejected``."""


@dataclass(frozen=True)
class Drop:
    """An input that does not go on, and why; one line of the report."""

    stage: StageName
    name: str
    reason: str


@dataclass(frozen=True)
class ItemResult:
    item: Item
    status: Status
    result: ActionResult | None
    """None where it failed, or where a plan has nothing to predict it from."""
    error: str | None = None

    @property
    def done(self) -> ActionResult | None:
        """The result if there is one and it is not a rejection."""
        return self.result if self.result is not None and self.result.outcome == "done" else None


@dataclass(frozen=True)
class StageItems:
    items: tuple[Item, ...]
    dropped: tuple[Drop, ...] = ()
    """Inputs that became no item."""


class Results(dict[StageName, list[ItemResult]]):
    """Item results by stage, in the order of the items."""

    def done(self, stage: StageName) -> list[tuple[Item, ActionResult]]:
        return [(entry.item, entry.done) for entry in self[stage] if entry.done is not None]

    def one(self, stage: StageName) -> tuple[Item, ActionResult] | None:
        """The result of a stage of one item; None while it is not there (only in plans)."""
        found = self.done(stage)
        return found[0] if found else None


class Stage(Protocol):
    """A module of `flows.stages` is one of these."""

    NAME: StageName
    VERSION: int
    """Goes up whenever the output for the same inputs and config changes; a golden test watches."""
    PLACE: Place
    WAVES: tuple[Callable[[RunConfig, Results, Inputs], StageItems], ...]
    """Each wave's items may depend on the results of the one before it. Most stages have one."""

    def compute(self, item: Item, bench: Workbench) -> Output:
        """Needs only what ``item.needs`` names and what the workbench loads."""

    def nothing_left(self, config: RunConfig, results: Results) -> str | None:
        """Why the next stage would have nothing to work on and what to do; None where it has."""


class Inputs(Protocol):
    """What a run reads besides its stages' results: digests of what lies outside the store, each computed once per run,
    the registry, what people decided, and the store for small tables."""

    store: Store

    def videos(self, videos: Sequence[Video]) -> list[str]:
        """Of each video's bytes."""

    def model_weights(self) -> str: ...

    def pose_weights(self) -> str: ...

    def score_weights(self) -> str:
        """What the hand score is made with besides the pose backend: coefficients, the finger network."""

    def rounds(self) -> State:
        """The registry of adapters as it was when this run first asked."""

    def generator(self) -> str | None:
        """Digest of the LoRA that generates the candidates; None: the base model alone."""

    def verdicts(self) -> Mapping[str, Verdict]:
        """What people decided about candidates, by the digest of their video, as it was when this run first asked."""

    def put(self, data: bytes) -> str:
        """Put a small table of upstream results into the store, so that it can be an input of one action."""


def key_config(config: Config, *leave_out: str) -> dict[str, Any]:
    """The fields of a stage's config as they enter its keys."""
    return config.model_dump(mode="json", exclude=set(leave_out))


def blob(result: ActionResult, name: str) -> str:
    """Digest of a named output."""
    found: Blob = result.outputs[name]
    return found.digest


def digests(result: ActionResult, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(blob(result, name) for name in names)
