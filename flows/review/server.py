"""What every page for reviewers is served by: one process, on loopback, for one person's browser on this machine."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ipa_core.config import ConfigError
from ipa_core.records import Rejected
from storage import StoreError

HOST: Final = "127.0.0.1"
FOR_EVER: Final = {"cache-control": "private, max-age=31536000, immutable"}
"""For content whose address names it, because it never changes."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_FOLDER: Final = Path(__file__).parent
_SHARED: Final = ("dom.js", "player.js", "page.css")
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def refusal(host: str | None, origin: str | None) -> str | None:
    """Return why a request is not answered, or None. A request under a foreign name (DNS rebinding) or from another
    page (CSRF) comes from a browser that follows somebody else's page."""
    try:
        name = urlsplit(f"//{host or ''}").hostname
    except ValueError:
        name = None
    if name not in _LOOPBACK:
        return f"this page is served as {HOST} or localhost only"
    if origin is not None and origin != f"http://{host}":
        return "requests of other pages are not answered"
    return None


class Guard:
    """Refuses foreign requests, and forbids browsers to load anything from elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        asked = Headers(scope=scope)
        why = refusal(asked.get("host"), asked.get("origin"))
        answer = self._app if why is None else PlainTextResponse(f"{why}\n", 403)
        await answer(scope, receive, send_with_headers)


def page_app(title: str, page: str, scripts: Iterable[str]) -> FastAPI:
    """Build an app that serves a page, its scripts and what all pages share, and answers trouble in one sentence."""
    # FastAPI's pages about the interface are off, because they would load their scripts from elsewhere.
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard)
    files = {"": page, **{name: name for name in (*scripts, *_SHARED)}}

    @app.exception_handler(StoreError)
    @app.exception_handler(Rejected)
    def one_sentence(request: Request, error: StoreError | Rejected) -> Response:
        return JSONResponse({"detail": str(error)}, 404)

    @app.get("/{name}")
    def file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such page")
        return FileResponse(_FOLDER / files[name], headers={"cache-control": "no-cache"})

    @app.get("/")
    def start() -> Response:
        return file("")

    return app


def listen(port: int) -> socket.socket:
    """Open a socket on loopback; port 0 takes a free one. Raises :class:`ConfigError` when that fails."""
    # asyncio switches off Nagle's waiting (40 ms per answer) only for a socket with an explicit protocol.
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
        found.listen()  # From now on a browser waits instead of being refused.
    except OSError as error:
        found.close()
        raise ConfigError(f"can't listen on {HOST}:{port} ({error.strerror}); name another with --port") from None
    return found


def address(found: socket.socket) -> str:
    return f"http://{HOST}:{found.getsockname()[1]}/"


def serve(app: FastAPI, found: socket.socket, log_level: Literal["error", "warning"] = "error") -> None:
    """Serve a page until Ctrl-C."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level=log_level, access_log=False))
    try:
        server.run(sockets=[found])
    except KeyboardInterrupt:
        print("what was decided is in the store", file=sys.stderr)
