"""Candidates -> hand scores -> good samples. Knows no torch."""

from ipa_core.scoring.quality import QualityModel
from ipa_core.scoring.scorer import HandScorer, KeypointHandScorer, Opinions, Reward, ScoredHands
from ipa_core.scoring.selection import select

__all__ = ["HandScorer", "KeypointHandScorer", "Opinions", "QualityModel", "Reward", "ScoredHands", "select"]
