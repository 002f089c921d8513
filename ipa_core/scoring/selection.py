"""Which candidates are good samples, why the others are not, and what DPO could have used of them.

The four cases are those of the IPA paper (section on preference data): both videos of a pair good, both bad, mixed
within a video, and the strict pair of one wholly good and one wholly bad video.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from math import comb

from ipa_core.config import SelectionConfig
from ipa_core.records import Decision, ScoredCandidate, Selection, YieldReport


def select(scored: Sequence[ScoredCandidate], config: SelectionConfig) -> Selection:
    """Decide about every candidate; decisions come ordered by clip and seed, whatever the order of ``scored``.

    Keeping nothing is a result, not an error: ``best_score`` tells how far the best one was. Raises ``ValueError``
    where two candidates share clip and seed.
    """
    ordered = sorted(scored, key=_place)
    clips = [list(group) for _, group in groupby(ordered, key=lambda item: item.candidate.clip_id)]
    for earlier, later in pairwise(ordered):
        if _place(earlier) == _place(later):
            raise ValueError(f"two candidates of clip {_place(later)[0]} have the seed {_place(later)[1]}")
    decisions = tuple(decision for candidates in clips for decision in _decide(candidates, config))
    return Selection(
        decisions=decisions,
        report=count_yield(clips, kept=sum(decision.kept for decision in decisions)),
        best_score=max(_scores(ordered), default=None),
    )


def count_yield(clips: Sequence[Sequence[ScoredCandidate]], kept: int) -> YieldReport:
    """The paper's four cases over all pairs within a clip.

    A candidate is good when every scored hand of it is (``good_frames`` 1), bad when none is (0), else mixed;
    unscorable candidates are in no pair.
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


def _decide(candidates: Sequence[ScoredCandidate], config: SelectionConfig) -> list[Decision]:
    """Decisions about one clip's candidates, ordered by seed; equal scores go by the lower seed."""
    scores = _scores(candidates)
    best_first = sorted(candidates, key=lambda item: (-(item.score.score or 0.0), item.candidate.seed))
    decisions, kept = [], 0
    for item in best_first:
        score = item.score.score
        if score is None:
            keep, reason = False, f"unscorable: {item.score.unscorable}"
        else:
            keep, reason = _judge(score, sum(scores) / len(scores), kept, config)
        kept += keep
        decisions.append(
            Decision(clip_id=item.candidate.clip_id, seed=item.candidate.seed, score=score, kept=keep, reason=reason)
        )
    return sorted(decisions, key=lambda decision: decision.seed)


def _judge(score: float, mean: float, better_kept: int, config: SelectionConfig) -> tuple[bool, str]:
    """Whether to keep a candidate of this score, and why; ``better_kept`` of its clip are kept already."""
    lead = round(score - mean, 6)
    if score < config.threshold:
        return False, f"score {score:.3f} is below the threshold {config.threshold:.3f}"
    if config.margin and lead < config.margin:
        return False, f"score {score:.3f} is {lead:+.3f} from the clip's mean; the margin asks for {config.margin:+.3f}"
    if better_kept == config.per_clip:
        return False, f"score {score:.3f} would do, but per_clip is {config.per_clip} and the clip has better ones"
    return True, f"score {score:.3f}, {lead:+.3f} from the clip's mean, number {better_kept + 1} of the clip"


def _scores(candidates: Iterable[ScoredCandidate]) -> list[float]:
    return [item.score.score for item in candidates if item.score.score is not None]


def _place(item: ScoredCandidate) -> tuple[str, int]:
    return item.candidate.clip_id, item.candidate.seed
