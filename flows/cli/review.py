"""`ipa review`: accept and reject candidates by hand, compare base and aligned videos blind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli.models import login_name
from flows.cli.options import AsJson
from flows.cli.talk import say
from ipa_core.config import ConfigError

if TYPE_CHECKING:
    from flows.engine.run_folder import RunFolder


class _PageByDefault(TyperGroup):
    """`ipa review RUN` is short for `ipa review page RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["page", *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(cls=_PageByDefault, help="Judge on a page of this machine: candidates, or base against aligned.")

Run = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Run id or a config's name; default: the last with a selection.")
]
Evaluated = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Run id or a config's name; default: the last with an evaluation.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")]
By = Annotated[str | None, typer.Option(help="Who decides; default: the login name.", show_default=False)]


@commands.command("page")
def page(
    run_id: Run = None,
    by: By = None,
    port: Port = 8765,
    blind: Annotated[
        bool, typer.Option("--blind", help="Judge alone: hide score, decision and other reviews until you answer.")
    ] = False,
) -> None:
    """Serve the page for a run's candidates until Ctrl-C; `ipa review RUN` does the same."""
    from flows.engine.store import existing_store
    from flows.review.app import review_app
    from flows.review.queue import open_queue
    from flows.review.server import address, listen, serve
    from flows.review.session import Session

    store = existing_store()
    session = Session(store, open_queue(store, _chosen(run_id)), _named(by), blind)
    listening = listen(port)
    print(address(listening), flush=True)
    say(f"run {session.queue.run_id}, reviews by {session.by}; Ctrl-C ends")
    serve(review_app(session), listening)


@commands.command("compare")
def compare(run_id: Evaluated = None, by: By = None, port: Port = 8765) -> None:
    """Serve a blind comparison until Ctrl-C: base and aligned video side by side, sides drawn at random."""
    from flows.engine.store import existing_store
    from flows.review.compare import Comparing, open_pairs
    from flows.review.compare_app import compare_app
    from flows.review.server import address, listen, serve
    from ipa_core.scratch import scratch_folder

    store = existing_store()
    comparing = Comparing(store, open_pairs(store, _chosen(run_id)), _named(by))
    listening = listen(port)
    print(address(listening), flush=True)
    say(f"run {comparing.pairs.run_id}, {len(comparing.questions)} pairs, judged by {comparing.by}; Ctrl-C ends")
    with scratch_folder() as scratch:
        serve(compare_app(comparing, scratch), listening)


@commands.command("preferences")
def preferences(run_id: Evaluated = None, json_: AsJson = False) -> None:
    """Print how often people preferred the aligned model in `ipa review compare`."""
    from flows.engine.store import existing_store
    from flows.review.compare import open_pairs
    from flows.stages.pairs import judgements
    from ipa_core.evaluation.preferences import preferred
    from storage.preferences import Preferences

    store = existing_store()
    found = open_pairs(store, _chosen(run_id))
    pairs = [one.pair for one in found.pairs]
    summed = preferred(judgements(pairs, Preferences(store.address).histories()))
    if json_:
        about = {"run_id": found.run_id, "pairs": len(pairs), "preferences": [one.model_dump() for one in summed]}
        print(json.dumps(about))
    elif not summed:
        print(f"run {found.run_id}: nobody has compared its {len(pairs)} pairs; `ipa review compare {found.run_id}`")
    else:
        print("\n".join(one.sentence for one in summed))


@commands.command("export")
def export(
    to: Annotated[Path, typer.Option(help="The file to write: .json for Label Studio, or .csv.", show_default=False)],
    run_id: Run = None,
    videos: Annotated[
        Path | None,
        typer.Option(help="Also write videos and enlarged hands, which the tasks show, into it.", show_default=False),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Write a run's candidates with their reviews."""
    from rich.console import Console
    from rich.progress import track

    from flows.engine.store import existing_store
    from flows.review.exchange import export_reviews
    from flows.review.label_studio import write_files
    from flows.review.pictures import Pictures
    from flows.review.queue import open_queue

    store = existing_store()
    queue = open_queue(store, _chosen(run_id))
    decided = export_reviews(store, queue, to, videos.resolve().name if videos else "videos")
    if videos is not None:
        pictures = Pictures(store)
        for one in track(queue.candidates, "videos and hands", console=Console(stderr=True), transient=True):
            write_files(store, pictures, one, videos)
    about = {"run_id": queue.run_id, "file": str(to), "candidates": len(queue.candidates), "decided": decided}
    print(json.dumps(about) if json_ else f"{to}: {len(queue.candidates)} candidates, {decided} reviewed")


@commands.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What Label Studio exported as JSON, or a .csv.", show_default=False)],
    by: By = None,
    json_: AsJson = False,
) -> None:
    """Read reviews from a file into the store; the file's names and times count where it has them."""
    from flows.engine.store import open_store
    from flows.review.exchange import import_reviews
    from flows.review.session import now

    found, added = import_reviews(open_store(), file, _named(by), now())
    print(json.dumps({"decisions": found, "added": added}) if json_ else f"{found} reviews, {added} of them new")


@commands.command("agreement")
def agreement(run_id: Run = None, json_: AsJson = False) -> None:
    """Print how far each two reviewers of a run's candidates agree."""
    from dataclasses import asdict

    from flows.cli.tables import text_table
    from flows.engine.store import existing_store
    from flows.review.agreement import agreements
    from flows.review.queue import open_queue
    from storage.reviews import Reviews

    store = existing_store()
    queue = open_queue(store, _chosen(run_id))
    found = agreements(queue, Reviews(store.address).histories())
    if json_:
        print(json.dumps({"run_id": queue.run_id, "pairs": [asdict(pair) for pair in found]}))
    elif not found:
        print(
            f"run {queue.run_id}: no two people decided about the same candidate; "
            "with `ipa review --blind` each judges all of them"
        )
    else:
        rows = [
            (
                pair.first,
                pair.second,
                str(pair.common),
                str(pair.agreed),
                "-" if pair.kappa is None else f"{pair.kappa:.2f}",
            )
            for pair in found
        ]
        print(text_table("llrrr", ("reviewer", "and", "common", "agreed", "kappa"), rows))


def _chosen(run: str | None) -> RunFolder | None:
    from flows.engine.run_folder import named_run

    return named_run(run) if run else None


def _named(by: str | None) -> str:
    if by is None:
        return login_name()
    if not by.strip():
        raise ConfigError("--by is empty: name the reviewer, who is kept with each review")
    return by.strip()
