"""Results for people: the report of a run, charts, sheets of pictures, pages of experiments."""

from ipa_core.reporting.charts import Curve, RunYield, curve_chart, yield_chart
from ipa_core.reporting.page import data_uri
from ipa_core.reporting.report import (
    CandidateLine,
    DroppedInput,
    NamedDigest,
    ReportData,
    Sheet,
    render_report,
    sheets_to_show,
    strips_to_show,
)
from ipa_core.reporting.sheets import Shot, candidate_strip, comparison_sheet, contact_sheet, encode_jpeg

__all__ = [
    "CandidateLine",
    "Curve",
    "DroppedInput",
    "NamedDigest",
    "ReportData",
    "RunYield",
    "Sheet",
    "Shot",
    "candidate_strip",
    "comparison_sheet",
    "contact_sheet",
    "curve_chart",
    "data_uri",
    "encode_jpeg",
    "render_report",
    "sheets_to_show",
    "strips_to_show",
    "yield_chart",
]
