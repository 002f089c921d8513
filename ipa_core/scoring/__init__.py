"""Score the hands of candidates and select good samples. Only the finger network loads torch."""

from ipa_core.scoring.motion import pose_distance
from ipa_core.scoring.quality import QualityModel
from ipa_core.scoring.scorer import ConfidenceReward, HandScorer, KeypointHandScorer, Opinions, Reward, ScoredHands
from ipa_core.scoring.selection import select

__all__ = [
    "ConfidenceReward",
    "HandScorer",
    "KeypointHandScorer",
    "Opinions",
    "QualityModel",
    "Reward",
    "ScoredHands",
    "pose_distance",
    "select",
]
