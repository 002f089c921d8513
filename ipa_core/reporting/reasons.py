"""Counts reasons for which inputs were dropped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def without_numbers(reason: str) -> str:
    """Return the reason in a form that is equal for reasons which differ only in numbers, or in the clip's name."""
    return re.sub(r"\b[0-9a-f]{16}-\d{3}\b|[-+]?\d+(\.\d+)?", "…", reason)


def count_by_reason(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Count the reasons :func:`without_numbers`, most frequent first."""
    return sorted(Counter(map(without_numbers, reasons)).items(), key=lambda item: (-item[1], item[0]))
