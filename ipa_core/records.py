"""Values that cross stages. All are immutable: no stage writes into a record of an earlier stage. Bytes (videos,
latents, poses) are named by their digest: the lower-case hex blake3 of the content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

Digest = str
Split = Literal["train", "held_out"]
Side = Literal["left", "right"]
Verdict = Literal["accept", "reject"]
"""A decision about a candidate by hand, made of its reviews (`selection.reviewers`)."""
Answer = Literal["accept", "reject", "unsure"]
"""The answer of a person's review of a candidate. ``unsure`` decides nothing."""
ReviewRule = Literal["latest", "any", "majority", "all"]
"""Makes one verdict of several reviews (`selection.reviewers`)."""
ConfidenceSource = Literal["presence", "model"]
"""The source of a hand point's confidence. ``presence``: one number per hand and frame (MediaPipe). ``model``: the
network's own confidence of each point (DWPose)."""


DEGENERATE: Final = "degenerate"
"""Begins the reason why a video that shows nothing can't be scored."""


class Rejected(Exception):  # noqa: N818 - a finding about the input, not an error
    """A finding about the input (no person, unreadable, hands too small). It is cached and listed, and the run goes on.
    The message is the reason that people read in the report: short, without paths, without a full stop."""


class Record(BaseModel):
    """Base of the records that are stored as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(Record):
    """An axis-aligned rectangle in pixels of the upright picture: ``x`` to the right, ``y`` down."""

    x: float
    y: float
    width: float
    height: float

    def scaled(self, by: float) -> Box:
        return Box(x=self.x * by, y=self.y * by, width=self.width * by, height=self.height * by)


class Clip(Record):
    """A window of a driving video: ``frames`` pictures of ``width`` x ``height`` at ``fps``, cropped to the person."""

    clip_id: str
    """``<first 16 digits of the source's digest>-<index, 3 digits>``."""
    source: Digest
    index: int
    start: float
    """Seconds from the source's first picture."""
    frames: int
    width: int
    height: int
    fps: float
    crop: Box
    """In pixels of the upright source."""
    reference_index: int
    """The frame that is the reference image, unless another person is animated (`clips.references`)."""
    video: Digest
    """H.264 mp4."""
    reference: Digest
    """PNG; of another person, any picture of any size."""
    prompt: str
    group: str
    """The performer. Held-out clips share no group with training clips."""
    split: Split


@dataclass(frozen=True, eq=False)
class PoseSequence:
    """Keypoints of one person in COCO-WholeBody 133 order (body 0-16, feet 17-22, face 23-90, left hand 91-111, right
    hand 112-132; left is the person's left).

    keypoints: float32 ``[T, 133, 2]``, pixels (x right, y down; the centre of the top left pixel is 0.5, 0.5).
    confidence: float32 ``[T, 133]`` in [0, 1]. A point that was not found has 0, and its keypoint is 0, 0.
    width, height: of the pictures, in pixels.
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    width: int
    height: int
    hand_confidence: ConfidenceSource
    backend: str

    def __post_init__(self) -> None:
        frames = len(self.keypoints)
        if self.keypoints.shape != (frames, 133, 2) or self.confidence.shape != (frames, 133):
            raise ValueError(
                f"PoseSequence wants keypoints [T, 133, 2] and confidence [T, 133], "
                f"got {self.keypoints.shape} and {self.confidence.shape}"
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    def to_bytes(self) -> bytes:
        """Write safetensors. The same pose gives the same bytes."""
        about = {
            "width": self.width,
            "height": self.height,
            "hand_confidence": self.hand_confidence,
            "backend": self.backend,
        }
        tensors = {
            "keypoints": np.ascontiguousarray(self.keypoints, np.float32),
            "confidence": np.ascontiguousarray(self.confidence, np.float32),
        }
        # One metadata entry only: safetensors keeps entries in a hash map, and its order differs between processes.
        return safetensors.numpy.save(tensors, metadata={"pose": json.dumps(about, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes that :meth:`to_bytes` wrote. Raises ``ValueError`` when they hold no pose sequence."""
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = header.get("__metadata__", {}).get("pose")
        if about is None:
            raise ValueError("these bytes hold no pose sequence: the metadata entry 'pose' is missing")
        tensors = safetensors.numpy.load(data)
        return cls(tensors["keypoints"], tensors["confidence"], **json.loads(about))


class Candidate(Record):
    """One generated video of a clip."""

    clip_id: str
    seed: int
    video: Digest
    """H.264 mp4 of the clip's size and rate."""
    latents: Digest
    """safetensors with the tensor ``latents``, float32 ``[C, R + T', h, w]``: the final latents as sampled, normalised,
    with the R reference frames in front."""
    conditioning: Digest
    """safetensors with the conditioning of the model. The clip's candidates share it (see models.animation)."""


class EarlyPreview(Record):
    """The hand score of a candidate on its way from noise (see generation.early)."""

    seed: int
    t: float
    """Noise level of the step, in [0, 1]; 1 is noise."""
    score: float | None
    """``None``: the preview can't be scored. Since version 3 of the hand score, what lies above its ceiling counts."""
    stopped: str | None
    """The reason why the candidate was not finished. ``None``: it went on."""


_SECOND: Final = ("presence", "place", "scale", "rotation", "sway", "order")
"""Fields since version 2 of the score. Records of version 1 are written without them, as they always were: their bytes
are in keys."""


class _Measures(Record):
    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if value is not None or name not in _SECOND}


class HandMeasures(_Measures):
    """One hand in one frame of a candidate. A measure that could not be taken is ``None``, never a sentinel number.
    Since version 2 of the score, `pck`, `error`, `bone_consistency`, `jitter` and `palm_agreement` are taken after a
    similarity (shift, rotation and scale) that maps the hands onto each other, and `plausibility` is counted from the
    driving hand's.
    """

    frame: int
    side: Side
    confidence: float
    """Keypoint confidence of the hand, mean over its 21 points, in [0, 1]."""
    size: float | None
    """Longer side of the box around the driving hand's points, pixels."""
    pck: float | None
    """Share of the points within ``scores.pck_radius`` hand sizes of the driving hand's, in [0, 1]."""
    error: float | None
    """Mean distance to the driving hand's points, divided by the hand size (normalised mean error), >= 0."""
    bone_consistency: float | None
    """1 - the change of bone lengths over time beyond the driving hand's change, relative to a bone, in [0, 1]."""
    jitter: float | None
    """Mean second difference of the points beyond the driving hand's, divided by the hand size, >= 0."""
    sharpness: float | None
    """Variance of the Laplacian around the hand, relative to the driving video's, >= 0; 1 is equally sharp. Since
    version 2 the width of edges that the softness of the rest of the picture explains, over their width, in [0, 1]."""
    wrist_distance: float | None = None
    """Distance to the driving hand's wrist, divided by the hand size, >= 0."""
    palm_agreement: float | None = None
    """Whether the palm shows the same side as the driving hand's, in [0, 1]. 0 is a left hand for a right one."""
    plausibility: float | None = None
    """Share of the four long fingers whose joints bend as joints can, in [0, 1]."""
    presence: float | None = None
    """Confidence over the driving hand's, in [0, 1]. This and the next four: since version 2 of the score."""
    place: float | None = None
    """Distance of the centres of the two hands, divided by the hand size, >= 0."""
    scale: float | None = None
    """Logarithm of the ratio of their sizes without its sign, >= 0."""
    rotation: float | None = None
    """Angle between them, in radians from 0 to pi."""
    sway: float | None = None
    """Second difference over time of the shift from the driving hand, divided by the hand size, >= 0. Since version 3
    the pictures say where the hand is, where they agree."""
    fingers: float | None = None
    """How surely the fingers are as whole as the driving hand's, in [0, 1]. A network compares both crops."""
    reward: float | None = None
    """A second opinion (``scores.reward``), in [0, 1]."""
    unscorable: str | None = None
    """The reason why this hand is not scored in this frame (smaller than 16 pixels, out of the picture, ...)."""


class ScoreComponents(_Measures):
    """Means over the scored hands and frames, weighted by hand size like the score. ``None``: nothing was measured."""

    confidence: float | None
    size: float | None
    pck: float | None
    error: float | None
    bone_consistency: float | None
    jitter: float | None
    sharpness: float | None
    wrist_distance: float | None = None
    palm_agreement: float | None = None
    plausibility: float | None = None
    presence: float | None = None
    place: float | None = None
    scale: float | None = None
    rotation: float | None = None
    sway: float | None = None
    fingers: float | None = None
    reward: float | None = None


class HandScore(_Measures):
    """The score of one candidate's hands."""

    score: float | None
    """In [0, 1], higher is better. ``None`` exactly when ``unscorable`` gives a reason."""
    unscorable: str | None
    components: ScoreComponents
    worst: dict[str, float] = {}
    """For each component, as a utility in [0, 1], the least mean over frames in a row of one hand: five, and
    since version 2 of the score a third of a longer clip."""
    scorable: float = 0.0
    """Share of the (frame, hand) pairs that could be scored, in [0, 1]."""
    good_frames: float | None
    """Share of the scored (frame, hand) pairs whose own score reaches ``scores.good_hand``, in [0, 1]. ``None`` exactly
    when ``unscorable`` gives a reason."""
    hands: tuple[HandMeasures, ...]
    order: float | None = None
    """The score's logit without the ceiling, any real number. It orders candidates whose scores are equal. Since
    version 2 of the score."""

    @classmethod
    def none(cls, why: str, hands: tuple[HandMeasures, ...] = ()) -> Self:
        """Return the score of a video in which no hand can be scored, with its reason."""
        nothing = ScoreComponents(**dict.fromkeys(ScoreComponents.model_fields))
        return cls(score=None, unscorable=why, components=nothing, good_frames=None, hands=hands)

    @property
    def degenerate(self) -> bool:
        """Whether the video shows nothing, by the model's fault. All other reasons lie in the driving video."""
        return self.unscorable is not None and self.unscorable.startswith(DEGENERATE)


class ScoredCandidate(Record):
    """A candidate with its score: the input of selection."""

    candidate: Candidate
    score: HandScore
    pose: Digest | None
    """The pose sequence found in the candidate, for overlays. ``None``: nothing was found."""


class Decision(Record):
    """Selection's decision about one candidate, with the reason."""

    clip_id: str
    seed: int
    score: float | None
    kept: bool
    reason: str
    """For people: ``score 0.41 is below the threshold 0.60``."""


class YieldReport(Record):
    """The four cases of the paper, counted over the clips. Case 4 counts the pairs that DPO could have used."""

    clips: int
    candidates: int
    good: int
    bad: int
    unscorable: int
    kept: int
    both_good_pairs: int
    """Case 1: pairs of one clip's candidates whose hands are good in every frame."""
    both_bad_pairs: int
    """Case 2: pairs whose hands are bad in every frame."""
    mixed_pairs: int
    """Case 3: at least one of the two is good in some frames and bad in others."""
    strict_pairs: int
    """Case 4: one is good in every frame, the other bad in every frame. DPO needs such pairs."""
    clips_with_strict_pair: int


class LeftOut(Record):
    """Counts of what was generated not at all, or not to the end."""

    no_hands: int = 0
    """Training clips in which no driving hand can be scored."""
    given_up: int = 0
    """Clips that early rejection gave up."""
    stopped: int = 0
    """Candidates that it stopped in other clips."""


class Selection(Record):
    decisions: tuple[Decision, ...]
    report: YieldReport
    best_score: float | None


class Ruling(Record):
    """The promotion rule's answer about a challenger, with the numbers behind it (see evaluation.promotion)."""

    promote: bool
    reason: str
    """One sentence for people."""
    clips: int
    pairs: int
    """Pairs of held-out videos, same clip and seed, in which both have a hand score."""
    win_rate: float | None
    """Share of the pairs that the challenger wins; ties count half. ``None``: there is no pair."""
    win_rate_low: float | None
    """The ends of the 95 % interval of the win rate. ``None`` with fewer than two clips."""
    win_rate_high: float | None
    psnr_difference: float | None
    """Challenger - incumbent over the whole picture, mean over the pairs of videos, dB."""
    ssim_difference: float | None
    sharpness_drop: float | None = None
    """Share of the incumbent's sharpness of hands that the challenger loses; below 0: it is sharper. ``None``: not
    measured."""
    challenger: int | None = None
    """Number k of the challenger among those of its base model that the rule has judged, from 1. ``None``: a ruling of
    an earlier version."""
    p_value: float | None = None
    """Chance that an equal model does as well on these clips (one-sided signed-rank test over the clips). ``None``:
    fewer than two clips."""
    p_limit: float | None = None
    """The part of ``rounds.alpha`` that this challenger spends."""


class ReferenceErrors(Record):
    """The frozen model's squared errors (e_ref) on one sample, for the draws of some epochs in a row (see
    `ipa_core.alignment.halo.SquaredError`)."""

    first_epoch: int
    everywhere: tuple[float, ...]
    on_hands: tuple[float, ...]
    elements: int


class PreferenceSample(Record):
    """A candidate with all that training needs: one sample of a shard. Only methods that learn from losers have shards
    with candidates that were not kept."""

    key: str
    """Name of the sample in its shard, without dots: ``<clip_id>-<seed, 16 hex digits>``."""
    clip_id: str
    seed: int
    score: float | None
    """``None``: the candidate is unscorable, and a review accepted it."""
    prompt: str
    video: Digest
    latents: Digest
    conditioning: Digest
    pose: Digest
    """The driving pose. The hand masks are drawn from it."""
    driving: Digest | None = None
    """The driving clip's video, only if it is trained on (``alignment.latents``)."""
    candidate_action: str
    score_action: str
    kept: bool | None = None
    """``None``: the shards hold kept candidates alone. Their JSON has neither this nor ``reward``, as ever."""
    reward: float | None = None
    """Place of the candidate between the last (0) and the first (1) of its clip, by the measure and in the order that
    selection ranks by; the clip's candidates share ``conditioning``."""

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = write(self)
        late = () if self.kept is not None else ("kept", "reward")
        return {name: value for name, value in found.items() if name not in late}
