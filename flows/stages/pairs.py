"""The pairs of videos that an evaluation made: base and aligned model, same clip, same seed, for people to judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flows.engine.stage import blob
from flows.engine.view import View
from flows.stages.evaluation import Evaluated, evaluated
from flows.stages.finetune import lora_digest
from ipa_core.evaluation.preferences import Judgement, Preferred, preferred
from ipa_core.records import Digest
from storage import ActionResult
from storage.preferences import Preference, pair_of, stood_by


@dataclass(frozen=True)
class VideoPair:
    """Digests name the blobs."""

    clip_id: str
    seed: int
    base: Digest
    aligned: Digest
    driving: Digest
    """The true video, whose motion both follow."""
    pose: Digest

    @property
    def digest(self) -> Digest:
        return pair_of(self.base, self.aligned)


def video_pairs(results: Iterable[ActionResult], adapter: Digest) -> list[VideoPair]:
    """Return the pairs of the base model and of an adapter, by clip and seed. Two videos of equal bytes are none."""
    base: dict[tuple[str, int], tuple[Digest, ActionResult]] = {}
    aligned: dict[tuple[str, int], tuple[Digest, ActionResult]] = {}
    for result in results:
        lora = result.action.inputs.get("lora")
        if result.outcome == "done" and "clip" in result.action.inputs and lora in (None, adapter):
            rows = Evaluated.model_validate(result.record).results
            made = {(row.clip_id, row.seed): blob(result, f"{number}.mp4") for number, row in enumerate(rows)}
            (base if lora is None else aligned).update({place: (digest, result) for place, digest in made.items()})
    return [
        VideoPair(
            place[0], place[1], base[place][0], digest, result.action.inputs["clip"], result.action.inputs["pose"]
        )
        for place, (digest, result) in sorted(aligned.items())
        if place in base and base[place][0] != digest
    ]


def judgements(pairs: Sequence[VideoPair], histories: Mapping[Digest, Sequence[Preference]]) -> list[Judgement]:
    """Return the preferences between the videos of pairs that people stand by."""
    return [
        Judgement(
            clip_id=pair.clip_id,
            by=said.by,
            won={pair.aligned: 1.0, pair.base: 0.0}.get(said.video or "", 0.5),
            on_the_left=None if said.answer == "same" else said.answer == "left",
        )
        for pair in pairs
        for said in stood_by(histories.get(pair.digest, ()))
    ]


def preferred_of(run: View) -> tuple[Preferred, ...]:
    """Return what people prefer of a run's evaluation; () if nobody has compared."""
    adapter = lora_digest(run)
    if adapter is None:
        return ()
    pairs = video_pairs((clip.result for clip in evaluated(run)), adapter)
    return preferred(judgements(pairs, run.inputs.preferences))
