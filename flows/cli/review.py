"""`ipa review`: accept and reject candidates by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli.models import login_name
from flows.cli.options import AsJson
from flows.cli.talk import say
from ipa_core.config import ConfigError


class _PageByDefault(TyperGroup):
    """`ipa review RUN` is short for `ipa review page RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["page", *args]
        return super().parse_args(ctx, args)


review_app = typer.Typer(cls=_PageByDefault, help="Accept and reject candidates by hand: a page on this machine.")

Run = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Run id; default: the last run that came to its selection.")
]
By = Annotated[str | None, typer.Option(help="Who decides; default: the login name.", show_default=False)]


@review_app.command("page")
def page(
    run_id: Run = None,
    by: By = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")] = 8765,
) -> None:
    """Serve the page for a run's candidates until Ctrl-C; `ipa review RUN` does the same."""
    from flows.engine.store import existing_store
    from flows.review.app import address, listen, serve
    from flows.review.queue import open_queue
    from flows.review.session import Session

    store = existing_store()
    session = Session(store, open_queue(store, run_id), _named(by))
    listening = listen(port)
    print(address(listening), flush=True)
    say(f"run {session.queue.run_id}, reviews by {session.by}; Ctrl-C ends")
    serve(session, listening)


@review_app.command("export")
def export(
    to: Annotated[Path, typer.Option(help="The file to write: .json for Label Studio, or .csv.", show_default=False)],
    run_id: Run = None,
    videos: Annotated[
        Path | None, typer.Option(help="Also copy the candidates' videos into this folder.", show_default=False)
    ] = None,
    json_: AsJson = False,
) -> None:
    """Write a run's candidates with their reviews."""
    from flows.engine.store import existing_store
    from flows.review.exchange import export_reviews, write_videos
    from flows.review.queue import open_queue

    store = existing_store()
    queue = open_queue(store, run_id)
    decided = export_reviews(store, queue, to)
    if videos is not None:
        write_videos(store, queue, videos)
    about = {"run_id": queue.run_id, "file": str(to), "candidates": len(queue.candidates), "decided": decided}
    print(json.dumps(about) if json_ else f"{to}: {len(queue.candidates)} candidates, {decided} decided")


@review_app.command("import")
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


def _named(by: str | None) -> str:
    if by is None:
        return login_name()
    if not by.strip():
        raise ConfigError("--by is empty: name the reviewer, who is kept with each review")
    return by.strip()
