"""Make rewards in [0, 1] of one clip's scores, for methods that learn from losing candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ipa_core.config import SelectionConfig
from ipa_core.records import Digest, ScoredCandidate, Verdict
from ipa_core.scoring.selection import in_turn, rank_value


def rewards(
    candidates: Sequence[ScoredCandidate], config: SelectionConfig, verdicts: Mapping[Digest, Verdict]
) -> dict[int, float]:
    """Return the rewards of one clip's candidates by seed; those without a value are left out.

    The measure that selection ranks by, from the clip's least (0) to its largest value (1), 1/2 where all are equal.
    The controls of ``config.pick`` give the same rewards to the candidates in another order. An accepted candidate has
    1 and a rejected one 0.
    """
    found = [one for one in in_turn(candidates, config) if rank_value(one, config.rank_by) is not None]
    values = sorted((rank_value(one, config.rank_by) or 0.0 for one in found), reverse=True)
    spread = values[0] - values[-1] if values else 0.0
    made = {
        one.candidate.seed: round((value - values[-1]) / spread, 6) if spread else 0.5
        for one, value in zip(found, values, strict=True)
    }
    decided = {one.candidate.seed: verdicts.get(one.candidate.video) for one in candidates}
    return made | {seed: float(verdict == "accept") for seed, verdict in decided.items() if verdict is not None}
