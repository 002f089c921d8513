"""Where the files are that come with the code: configs, demo clips, hand bench, small model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGED: Final = Path(__file__).resolve().parents[1] / "project"
PROJECT: Final = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).resolve().parents[2]
"""Beside the packages in a checkout; `setup.py` puts them into the package `flows` of a wheel."""
