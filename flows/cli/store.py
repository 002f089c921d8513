"""`ipa store`: look after the store."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AsJson
from flows.cli.tables import text_table
from flows.cli.talk import say
from flows.engine.room import size_text

if TYPE_CHECKING:
    from flows.outcomes.retention import Found
    from storage.maintenance import VerifyReport

store_app = typer.Typer(no_args_is_help=True, help="Look after the store.")


@store_app.command("stat")
def store_stat(json_: AsJson = False) -> None:
    """Show what the store holds."""
    from flows.engine.store import existing_store
    from storage.maintenance import stat

    found = asdict(stat(existing_store()))
    if json_:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")


@store_app.command("verify")
def store_verify(json_: AsJson = False) -> None:
    """Read every object and record and say which are damaged; damaged objects are set aside, to be computed again."""
    found = _verified()
    if json_:
        print(json.dumps(asdict(found)))
    else:
        print(f"{found.objects} objects read, {len(found.corrupt)} damaged; {len(found.damaged)} other files damaged")
        for digest in found.corrupt:
            print(f"damaged, moved to the quarantine: {digest}")
        for damage in found.damaged:
            print(f"damaged: {damage.sentence()}")
        for action in found.incomplete:
            print(f"bytes missing: {action.stage} {action.key}")
        if found.damaged:
            say("`ipa store repair` forgets just that")
    if found.corrupt or found.damaged:
        raise typer.Exit(1)


@store_app.command("repair")
def store_repair(json_: AsJson = False) -> None:
    """Forget damaged files, and nothing else: they go to the quarantine, and runs compute what they need again."""
    from flows.engine.store import existing_store, store_address
    from storage.actions import mend_marker
    from storage.damage import forget

    marker = mend_marker(store_address())
    found, store = _verified(), existing_store()
    forgotten = [(damage, forget(store, damage)) for damage in found.damaged]
    if json_:
        print(json.dumps({"marker": marker, "objects": found.corrupt, "files": [asdict(one) for one, _ in forgotten]}))
        return
    if marker:
        print("the store's marker was written again")
    for digest in found.corrupt:
        print(f"forgotten: object {digest}; it is computed again when a run needs it")
    for damage, after in forgotten:
        print(f"forgotten: {damage.sentence()}; {after}")
    if found.corrupt or forgotten:
        say("the damaged bytes lie in the store's quarantine/ until `ipa store gc` finds them 30 days old")
    elif not marker:
        print("there is nothing to repair")


def _verified() -> VerifyReport:
    from flows.engine.progress import Progress
    from flows.engine.store import existing_store
    from storage.maintenance import verify

    progress = Progress()
    return verify(existing_store(), lambda done, total: progress.share("store verify", done / total if total else 1.0))


@store_app.command("gc")
def store_gc(
    runs: Annotated[int, typer.Option(min=1, help="Keep so many last runs of each config.")] = 3,
    days: Annotated[float, typer.Option(min=0, help="Keep all runs of so many days.")] = 30,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it, only show.")] = False,
    json_: AsJson = False,
) -> None:
    """Show what only older runs need, and delete it with --delete.

    Champions with the runs behind them, registered adapters, reviewed candidates, and runs that go on keep theirs.
    """
    from flows.engine.progress import Progress
    from flows.engine.store import existing_store
    from flows.outcomes.retention import Policy, collect, find_garbage
    from ipa_core.scratch import abandoned

    store = existing_store()
    found, scratch = find_garbage(store, Policy(runs, days)), abandoned()
    left = sum(_size(folder) for folder in scratch)
    if delete:
        progress, count = Progress(), sum(len(kind.names) for kind in found.garbage)
        collect(store, found, lambda done: progress.share("store gc", done / count))
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)
    if json_:
        print(json.dumps(_gc_json(found, scratch, left, delete)))
        return
    print(_kept_sentence(found))
    rows = [(kind.kind, str(kind.count), size_text(kind.bytes)) for kind in found.garbage if kind.count]
    rows += [("scratch folders", str(len(scratch)), size_text(left))] if scratch else []
    if rows:
        rows.append(("total", "", size_text(found.bytes + left)))
        print(text_table("lrr", ("deleted" if delete else "can go", "number", "disk"), rows))
        if not delete:
            say("`ipa store gc --delete` deletes it")
    else:
        print("there is nothing to delete")


def _kept_sentence(found: Found) -> str:
    whys = Counter(run.why for run in found.kept)
    about = ", ".join(f"{count} {why}" for why, count in whys.items())
    return f"kept runs: {len(found.kept)}" + (f" ({about})" if about else "")


def _gc_json(found: Found, scratch: Sequence[Path], left: int, deleted: bool) -> dict[str, object]:
    return {
        "kept": {run.folder.run_id: run.why for run in found.kept},
        "garbage": [{"kind": kind.kind, "count": kind.count, "bytes": kind.bytes} for kind in found.garbage],
        "scratch": {"count": len(scratch), "bytes": left},
        "bytes": found.bytes + left,
        "deleted": deleted,
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
