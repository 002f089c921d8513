"""Compare base and aligned model on held-out clips. Only a feature extractor loads torch."""

from ipa_core.evaluation.comparison import ClipResult, Comparison, compare
from ipa_core.evaluation.features import FeatureExtractor
from ipa_core.evaluation.look import Look, look
from ipa_core.evaluation.metrics import VideoMetrics, video_metrics
from ipa_core.evaluation.promotion import promotion_rule

__all__ = [
    "ClipResult",
    "Comparison",
    "FeatureExtractor",
    "Look",
    "VideoMetrics",
    "compare",
    "look",
    "promotion_rule",
    "video_metrics",
]
