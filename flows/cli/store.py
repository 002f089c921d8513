"""`ipa store`: look after the store."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from flows.cli.options import AsJson

store_app = typer.Typer(no_args_is_help=True, help="Look after the store.")


@store_app.command("stat")
def store_stat(json_: AsJson = False) -> None:
    """Show what the store holds."""
    from flows.engine.store import open_store
    from storage.maintenance import stat

    found = asdict(stat(open_store()))
    if json_:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")


@store_app.command("verify")
def store_verify(json_: AsJson = False) -> None:
    """Read every object and compare it with its digest; damaged ones are set aside and computed again when needed."""
    from flows.engine.progress import Progress
    from flows.engine.store import open_store
    from storage.maintenance import verify

    progress = Progress()
    found = verify(open_store(), lambda done, total: progress.share("store verify", done / total if total else 1.0))
    if json_:
        print(json.dumps(asdict(found)))
    else:
        print(f"{found.objects} objects read, {len(found.corrupt)} damaged")
        for digest in found.corrupt:
            print(f"damaged, moved to the quarantine: {digest}")
        for action in found.incomplete:
            print(f"bytes missing: {action.stage} {action.key}")
    if found.corrupt:
        raise typer.Exit(1)
