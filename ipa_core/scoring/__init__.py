"""Candidates -> hand scores -> good samples. Knows no torch."""

from ipa_core.scoring.motion import pose_distance
from ipa_core.scoring.scorer import HandScorer, KeypointHandScorer, ScoredHands
from ipa_core.scoring.selection import select

__all__ = ["HandScorer", "KeypointHandScorer", "ScoredHands", "pose_distance", "select"]
