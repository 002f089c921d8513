"""`ipa models`: the registry of adapters, with promotion and rollback by hand."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson, writing
from flows.cli.tables import text_table
from ipa_core.config import ConfigError

if TYPE_CHECKING:
    from flows.outcomes.adapters import ModelRow
    from ipa_core.records import Ruling
    from storage import Store
    from storage.registry import Registry

models_app = typer.Typer(help="Adapters: champion and challengers, and decisions by hand.")

Adapter = Annotated[str, typer.Argument(help="An adapter's digest, or how it begins.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the registry.", show_default=False)]


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, json_: AsJson = False) -> None:
    """List the adapters, newest first; win rate and differences are against the champion of their time."""
    if context.invoked_subcommand is not None:
        return
    from flows.outcomes.adapters import model_rows

    rows = model_rows(_registry().state())
    if json_:
        print(json.dumps([_as_json(row) for row in rows]))
        return
    if not rows:
        print("no adapter is registered yet: a run registers its own after evaluation")
        return
    judged = any(row.second_judge is not None for row in rows)
    second = ("second judge (never chooses)",) if judged else ()
    head = ("adapter", "role", "run", "pairs won", "PSNR", "SSIM", *second, "reason")
    print(text_table("llllrr" + "r" * judged + "l", head, [_table_row(row, judged) for row in rows]))


@models_app.command()
def promote(adapter: Adapter, reason: Reason) -> None:
    """Make an adapter champion by hand."""
    registry = _registry()
    event = registry.promote(registry.state().find(adapter), login_name(), _given(reason), _now())
    print(f"{event.adapter[:12]} is champion, before: {_name(event.against)}")


@models_app.command()
def rollback(
    reason: Reason,
    champion: Annotated[
        str | None,
        typer.Argument(metavar="CHAMPION", help="Needed where several base models have one.", show_default=False),
    ] = None,
) -> None:
    """Replace the champion by the one before, or by the base model."""
    registry = _registry()
    state = registry.state()
    if champion is None and len(state.champions) != 1:
        found = ", ".join(one[:12] for one in state.champions)
        raise ConfigError(f"name the champion to roll back: {found}" if found else "there is no champion to roll back")
    chosen = state.find(champion) if champion else state.champions[0]
    event = registry.roll_back(chosen, login_name(), _given(reason), _now())
    print(f"{event.adapter[:12]} is rolled back, champion: {_name(event.against)}")


@models_app.command()
def export(
    adapter: Adapter, folder: Annotated[Path, typer.Argument(help="Where the LoRA's files go.", show_default=False)]
) -> None:
    """Write an adapter's LoRA folder, for `ipa animate --lora`, diffusers and ComfyUI."""
    store = _store()
    state = _registry().state()
    files = state.adapters[state.find(adapter)].files
    with writing("the folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, digest in files.items():
            (folder / name).write_bytes(store.objects.get(digest))
    print(folder)


def _as_json(row: ModelRow) -> dict[str, object]:
    records = {"decided": row.decided, "ruling": row.ruling}
    return vars(row) | {name: record and record.model_dump(mode="json") for name, record in records.items()}


def _table_row(row: ModelRow, judged: bool) -> tuple[str, ...]:
    second = ("" if row.second_judge is None else f"{row.second_judge:.3f}",) if judged else ()
    return row.adapter[:12], row.role, row.run, *_numbers(row.ruling), *second, _decision(row)


def _numbers(ruling: Ruling | None) -> tuple[str, str, str]:
    if ruling is None or ruling.win_rate is None:
        return "", "", ""
    won = f"{ruling.win_rate:.0%}"
    if ruling.win_rate_low is not None:
        won += f" ({ruling.win_rate_low:.0%} to {ruling.win_rate_high:.0%})"
    if ruling.psnr_difference is None or ruling.ssim_difference is None:
        return won, "", ""
    return won, f"{ruling.psnr_difference:+.2f}", f"{ruling.ssim_difference:+.3f}"


def _decision(row: ModelRow) -> str:
    event = row.decided
    return "" if event is None else f"{event.kind.replace('_', ' ')} by {event.by}, {event.at[:16]}: {event.reason}"


def _name(adapter: str | None) -> str:
    return adapter[:12] if adapter else "the base model"


def _given(reason: str) -> str:
    if not reason.strip():
        raise ConfigError("--reason is empty: say why, it is kept in the registry")
    return reason.strip()


def login_name() -> str:
    """Return the name for reviews and registry events when no other is given."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "a user without a name"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _store() -> Store:
    from flows.engine.store import existing_store

    return existing_store()


def _registry() -> Registry:
    from storage.registry import Registry

    return Registry(_store().address)
