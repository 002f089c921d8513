"""The page of the blind comparison. Nothing that it sends tells which video is the aligned model's."""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from flows.review.compare import KINDS, Comparing, Kind, Question
from flows.review.pictures import HANDS, Pictures, points_of
from flows.review.server import FOR_EVER, page_app
from ipa_core.records import PoseSequence
from storage.folders import write_whole
from storage.preferences import Preferred

_SIDES: Final = ("left", "right")
_EPOCH: Final = "Thu, 01 Jan 1970 00:00:00 GMT"
"""In the place of a file's own time: the base model's video is often years older."""


class Said(BaseModel):
    """An answer as the page sends it. question: the token of its left video."""

    model_config = ConfigDict(extra="forbid")

    question: str
    answer: Preferred | None
    """None takes the answer back."""


def compare_app(comparing: Comparing, scratch: Path) -> FastAPI:
    """Build the app of the page. It serves only content of the comparison. ``scratch`` is a folder for its videos."""
    app = page_app("ipa review compare", "compare.html", ("compare.js",))
    store, pictures, films = comparing.store, Pictures(comparing.store), _Films(comparing, scratch)

    def asked(token: str, *kinds: str) -> tuple[Question, Kind]:
        question, kind = comparing.by_token.get(token, (None, None))
        if question is None or kind is None or kind not in kinds:
            raise HTTPException(404, f"this comparison has no {' or '.join(kinds)} {token}")
        return question, kind

    @app.get("/api/run")
    def run() -> dict[str, Any]:
        pairs = comparing.pairs
        return {"run": pairs.run_id, "config": pairs.config, "by": comparing.by, "answers": comparing.answers()}

    @app.get("/api/questions/{index}")
    def question(index: int) -> dict[str, Any]:
        if not 0 <= index < len(comparing.questions):
            raise HTTPException(404, f"there are {len(comparing.questions)} pairs, and none has the number {index}")
        one = comparing.questions[index]
        return {"index": index, "name": one.name, **{kind: one.tokens[kind] for kind in KINDS}}

    @app.post("/api/preferences")
    def say(said: Said) -> list[Preferred | None]:
        comparing.say(asked(said.question, "left")[0], said.answer)
        return comparing.answers()

    @app.get("/video/{token}")
    def video(token: str) -> Response:
        path = films.get(*asked(token, *_SIDES, "driving"), token)
        headers = FOR_EVER | {"etag": f'"{token}"', "last-modified": _EPOCH}
        return FileResponse(path, media_type="video/mp4", headers=headers)

    @app.get("/pose/{token}")
    def pose(token: str) -> Response:
        found = PoseSequence.from_bytes(store.objects.get(asked(token, "pose")[0].pair.pose))
        return JSONResponse(points_of(found), headers=FOR_EVER)

    @app.get(f"/picture/{{token}}/{HANDS}")
    def hands(token: str) -> Response:
        one, kind = asked(token, *_SIDES, "driving")
        return Response(pictures.hands(_digest(one, kind), one.pair.pose), media_type="image/jpeg", headers=FOR_EVER)

    return app


def _digest(question: Question, kind: Kind) -> str:
    return {"left": question.left, "right": question.right}.get(kind, question.pair.driving)


class _Films:
    """Copies of the videos, both of a pair of one size: a blurred video takes fewer bytes than a sharp one."""

    def __init__(self, comparing: Comparing, scratch: Path) -> None:
        self._comparing = comparing
        self._scratch = scratch
        self._lock = threading.Lock()

    def get(self, question: Question, kind: Kind, token: str) -> Path:
        objects, path = self._comparing.store.objects, self._scratch / token
        if kind == "driving":
            return objects.path(question.pair.driving)
        with self._lock:
            if not path.exists():
                size = max(objects.path(side).stat().st_size for side in (question.left, question.right)) + 8
                write_whole(path, padded(objects.get(_digest(question, kind)), size))
        return path


def padded(video: bytes, size: int) -> bytes:
    """Return an mp4 of ``size`` bytes, at least 8 more than it has: players pass over a box `free` at the end."""
    gap = size - len(video)
    return video + struct.pack(">I4s", gap, b"free") + bytes(gap - 8)
