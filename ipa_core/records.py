"""Values that cross stages. All are frozen; nothing downstream writes into an upstream record.

Bytes (videos, latents, poses) are named by their digest: the lower-case hex blake3 of the content.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict

Digest = str
Split = Literal["train", "held_out"]
Side = Literal["left", "right"]
Verdict = Literal["accept", "reject"]
"""What a person said of a candidate."""
ConfidenceSource = Literal["presence", "model"]
"""Where a hand point's confidence comes from: ``presence`` is one number per hand and frame (MediaPipe), ``model``
is the network's own confidence of each point (DWPose)."""


class Rejected(Exception):  # noqa: N818 - a finding about the input, not an error
    """A finding about the input (no person, unreadable, hands too small). Cached, listed, and the run goes on.

    The message is the reason that a person reads in the report: short, without paths, without a full stop.
    """


class Record(BaseModel):
    """Base of the records that are stored as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(Record):
    """An axis-aligned rectangle in pixels; ``x`` to the right, ``y`` down, of the upright picture."""

    x: float
    y: float
    width: float
    height: float


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
    """The frame that is the reference image."""
    video: Digest
    """H.264 mp4."""
    reference: Digest
    """PNG."""
    prompt: str
    group: str
    """Who performs: held-out clips share no group with training clips."""
    split: Split


@dataclass(frozen=True, eq=False)
class PoseSequence:
    """Keypoints of one person in COCO-WholeBody 133 order (body 0-16, feet 17-22, face 23-90, left hand 91-111,
    right hand 112-132; left is the person's left).

    keypoints: float32 ``[T, 133, 2]``, pixels (x right, y down; the centre of the top left pixel is 0.5, 0.5).
    confidence: float32 ``[T, 133]`` in [0, 1]; 0 where a point was not found (its keypoint is then 0, 0).
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
        """As safetensors; the same pose gives the same bytes."""
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
        # One metadata entry: safetensors keeps several in a hash map, whose order is not the same in every process.
        return safetensors.numpy.save(tensors, metadata={"pose": json.dumps(about, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what :meth:`to_bytes` wrote. Raises ``ValueError`` where the bytes are not a pose sequence."""
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
    """safetensors, tensor ``latents`` float32 ``[C, R + T', h, w]``: the final latents as sampled, normalised, with
    the R reference frames in front."""
    conditioning: Digest
    """safetensors: what the model was conditioned on, shared by the clip's candidates (see models.animation)."""


class HandMeasures(Record):
    """One hand in one frame of a candidate. ``None``: could not be measured; never a sentinel number."""

    frame: int
    side: Side
    confidence: float
    """Keypoint confidence of the hand, mean over its 21 points, in [0, 1]."""
    size: float | None
    """Longer side of the box around the driving hand's points, pixels."""
    pck: float | None
    """Share of the 21 points within 0.2 hand sizes of the driving hand's, in [0, 1]."""
    error: float | None
    """Mean distance to the driving hand's points over the hand size (normalised mean error), >= 0."""
    bone_consistency: float | None
    """1 - change of the bone lengths over time that the driving hand does not have, relative to a bone, in [0, 1]."""
    jitter: float | None
    """Mean second difference of the points that the driving hand does not have, over the hand size, >= 0."""
    sharpness: float | None
    """Variance of the Laplacian around the hand, relative to the driving video's, >= 0; 1 is equally sharp."""
    wrist_distance: float | None = None
    """From the driving hand's wrist over the hand size, >= 0."""
    palm_agreement: float | None = None
    """Whether the palm shows the side that the driving hand's shows, in [0, 1]; 0 is a left hand for a right one."""
    plausibility: float | None = None
    """Share of the fingers whose joints bend as joints can, in [0, 1]."""
    fingers: float | None = None
    """How surely the fingers are as whole as the driving hand's, by a network that looks at both crops, in [0, 1]."""
    reward: float | None = None
    """A second opinion (``scores.reward``), in [0, 1]."""
    unscorable: str | None = None
    """Why this hand is not scored in this frame (smaller than 16 pixels, out of the picture, ...)."""


class ScoreComponents(Record):
    """Means over the scored hands and frames, weighted by hand size as the score is; ``None``: nothing measured."""

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
    fingers: float | None = None
    reward: float | None = None


class HandScore(Record):
    """How good the hands of one candidate are."""

    score: float | None
    """In [0, 1], higher is better; ``None`` exactly when ``unscorable`` says why."""
    unscorable: str | None
    components: ScoreComponents
    worst: dict[str, float] = {}
    """Of each component, as a utility in [0, 1], the least mean over five frames in a row of one hand."""
    scorable: float = 0.0
    """Share of the (frame, hand) pairs that could be scored, in [0, 1]."""
    good_frames: float | None
    """Share of the scored (frame, hand) pairs whose own score reaches ``scores.good_hand``, in [0, 1]; ``None`` exactly
    when ``unscorable`` says why."""
    hands: tuple[HandMeasures, ...]


class ScoredCandidate(Record):
    """A candidate with its score, as selection sees it."""

    candidate: Candidate
    score: HandScore
    pose: Digest | None
    """The re-extracted pose sequence of the candidate, for overlays; None where nothing was found."""


class Decision(Record):
    """What selection decided about one candidate, and why."""

    clip_id: str
    seed: int
    score: float | None
    kept: bool
    reason: str
    """For people: ``score 0.41 is below the threshold 0.60``."""


class YieldReport(Record):
    """The four cases of the paper, counted over clips, and what DPO could have used of the same candidates."""

    clips: int
    candidates: int
    good: int
    bad: int
    unscorable: int
    kept: int
    both_good_pairs: int
    """Case 1: pairs of one clip's candidates whose hands are good in every frame."""
    both_bad_pairs: int
    """Case 2: both bad in every frame."""
    mixed_pairs: int
    """Case 3: at least one of the two is good in some frames and bad in others."""
    strict_pairs: int
    """Case 4: one good in every frame, the other bad in every frame: what DPO needs."""
    clips_with_strict_pair: int


class Selection(Record):
    decisions: tuple[Decision, ...]
    report: YieldReport
    best_score: float | None


class Ruling(Record):
    """What the promotion rule says of a challenger, with the numbers that it rests on (see evaluation.promotion)."""

    promote: bool
    reason: str
    """One sentence for people."""
    clips: int
    pairs: int
    """Pairs of held-out videos, same clip and seed, in which both have a hand score."""
    win_rate: float | None
    """Share of the pairs that the challenger wins; ties count half. ``None``: there is no pair."""
    win_rate_low: float | None
    """Ends of its 95 % interval; ``None`` with fewer than two clips."""
    win_rate_high: float | None
    psnr_difference: float | None
    """Challenger - incumbent over the whole picture, mean over the pairs of videos, dB."""
    ssim_difference: float | None


class ReferenceErrors(Record):
    """The reference's squared errors on one sample, for the draws of some epochs in a row (see
    `ipa_core.alignment.halo.SquaredError`)."""

    first_epoch: int
    everywhere: tuple[float, ...]
    on_hands: tuple[float, ...]
    elements: int


class PreferenceSample(Record):
    """A kept candidate with all that training needs; one sample of a shard."""

    key: str
    """Of the sample in its shard; no dots: ``<clip_id>-<seed, 16 hex digits>``."""
    clip_id: str
    seed: int
    score: float | None
    """``None``: unscorable, and accepted by hand."""
    prompt: str
    video: Digest
    latents: Digest
    conditioning: Digest
    pose: Digest
    """The driving pose: hand masks are drawn from it."""
    driving: Digest | None = None
    """The driving clip's video; only where it is trained on (``alignment.latents``)."""
    candidate_action: str
    score_action: str
