"""The `ipa` command: results on stdout, progress and errors on stderr, `--json` for scripts."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from flows.cli.experiments import bench, score_app, sweep
from flows.cli.lab import lab_app
from flows.cli.models import models_app
from flows.cli.review import review_app
from flows.cli.run import demo, plan, run, serve
from flows.cli.store import store_app
from flows.cli.use import animate, report, status, yield_
from flows.engine.stage import RunStopped
from flows.engine.stop import end_stopped, stop_on_signals, stop_signal
from ipa_core.config import ConfigError
from ipa_core.records import Rejected

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (demo, run, plan, status, report, animate, bench, sweep, serve):
    app.command()(command)
app.command("yield")(yield_)
for name, group in (
    ("models", models_app),
    ("review", review_app),
    ("store", store_app),
    ("score", score_app),
    ("lab", lab_app),
):
    app.add_typer(group, name=name)


def _version(wanted: bool) -> None:
    if wanted:
        print(importlib.metadata.version("ipa-pipeline"))
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)]


@app.callback()
def options(version: Version = False) -> None:
    """From driving videos to a LoRA with better hands. Exit codes: 0 done, 1 failed, 2 wrong options, 130 Ctrl-C,
    143 SIGTERM."""


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Print an error that the user can mend as one sentence on stderr, without a traceback."""
    from flows.engine.walk import readable_records
    from ipa_core.models.location import MissingModel
    from storage import StoreError

    try:
        with readable_records():
            yield
    except (ConfigError, RunStopped, StoreError, Rejected, MissingModel) as error:
        print(f"ipa: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def main() -> None:
    for name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)  # Lower levels are for the log of the Prefect run.
    with stop_on_signals():
        try:
            with _one_sentence():
                app(standalone_mode=True)
        except BaseException as error:
            number = stop_signal(error)
            if number is None:
                raise
            end_stopped(number)
