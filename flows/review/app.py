"""The review page: a run's candidates, one at a time, beside the list of all."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from flows.review.agreement import agreements
from flows.review.filters import NEAR, Show, chosen
from flows.review.pictures import NAMES, Pictures, points_of
from flows.review.queue import Reviewable
from flows.review.server import FOR_EVER, page_app
from flows.review.session import Session
from ipa_core.records import Answer, PoseSequence

PAGE: Final = 200
"""Most rows of one request."""


class Said(BaseModel):
    """A review as the page sends it."""

    model_config = ConfigDict(extra="forbid")

    candidate: str
    answer: Answer | None
    """None takes the reviewer's answer back."""


def review_app(session: Session) -> FastAPI:
    """Build the app of the page. It serves only content of the session's run."""
    app = page_app("ipa review", "page.html", ("page.js", "list.js"))
    queue, pictures = session.queue, Pictures(session.store)

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
        return FileResponse(session.store.objects.path(digest), media_type="video/mp4", headers=FOR_EVER)

    @app.get("/pose/{digest}")
    def pose(digest: str) -> Response:
        if digest not in queue.poses:
            raise HTTPException(404, f"run {queue.run_id} has no pose {digest}")
        found = PoseSequence.from_bytes(session.store.objects.get(digest))
        return JSONResponse(points_of(found), headers=FOR_EVER)

    @app.get("/picture/{digest}/{name}")
    def picture(digest: str, name: str) -> Response:
        if digest not in queue.positions or name not in NAMES:
            raise HTTPException(404, f"run {queue.run_id} has no picture {digest}/{name}")
        one = queue.candidates[queue.positions[digest]]
        return Response(pictures.get(one, name), media_type="image/jpeg", headers=FOR_EVER)

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
