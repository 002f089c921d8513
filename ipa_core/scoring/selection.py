"""Select good samples with a reason for each decision, and count the pairs that DPO could have used.

The four cases are those of the IPA paper (section on preference data): both videos of a pair good, both bad, mixed
within a video, and the strict pair of one wholly good and one wholly bad video.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from math import comb
from statistics import median

from blake3 import blake3

from ipa_core.config import SelectionConfig
from ipa_core.records import Decision, Digest, PoseSequence, ScoredCandidate, Selection, Verdict, YieldReport
from ipa_core.scoring.motion import Motions


def select(
    scored: Sequence[ScoredCandidate],
    config: SelectionConfig,
    verdicts: Mapping[Digest, Verdict] | None = None,
    driving: Mapping[str, PoseSequence] | None = None,
) -> Selection:
    """Decide about every candidate; decisions come ordered by clip and seed, whatever the order of ``scored``.

    ``verdicts``: people's reviews by the candidate's video. They come before score and limits, and accepted candidates
    count towards the limits of the others. ``driving``: pose sequence of each clip by its id, needed with
    ``min_pose_distance`` only. It compares driving motions of different clips: candidates of one clip share theirs
    (``per_clip`` limits them), and other motion in a generated video is an error.

    Keeping nothing is a result, not an error: ``best_score`` tells how near the best candidate came. Raises
    ``ValueError`` when two candidates share clip and seed.
    """
    ordered = sorted(scored, key=_clip_seed)
    clips = [list(group) for _, group in groupby(ordered, key=lambda item: item.candidate.clip_id)]
    for earlier, later in pairwise(ordered):
        if _clip_seed(earlier) == _clip_seed(later):
            raise ValueError(f"two candidates of clip {_clip_seed(later)[0]} have the seed {_clip_seed(later)[1]}")
    decisions = _Selector(clips, config, verdicts or {}, driving or {}).decisions()
    return Selection(
        decisions=decisions,
        report=count_yield(clips, kept=sum(decision.kept for decision in decisions)),
        best_score=max(_scores(ordered), default=None),
    )


def count_yield(clips: Sequence[Sequence[ScoredCandidate]], kept: int) -> YieldReport:
    """Count the paper's four cases over all pairs within a clip.

    A candidate is good when every scored hand of it is good (``good_frames`` 1), bad when none is (0), else mixed.
    Unscorable candidates are in no pair.
    """
    counts = {"good": 0, "bad": 0, "unscorable": 0, "both_good": 0, "both_bad": 0, "mixed": 0, "strict": 0}
    clips_with_strict_pair = 0
    for candidates in clips:
        shares = [item.score.good_frames for item in candidates if item.score.good_frames is not None]
        good, bad = shares.count(1.0), shares.count(0.0)
        both_good, both_bad, strict = comb(good, 2), comb(bad, 2), good * bad
        counts["good"] += good
        counts["bad"] += bad
        counts["unscorable"] += len(candidates) - len(shares)
        counts["both_good"] += both_good
        counts["both_bad"] += both_bad
        counts["strict"] += strict
        counts["mixed"] += comb(len(shares), 2) - both_good - both_bad - strict
        clips_with_strict_pair += strict > 0
    return YieldReport(
        clips=len(clips),
        candidates=sum(len(candidates) for candidates in clips),
        good=counts["good"],
        bad=counts["bad"],
        unscorable=counts["unscorable"],
        kept=kept,
        both_good_pairs=counts["both_good"],
        both_bad_pairs=counts["both_bad"],
        mixed_pairs=counts["mixed"],
        strict_pairs=counts["strict"],
        clips_with_strict_pair=clips_with_strict_pair,
    )


class _Selector:
    """Decides in the order of ``config.pick``, so that the best (worst, random) candidates fill a limit. Clip and seed
    order candidates with equal values."""

    def __init__(
        self,
        clips: Sequence[Sequence[ScoredCandidate]],
        config: SelectionConfig,
        verdicts: Mapping[Digest, Verdict],
        driving: Mapping[str, PoseSequence],
    ) -> None:
        self._config = config
        self._verdicts = verdicts
        self._driving = driving
        self._in_turn = in_turn((item for candidates in clips for item in candidates), config)
        self._medians = {
            candidates[0].candidate.clip_id: median(scores) for candidates in clips if (scores := _scores(candidates))
        }
        self._ranks = max(1, int(config.share * len(self._in_turn)))
        self._of_clip: Counter[str] = Counter()
        self._of_source: Counter[str] = Counter()
        self._motions = Motions()

    def decisions(self) -> tuple[Decision, ...]:
        """Return the decisions ordered by clip and seed."""
        # Accepted candidates count towards the limits before the limits apply to others.
        for item in self._in_turn:
            if self._verdict(item) == "accept":
                self._take(item)
        found = [self._decision(rank, item) for rank, item in enumerate(self._in_turn)]
        return tuple(sorted(found, key=lambda decision: (decision.clip_id, decision.seed)))

    def _verdict(self, item: ScoredCandidate) -> Verdict | None:
        return self._verdicts.get(item.candidate.video)

    def _decision(self, rank: int, item: ScoredCandidate) -> Decision:
        candidate, score, verdict = item.candidate, item.score.score, self._verdict(item)
        if verdict is not None:
            kept, reason = verdict == "accept", f"{verdict}ed by hand, {_score_text(item)}"
        else:
            objection = self._objection(rank, item)
            kept, reason = objection is None, objection or self._place_text(item)
            if kept:
                self._take(item)
        return Decision(clip_id=candidate.clip_id, seed=candidate.seed, score=score, kept=kept, reason=reason)

    def _objection(self, rank: int, item: ScoredCandidate) -> str | None:
        """Return the reason not to keep a candidate, or None; ``rank`` counts from 0."""
        config, clip, score = self._config, item.candidate.clip_id, item.score.score
        if score is None:
            return _score_text(item)
        text, lead = self._text(item), self._lead(item)
        if rank_value(item, config.rank_by) is None:
            return f"{text}, but {config.rank_by} was not measured, by which candidates are ranked"
        if score < config.threshold:
            return f"{text} is below the threshold {config.threshold:.3f}"
        if config.margin and lead < config.margin:
            return f"{text} is {lead:+.3f} from the clip's median; the margin asks for {config.margin:+.3f}"
        if rank >= self._ranks:
            return f"{text} is number {rank + 1} of all candidates; share {config.share:g} takes {self._ranks}"
        if self._of_clip[clip] >= config.per_clip:
            return f"{text} would do, but per_clip is {config.per_clip} and the clip has {self._of_clip[clip]} already"
        taken = self._of_source[_source(clip)]
        if config.per_motion is not None and taken >= config.per_motion:
            return f"{text} would do, but per_motion is {config.per_motion} and the source video has {taken} already"
        if config.min_pose_distance and not self._of_clip[clip]:
            nearest = self._motions.nearest(self._driving[clip])
            if nearest is not None and nearest[0] < config.min_pose_distance:
                return (
                    f"{text} would do, but its motion is {nearest[0]:.3f} body sizes from that of clip {nearest[1]}; "
                    f"min_pose_distance asks for {config.min_pose_distance:.3f}"
                )
        return None

    def _take(self, item: ScoredCandidate) -> None:
        clip = item.candidate.clip_id
        if self._config.min_pose_distance and not self._of_clip[clip]:
            self._motions.add(clip, self._driving[clip])
        self._of_clip[clip] += 1
        self._of_source[_source(clip)] += 1

    def _lead(self, item: ScoredCandidate) -> float:
        assert item.score.score is not None
        return round(item.score.score - self._medians[item.candidate.clip_id], 6)

    def _place_text(self, item: ScoredCandidate) -> str:
        number = self._of_clip[item.candidate.clip_id] + 1
        return f"{self._text(item)}, {self._lead(item):+.3f} from the clip's median, number {number} of the clip"

    def _text(self, item: ScoredCandidate) -> str:
        measure = self._config.rank_by
        value = None if measure == "score" else rank_value(item, measure)
        return _score_text(item) + ("" if value is None else f", {measure} {value:.3f}")


def _score_text(item: ScoredCandidate) -> str:
    score = item.score.score
    return f"unscorable: {item.score.unscorable}" if score is None else f"score {score:.3f}"


def _source(clip_id: str) -> str:
    """Return the first digits of the digest of the clip's source video (see records.Clip)."""
    return clip_id.rpartition("-")[0] or clip_id


def _scores(candidates: Iterable[ScoredCandidate]) -> list[float]:
    return [item.score.score for item in candidates if item.score.score is not None]


def _clip_seed(item: ScoredCandidate) -> tuple[str, int]:
    return item.candidate.clip_id, item.candidate.seed


def rank_value(item: ScoredCandidate, measure: str) -> float | None:
    if item.score.score is None or measure == "score":
        return item.score.score
    value: float | None = getattr(item.score.components, measure)
    return value


def in_turn(items: Iterable[ScoredCandidate], config: SelectionConfig) -> list[ScoredCandidate]:
    """Sort candidates by the order of ``config.pick``; candidates without a value come last in every order. Equal
    scores are ordered by what lies above their ceiling."""

    def turn(item: ScoredCandidate) -> tuple[bool, float | bytes, float | bytes, str, int]:
        clip, seed = _clip_seed(item)
        value = rank_value(item, config.rank_by)
        order = item.score.order if config.rank_by == "score" else None
        return value is None, place(value or 0.0, clip, seed), place(order or 0.0, clip, seed), clip, seed

    def place(value: float, clip: str, seed: int) -> float | bytes:
        match config.pick:
            case "best":
                return -value
            case "worst":
                return value
            case "random":
                # The same in every run, and independent of the score.
                return blake3(f"pick/{clip}/{seed}".encode()).digest()

    return sorted(items, key=turn)
