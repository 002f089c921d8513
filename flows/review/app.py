"""The server of the review page: one process, on loopback, for one person's browser on this machine."""

from __future__ import annotations

import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.review.agreement import agreements
from flows.review.filters import NEAR, Show, chosen
from flows.review.pictures import NAMES, Pictures, points_of
from flows.review.queue import Reviewable
from flows.review.session import Session
from ipa_core.config import ConfigError
from ipa_core.records import Answer, PoseSequence, Rejected
from storage import StoreError

HOST: Final = "127.0.0.1"
PAGE: Final = 200
"""Most rows of one request."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_FOLDER: Final = Path(__file__).parent
_FILES: Final = {"": "page.html", **{name: name for name in ("page.js", "dom.js", "list.js", "player.js", "page.css")}}
_FOR_EVER: Final = {"cache-control": "private, max-age=31536000, immutable"}
"""For content whose digest is in its address, because it never changes."""
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Said(BaseModel):
    """A review as the page sends it."""

    model_config = ConfigDict(extra="forbid")

    candidate: str
    answer: Answer | None
    """None takes the reviewer's answer back."""


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


def review_app(session: Session) -> FastAPI:
    """Build the app of the page. It serves only content of the session's run."""
    # FastAPI's pages about the interface are off, because they would load their scripts from elsewhere.
    app = FastAPI(title="ipa review", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard)
    queue, pictures = session.queue, Pictures(session.store)

    @app.exception_handler(StoreError)
    @app.exception_handler(Rejected)
    def one_sentence(request: Request, error: StoreError | Rejected) -> Response:
        return JSONResponse({"detail": str(error)}, 404)

    @app.get("/{name}")
    def file(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(404, "there is no such page")
        return FileResponse(_FOLDER / _FILES[name], headers={"cache-control": "no-cache"})

    @app.get("/")
    def page() -> Response:
        return file("")

    @app.get("/api/run")
    def run() -> dict[str, Any]:
        session.refresh()
        return {
            "run": queue.run_id,
            "config": queue.config,
            "threshold": queue.threshold,
            "near": NEAR,
            "candidates": len(queue.candidates),
            "by": session.by,
            "blind": session.blind,
            "rule": queue.rule,
            "reviewers": sorted({said.by for one in queue.candidates for said in session.opinions(one)}),
            "agreements": [asdict(pair) for pair in agreements(queue, session.histories())],
            **asdict(session.progress()),
        }

    @app.get("/api/order")
    def order(show: Show = "all", by: str = "", text: str = "") -> list[int]:
        return chosen(session, show, by, text)

    @app.get("/api/candidates")
    def rows(offset: int = Query(0, ge=0), limit: int = Query(100, ge=1, le=PAGE)) -> list[dict[str, Any]]:
        return [row(session, index) for index in range(len(queue.candidates))[offset : offset + limit]]

    @app.get("/api/candidates/{index}")
    def candidate(index: int) -> dict[str, Any]:
        if not 0 <= index < len(queue.candidates):
            raise HTTPException(404, f"there are {len(queue.candidates)} candidates, and none has the number {index}")
        return details(session, index)

    @app.post("/api/reviews")
    def decide(said: Said) -> dict[str, Any]:
        if said.candidate not in queue.positions:
            raise HTTPException(404, f"run {queue.run_id} has no candidate {said.candidate}")
        index = queue.positions[said.candidate]
        session.decide(said.candidate, said.answer)
        return {"row": row(session, index), **asdict(session.progress())}

    @app.get("/video/{digest}")
    def video(digest: str) -> Response:
        if digest not in queue.videos:
            raise HTTPException(404, f"run {queue.run_id} has no video {digest}")
        return FileResponse(session.store.objects.path(digest), media_type="video/mp4", headers=_FOR_EVER)

    @app.get("/pose/{digest}")
    def pose(digest: str) -> Response:
        if digest not in queue.poses:
            raise HTTPException(404, f"run {queue.run_id} has no pose {digest}")
        found = PoseSequence.from_bytes(session.store.objects.get(digest))
        return JSONResponse(points_of(found), headers=_FOR_EVER)

    @app.get("/picture/{digest}/{name}")
    def picture(digest: str, name: str) -> Response:
        if digest not in queue.positions or name not in NAMES:
            raise HTTPException(404, f"run {queue.run_id} has no picture {digest}/{name}")
        one = queue.candidates[queue.positions[digest]]
        return Response(pictures.get(one, name), media_type="image/jpeg", headers=_FOR_EVER)

    return app


def row(session: Session, index: int) -> dict[str, Any]:
    """Return a candidate's row in the list."""
    one = session.queue.candidates[index]
    hidden = session.hides(one)
    return {
        "index": index,
        "name": one.name,
        "number": one.number,
        "video": one.candidate.video,
        "answer": session.answer(one),
        "hidden": hidden,
        "score": None if hidden else one.score.score,
        "kept": None if hidden else one.decision.kept,
    }


def details(session: Session, index: int) -> dict[str, Any]:
    """Return all that is shown of a candidate, and the rows of all candidates of its clip."""
    one: Reviewable = session.queue.candidates[index]
    shown = {
        **row(session, index),
        "driving": one.driving,
        "pose": one.pose,
        "found": one.found,
        "clip": [row(session, sibling) for sibling in session.queue.clip(one)],
    }
    return shown if shown["hidden"] else shown | _opinions(session, one)


def _opinions(session: Session, one: Reviewable) -> dict[str, Any]:
    """Return what the pipeline and the reviewers think of a candidate."""
    return {
        "reason": one.decision.reason,
        "stopped": session.queue.stopped_beside(one),
        "reviews": [{"by": said.by, "answer": said.verdict, "at": said.at} for said in session.opinions(one)],
        "seed": str(one.candidate.seed),  # Too large for a JavaScript number.
        "good_frames": one.score.good_frames,
        "scorable": one.score.scorable,
        "components": one.score.components.model_dump(),
        "worst": one.score.worst,
    }


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


def serve(session: Session, found: socket.socket, log_level: Literal["error", "warning"] = "error") -> None:
    """Serve the page until Ctrl-C."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(review_app(session), log_level=log_level, access_log=False))
    try:
        server.run(sockets=[found])
    except KeyboardInterrupt:
        print("what was decided is in the store", file=sys.stderr)
