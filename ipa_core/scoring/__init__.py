"""Candidates -> hand scores -> good samples. Knows no torch."""

from ipa_core.scoring.scorer import SCORES_VERSION, HandScorer, KeypointHandScorer, ScoredHands
from ipa_core.scoring.selection import SELECTION_VERSION, select

__all__ = ["SCORES_VERSION", "SELECTION_VERSION", "HandScorer", "KeypointHandScorer", "ScoredHands", "select"]
