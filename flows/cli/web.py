"""`ipa web`: the store in a browser."""

from __future__ import annotations

import os
import secrets
from typing import Annotated

import typer

from flows.cli.talk import say
from flows.engine.stage import RunStopped


def web(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8766,
) -> None:
    """Serve runs, dropped inputs, reports, models and sweeps of the store, to read only, until Ctrl-C.

    Off loopback each browser must know the token: IPA_WEB_TOKEN, or a new one that this command prints. Runs put links
    to IPA_WEB_URL, this site's address for other machines, into the Prefect UI.
    """
    import uvicorn

    from flows.cli.models import login_name
    from flows.engine.store import open_store
    from flows.web.app import LOOPBACK, Access, Judging, web_app
    from ipa_core.scratch import scratch_folder

    store = open_store(make=False)
    token = None if host in LOOPBACK else os.environ.get("IPA_WEB_TOKEN") or secrets.token_urlsafe(24)
    with scratch_folder() as scratch:
        # The pages of people who judge write, so they are for this machine only.
        site = web_app(store, Access(token), Judging(login_name(), scratch) if token is None else None)
        config = uvicorn.Config(site, host=host, port=port, log_level="error", access_log=False)
        try:
            listening = config.bind_socket()
        except (OSError, SystemExit):  # uvicorn ends the process itself.
            raise RunStopped(f"can't listen on {host}:{port}; name another with --host and --port") from None
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else ""), flush=True)
        say(f"the store at {store.address}; Ctrl-C ends")
        uvicorn.Server(config).run(sockets=[listening])
