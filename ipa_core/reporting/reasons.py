"""Counts reasons for which inputs were dropped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def count_by_reason(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Count the reasons, most frequent first. Reasons that differ only in numbers, or in the clip's name, are one."""
    alike = Counter(re.sub(r"\b[0-9a-f]{16}-\d{3}\b|[-+]?\d+(\.\d+)?", "…", reason) for reason in reasons)
    return sorted(alike.items(), key=lambda item: (-item[1], item[0]))
