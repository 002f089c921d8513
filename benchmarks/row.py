"""A line of a table of promises."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    promise: str
    command: str
    printed: str
    kept: bool
