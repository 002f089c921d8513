"""Base against aligned model on held-out clips, and the report. torch only where a feature extractor is loaded."""

from ipa_core.evaluation.bench import ClipResult, Comparison, compare
from ipa_core.evaluation.charts import Curve, RunYield, curve_picture, yield_picture
from ipa_core.evaluation.features import FeatureExtractor
from ipa_core.evaluation.metrics import VideoMetrics, video_metrics
from ipa_core.evaluation.promotion import judge
from ipa_core.evaluation.report import (
    CandidateLine,
    DroppedInput,
    NamedDigest,
    ReportData,
    Sheet,
    render_report,
    sheets_to_show,
    strips_to_show,
)
from ipa_core.evaluation.sheets import Shot, candidate_strip, comparison_sheet, contact_sheet, encode_jpeg

__all__ = [
    "CandidateLine",
    "ClipResult",
    "Comparison",
    "Curve",
    "DroppedInput",
    "FeatureExtractor",
    "NamedDigest",
    "ReportData",
    "RunYield",
    "Sheet",
    "Shot",
    "VideoMetrics",
    "candidate_strip",
    "compare",
    "comparison_sheet",
    "contact_sheet",
    "curve_picture",
    "encode_jpeg",
    "judge",
    "render_report",
    "sheets_to_show",
    "strips_to_show",
    "video_metrics",
    "yield_picture",
]
