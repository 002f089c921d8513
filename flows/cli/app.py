"""The `ipa` command: results on stdout, progress and errors on stderr, `--json` for scripts."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from flows.cli import talk
from flows.cli.deploy import deploy, serve
from flows.cli.doctor import doctor
from flows.cli.experiments import bench, score_app, sweep
from flows.cli.lab import lab_app
from flows.cli.models import models_app
from flows.cli.review import commands as review_app
from flows.cli.run import demo, plan, run
from flows.cli.start import init, schema
from flows.cli.store import store_app
from flows.cli.use import animate, report, status, yield_
from flows.cli.web import web
from flows.engine.stage import RunStopped
from flows.engine.stop import end_stopped, stop_on_signals, stop_signal
from ipa_core.config import ConfigError
from ipa_core.records import Rejected

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for command in (demo, init, doctor, schema, plan, run, status, report, animate, bench, sweep, deploy, serve, web):
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


EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong options, 129 closed terminal, 130 Ctrl-C, 143 SIGTERM."


@app.callback(epilog=EXIT_CODES)
def options(version: Version = False) -> None:
    """From driving videos to a LoRA with better hands. Results go to stdout, all else to stderr."""


def _switches(
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Show the log too, also that of the Prefect run.", callback=talk.verbose),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Show results and errors only.", callback=talk.quiet)
    ] = False,
) -> None:
    """Options of every command."""


def command_tree() -> Any:
    """Return the command `ipa` as typer builds it, with :func:`_switches` at each of its commands."""
    alone = typer.Typer(add_completion=False)
    alone.command()(_switches)
    switches = typer.main.get_command(alone).params
    for switch in switches:
        switch.expose_value = False  # The callbacks do it all.
    tree = typer.main.get_command(app)
    for command in _all_of(tree):
        command.params += switches
    return tree


def _all_of(command: Any) -> Iterator[Any]:
    yield command
    for part in getattr(command, "commands", {}).values():
        yield from _all_of(part)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Print an error that the user can mend as one sentence on stderr, without a traceback."""
    from flows.engine.walk import readable_records
    from storage import StoreError

    try:
        with readable_records():
            yield
    except (ConfigError, RunStopped, StoreError, Rejected, FloatingPointError) as error:
        print(f"ipa: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def main() -> None:
    for name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "1")
    talk.set_up()
    with stop_on_signals():
        try:
            with _one_sentence():
                command_tree()(prog_name="ipa")
        except BaseException as error:
            number = stop_signal(error)
            if number is None:
                raise
            end_stopped(number)
