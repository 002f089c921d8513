"""The site: runs, what they dropped, their reports, adapters and sweeps, as far as the store has them. It only reads.

Off loopback each request needs the token: as the cookie that the sign-in sets, or as `Authorization: Bearer`.
"""

from __future__ import annotations

import hmac
import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from jinja2 import ChoiceLoader, Environment, PackageLoader
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.engine.progress import span
from flows.engine.run_folder import RunFolder, runs
from flows.engine.status import RunState, listed_state
from flows.outcomes.adapters import model_rows
from flows.review.app import review_app
from flows.review.compare import Comparing, open_pairs
from flows.review.compare_app import compare_app
from flows.review.queue import open_queue
from flows.review.session import Session
from flows.stages.evaluation import Evaluation
from flows.stages.finetune import Finetune
from flows.stages.selection import Selection
from ipa_core.config import ConfigError
from ipa_core.reporting.page import templates
from storage import Store, StoreError
from storage.folders import LocalFolder
from storage.registry import Registry

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
RUNS: Final = 50
"""Runs on a page."""
_COOKIE: Final = "ipa"
_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")
_SHOWN: Final = frozenset(
    {".html", ".md", ".json", ".yaml", ".svg", ".png", ".jpg", ".mp4", ".webm", ".safetensors", ".txt"}
)
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; media-src 'self' data: blob:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class Access:
    """Who is let in: on loopback the browsers of this machine, else who knows the token."""

    token: str | None
    """None: on loopback."""

    def lets_in(self, request: Request) -> bool:
        if self.token is None:
            return _host(request) in LOOPBACK  # Else a foreign page reaches us under its own name (DNS rebinding).
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        return self.knows(given) or hmac.compare_digest(
            request.cookies.get(_COOKIE, "").encode(), self.cookie().encode()
        )

    def knows(self, token: str) -> bool:
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def cookie(self) -> str:
        return sha256(f"ipa web {self.token}".encode()).hexdigest()


def _host(request: Request) -> str | None:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        return None


class _Headers:
    """Adds the headers that forbid a page to load or send anything elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in _HEADERS.items():  # The review page has its own.
                    MutableHeaders(scope=message).setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


@dataclass(frozen=True)
class Judging:
    """Makes the site's pages for people who judge: review and blind comparison."""

    by: str
    """Their name."""
    scratch: Path
    """A folder for videos, which outlives the site."""


def web_app(store: Store, access: Access, judging: Judging | None = None) -> FastAPI:
    """Build the site over a store."""
    # FastAPI's pages about the interface are off, because they would load their scripts from elsewhere.
    app = FastAPI(title="ipa web", docs_url=None, redoc_url=None, openapi_url=None)
    pages = _pages()

    def page(name: str, status: int = 200, **about: Any) -> Response:
        return HTMLResponse(pages.get_template(name).render(store=store.address, **about), status)

    @app.middleware("http")
    async def guarded(request: Request, answer: Callable[..., Any]) -> Any:
        if request.url.path == "/sign-in" or access.lets_in(request):
            return await answer(request)
        if access.token is None:
            return HTMLResponse("this site is served as 127.0.0.1 or localhost only\n", 403)
        if request.query_params.get("token"):
            signed = _signed_in(access, request.query_params["token"], request.url.path)
            return signed or page("sign-in.html.j2", 401, to=request.url.path, wrong=True)
        return page("sign-in.html.j2", 401, to=request.url.path, wrong=False)

    app.add_middleware(_Headers)

    @app.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        given = parse_qs((await request.body()).decode(errors="replace"))
        token, to = (given.get(name, [""])[0] for name in ("token", "to"))
        return _signed_in(access, token, to) or page("sign-in.html.j2", 401, to=to, wrong=True)

    @app.get("/")
    def overview(before: str | None = None) -> Response:
        older = (folder for folder in runs(store) if before is None or folder.run_id < before)
        found = list(islice(older, RUNS + 1))
        rows = [_run(folder) for folder in found[:RUNS]]
        return page("runs.html.j2", runs=rows, more=found[RUNS - 1].run_id if len(found) > RUNS else None)

    @app.get("/runs/{run_id}")
    def one_run(run_id: str) -> Response:
        folder = _found(store, run_id)
        about = _run(folder)
        stages = {row.name for row in about["run"].stages} if judging else set()
        judged = {"reviewed": Selection.name in stages, "compared": {Finetune.name, Evaluation.name} <= stages}
        return page("run.html.j2", **about, **_details(folder, about["run"]), **judged)

    @app.get("/runs/{run_id}/{name:path}")
    def run_file(run_id: str, name: str) -> Response:
        return _file(store, f"runs/{run_id}", name)

    @app.get("/models")
    def models() -> Response:
        return page("models.html.j2", models=model_rows(Registry(store.address).state()))

    @app.get("/sweeps")
    def sweeps() -> Response:
        return page("sweeps.html.j2", sweeps=list(reversed(store.folder.folders("sweeps"))))

    @app.get("/sweeps/{sweep}/{name:path}")
    def sweep_file(sweep: str, name: str) -> Response:
        return _file(store, f"sweeps/{sweep}", name)

    if judging is not None:

        def review(run: RunFolder) -> ASGIApp:
            return review_app(Session(store, open_queue(store, run), judging.by))

        def compare(run: RunFolder) -> ASGIApp:
            return compare_app(Comparing(store, open_pairs(store, run), judging.by), judging.scratch)

        app.mount("/review/{run_id}", _OfRuns(store, review))
        app.mount("/compare/{run_id}", _OfRuns(store, compare))

    @app.exception_handler(StoreError)
    def damaged(request: Request, error: Exception) -> Response:
        return page("damaged.html.j2", 500, why=str(error))

    @app.exception_handler(404)
    def missing(request: Request, error: Exception) -> Response:
        return page("missing.html.j2", 404)

    return app


class _OfRuns:
    """The pages of runs of one kind, each opened when it is asked for."""

    def __init__(self, store: Store, open_page: Callable[[RunFolder], ASGIApp]) -> None:
        self._store = store
        self._open = open_page
        self._pages: dict[str, ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        run_id = scope["path_params"]["run_id"]
        try:
            if run_id not in self._pages:
                self._pages[run_id] = await run_in_threadpool(self._open, _found(self._store, run_id))
        except ConfigError as error:
            raise HTTPException(404) from error
        await self._pages[run_id](scope, receive, send)


def _signed_in(access: Access, token: str, to: str) -> Response | None:
    if not access.knows(token):
        return None
    # Only a path of this site, so that a link can't lead elsewhere after the sign-in.
    path = urlsplit(to).path if to.startswith("/") and not to.startswith(("//", "/\\")) else "/"
    answer = RedirectResponse(quote(path), 303)
    # Lax: a link in the Prefect UI, another site, leads here with the cookie.
    answer.set_cookie(_COOKIE, access.cookie(), httponly=True, samesite="lax", max_age=30 * 24 * 3600)
    return answer


def _found(store: Store, run_id: str) -> RunFolder:
    if not _NAME.fullmatch(run_id) or run_id not in store.folder.folders("runs"):
        raise HTTPException(404)
    return RunFolder(store, run_id)


def _run(folder: RunFolder) -> dict[str, Any]:
    state = listed_state(folder)
    return {
        "run": state,
        "experiment": folder.is_experiment,
        "seconds": span(sum(row.seconds for row in state.stages)),
        "promotion": state.promotion,
        "report": "report" in state.outputs,
    }


def _details(folder: RunFolder, state: RunState) -> dict[str, Any]:
    if state.state == "unreadable":
        return {"dropped": (), "config": ""}
    return {"dropped": folder.dropped(), "config": folder.config_text() or ""}


def _file(store: Store, folder: str, name: str) -> Response:
    """Answer with a file of a run or sweep. Names of files that people look at are answered only."""
    path = PurePosixPath(name)
    parts = (*PurePosixPath(folder).parts, *path.parts)
    if path.suffix not in _SHOWN or not all(_NAME.fullmatch(part) for part in parts):
        raise HTTPException(404)
    kind = mimetypes.guess_type(name)[0] or "text/plain"
    below = store.folder.below(folder)
    if isinstance(below, LocalFolder):
        local = Path(below.address(name))
        if not local.is_file() or not local.resolve().is_relative_to(Path(store.folder.address()).resolve()):
            raise HTTPException(404)
        return FileResponse(local, media_type=kind)  # It answers ranges, which players of videos ask for.
    data = below.read(name)
    if data is None:
        raise HTTPException(404)
    return Response(data, media_type=kind)


def _pages() -> Environment:
    environment = templates()
    assert environment.loader is not None
    environment.loader = ChoiceLoader([PackageLoader("flows.web", "pages"), environment.loader])
    return environment
