"""`-v` and `-q`: how much a command says on stderr besides errors."""

from __future__ import annotations

import logging
import os
import sys

_CONSOLE = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
_quiet = False


def set_up() -> None:
    """Show warnings and progress. Lower levels are for the log of the Prefect run."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    _show(logging.WARNING)
    os.environ.setdefault(_CONSOLE, "WARNING")  # Terminal only: the UI gets all lines.


def verbose(wanted: bool = True) -> None:
    """Also show what libraries of the project and the Prefect run log as info, unless the command is quiet."""
    if wanted and not _quiet:
        _show(logging.INFO)
        for name in ("flows", "ipa_core", "storage"):
            logging.getLogger(name).setLevel(logging.INFO)
        os.environ[_CONSOLE] = "INFO"


def quiet(wanted: bool = True) -> None:
    """Show errors only."""
    global _quiet
    if wanted:
        from flows.engine import progress

        _quiet = True
        _show(logging.ERROR)
        os.environ[_CONSOLE] = "ERROR"
        progress.silence()


def say(text: str) -> None:
    """Print a line that is neither result nor error."""
    if not _quiet:
        print(text, file=sys.stderr, flush=True)


def _show(level: int) -> None:
    for handler in logging.getLogger().handlers:
        handler.setLevel(level)
