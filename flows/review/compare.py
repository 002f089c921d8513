"""The blind comparison of base and aligned model: which pairs one person sees, in which order, on which sides.

It knows nothing of the web. The stored seed draws order and sides for each person anew, and names all content by tokens
that say nothing. Digests, which a report shows too, stay here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from flows.engine.run_folder import RunFolder, runs
from flows.engine.stage import blob
from flows.review.session import now
from flows.stages.evaluation import Evaluation
from flows.stages.finetune import Finetune
from flows.stages.pairs import VideoPair, video_pairs
from flows.training.job import LORA
from ipa_core.config import ConfigError
from ipa_core.records import Digest
from storage import Store, StoreError
from storage.digest import digest_config
from storage.preferences import Preference, Preferences, Preferred, stood_by

Kind = Literal["left", "right", "driving", "pose"]
KINDS: Final[tuple[Kind, ...]] = ("left", "right", "driving", "pose")


@dataclass(frozen=True)
class NamedPair:
    name: str
    """For people: `dance.mp4 #002`, with a number where the clip has several seeds."""
    pair: VideoPair


@dataclass(frozen=True)
class Pairs:
    """The pairs of a run's evaluation."""

    run_id: str
    config: str
    pairs: tuple[NamedPair, ...]


def open_pairs(store: Store, run: RunFolder | None) -> Pairs:
    """Return the pairs of a run, or of the last run with any. Needs only the store. Raises :class:`ConfigError`."""
    for folder in [run] if run else runs(store):
        try:
            found = _pairs(store, folder)
        except StoreError:
            if run:
                raise
            continue
        if found:
            return Pairs(folder.run_id, folder.name, found)
    what = f"run {run.run_id} has" if run else f"no run of the store at {store.address} has"
    raise ConfigError(
        f"{what} no videos of base and aligned model to compare; `ipa run CONFIG` makes them, `ipa status` lists runs"
    )


def _pairs(store: Store, folder: RunFolder) -> tuple[NamedPair, ...]:
    trained = next(iter(store.actions.lookup(Finetune.name, folder.names(Finetune.name)).values()), None)
    if trained is None or trained.outcome != "done":
        return ()
    names = folder.names(Evaluation.name)
    results = store.actions.lookup(Evaluation.name, names)
    clips = {
        result.action.config["clip_id"]: names[key].rpartition(" ")[0]
        for key, result in results.items()
        if "clip" in result.action.inputs
    }
    found = video_pairs(results.values(), blob(trained, LORA))
    counts: dict[str, int] = {}
    named = []
    for pair in found:
        counts[pair.clip_id] = number = counts.get(pair.clip_id, 0) + 1
        several = sum(one.clip_id == pair.clip_id for one in found) > 1
        named.append(NamedPair(f"{clips[pair.clip_id]}{f', {number}' if several else ''}", pair))
    return tuple(named)


@dataclass(frozen=True)
class Question:
    """A pair as one person sees it."""

    name: str
    pair: VideoPair
    left: Digest
    right: Digest
    tokens: Mapping[Kind, str]


class Comparing:
    """One person's comparison. The store gets each answer at once. Several threads may call it."""

    def __init__(self, store: Store, pairs: Pairs, by: str) -> None:
        self.store = store
        self.pairs = pairs
        self.by = by
        self._preferences = Preferences(store.address)
        self._lock = threading.Lock()
        seed = self._preferences.seed()
        self.questions = _drawn(pairs.pairs, seed, by)

    @cached_property
    def by_token(self) -> dict[str, tuple[Question, Kind]]:
        return {token: (question, kind) for question in self.questions for kind, token in question.tokens.items()}

    def answers(self) -> list[Preferred | None]:
        """Return the person's own answers that stand, as sides of the questions."""
        with self._lock:
            histories = self._preferences.histories()
        return [self._answer(question, histories.get(question.pair.digest, ())) for question in self.questions]

    def _answer(self, question: Question, history: Sequence[Preference]) -> Preferred | None:
        said = next((one for one in stood_by(history) if one.by == self.by), None)
        if said is None or said.answer == "same":
            return None if said is None else "same"
        # The sides of a seed that was lost may have been others.
        return "left" if said.video == question.left else "right"

    def say(self, question: Question, answer: Preferred | None) -> None:
        """Keep an answer; None takes the earlier one back."""
        said = Preference(left=question.left, right=question.right, answer=answer, by=self.by, at=now())
        with self._lock:
            self._preferences.add(said)


def _drawn(pairs: Iterable[NamedPair], seed: str, by: str) -> tuple[Question, ...]:
    def draw(pair: VideoPair, what: str) -> str:
        return digest_config({"seed": seed, "by": by, "pair": pair.digest, "what": what})

    questions = []
    for named in sorted(pairs, key=lambda one: draw(one.pair, "order")):
        pair = named.pair
        sides = [pair.base, pair.aligned]
        if int(draw(pair, "sides")[:8], 16) % 2:
            sides.reverse()
        questions.append(Question(named.name, pair, sides[0], sides[1], {kind: draw(pair, kind) for kind in KINDS}))
    return tuple(questions)
