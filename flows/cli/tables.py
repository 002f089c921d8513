"""Tables on a terminal and in a log."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH: Final = 1000
"""Wider than any table: a terminal wraps long lines, and a file keeps them."""


def text_table(align: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the table as text; ``align`` has an `l` or an `r` for each column."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, side in zip(head, align, strict=True):
        table.add_column(Text(name), justify="right" if side == "r" else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
