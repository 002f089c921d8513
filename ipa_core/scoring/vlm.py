"""A second opinion on hands by a vision language model, behind an OpenAI-compatible address (`scores.reward: vlm`).

One request per hand of a candidate: a picture of the hand in some frames, the driving video's above the candidate's.
The answer is read strictly: a number from 0 to 1, everything else is unknown. A score keeps it, so nothing is asked
twice.
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Callable
from typing import Any, Final

import cv2
import httpx
import numpy as np

from ipa_core.config import ConfigError
from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence, Side
from ipa_core.scoring import measures

KEY: Final = "IPA_VLM_KEY"
"""Environment variable with the API key. It is in no config, record, key or message."""
PROMPT_VERSION: Final = 1
"""In the key of scores. Raise it when the prompt or the picture changes."""
PROMPT: Final = (
    "The picture shows one hand in up to four frames of a video, in two rows. Upper row: a real hand. Lower row: the "
    "hand of a generated person who should make the same movement. Judge the generated hand. Has it one thumb and four "
    "fingers, each whole, of natural length and with natural joints? Does it make the real hand's pose? Is it as sharp "
    "as the real one? Answer with one number from 0 (spoilt) to 1 (faultless) and nothing else, for example 0.4. If no "
    "hand can be seen, answer: unknown"
)
FRAMES: Final = 4
SIZE: Final = 224
"""Side of a hand's crop in pixels."""
SCALE: Final = 1.8
"""The same in hand sizes."""
TRIES: Final = 5
_SECONDS: Final = httpx.Timeout(120.0, connect=10.0)
_LONGEST_WAIT: Final = 120.0
_NUMBER: Final = re.compile(r"0(\.\d+)?|1(\.0+)?")


class NoAnswer(Exception):  # noqa: N818 - trouble of a machine, which the next run meets anew
    """The model could not be asked."""


class VlmReward:
    """A :class:`~ipa_core.scoring.scorer.Reward`. ``pause`` waits for seconds."""

    def __init__(self, address: str, model: str, pause: Callable[[float], None] = time.sleep) -> None:
        self._address = address.rstrip("/")
        self._model = model
        self._pause = pause

    def __call__(self, video: np.ndarray, driving_video: np.ndarray, driving: PoseSequence) -> dict[Side, np.ndarray]:
        """Raises :class:`NoAnswer`."""
        found = {}
        for side in HANDS:
            picture = hand_picture(video, driving_video, measures.hand_points(driving, side))
            found[side] = np.full(len(video), np.nan if picture is None else self._judge(picture))
        return found

    def check(self) -> None:
        """Raises :class:`ConfigError` when nobody answers at the address, or refuses the key."""
        try:
            answer = httpx.get(f"{self._address}/models", headers=_headers(), timeout=10.0)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ConfigError(
                f"scores.vlm_address: {self._address} does not answer ({type(error).__name__}); start its server, or "
                "set scores.reward to null"
            ) from None
        if answer.status_code in (401, 403):
            raise ConfigError(f"scores.vlm_address: {self._address} {_refusal()}")
        if answer.status_code >= 500:
            raise ConfigError(f"scores.vlm_address: {self._address} answers with the error {answer.status_code}")

    def _judge(self, picture: bytes) -> float:
        image = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        content = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": image}}]
        asked = {"model": self._model, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        for attempt in range(TRIES):
            trouble, wait = "", 2.0**attempt
            try:
                answer = httpx.post(
                    f"{self._address}/chat/completions", json=asked, headers=_headers(), timeout=_SECONDS
                )
            except httpx.HTTPError as error:
                trouble = type(error).__name__
            else:
                if answer.status_code == 200:
                    said = _said(answer)
                    if said is not None:
                        return number(said)
                    trouble = "no chat completion"
                elif answer.status_code in (401, 403):
                    raise NoAnswer(f"{self._address} {_refusal()}")
                elif answer.status_code == 429 or answer.status_code >= 500:
                    trouble = f"error {answer.status_code}"
                    wait = _retry_after(answer) or wait
                else:
                    raise NoAnswer(
                        f"{self._address} refuses the request with the error {answer.status_code}; does it serve the "
                        f"model {self._model} with pictures (scores.vlm_model)?"
                    )
            if attempt < TRIES - 1:
                self._pause(min(wait, _LONGEST_WAIT))
        raise NoAnswer(
            f"{self._address} gave no answer in {TRIES} tries (the last: {trouble}); the next run asks again"
        )


def hand_picture(video: np.ndarray, driving_video: np.ndarray, points: np.ndarray) -> bytes | None:
    """Return a JPEG: crops of a hand with the driving points ``[T, 21, 2]`` (NaN: not found) in at most :data:`FRAMES`
    frames, evenly over time. None: it is in no frame."""
    there = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
    if not len(there):
        return None
    shown = there[np.unique(np.linspace(0, len(there) - 1, min(FRAMES, len(there))).round().astype(int))]
    # One size for all frames: a hand that closes must not look larger.
    side = SCALE * float(np.ptp(points[shown], axis=1).max())
    rows = [[_crop(pictures[frame], points[frame], side) for frame in shown] for pictures in (driving_video, video)]
    _, data = cv2.imencode(
        ".jpg",
        cv2.cvtColor(np.vstack([np.hstack(row) for row in rows]), cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, 95],
    )
    return data.tobytes()


def _crop(picture: np.ndarray, points: np.ndarray, side: float) -> np.ndarray:
    scale = SIZE / max(side, 1.0)
    corner = (points.min(axis=0) + points.max(axis=0)) / 2 - side / 2
    # cv2 counts from the centre of the first pixel, the keypoints from its corner.
    shift = (0.5 - corner) * scale - 0.5
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(picture, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def number(said: str) -> float:
    """Return the number in [0, 1] that an answer is, NaN for any other answer."""
    text = said.strip()
    return float(text) if _NUMBER.fullmatch(text) else float("nan")


def _said(answer: httpx.Response) -> str | None:
    """Return the text of a chat completion, "" if the model said nothing. None: this is no chat completion."""
    try:
        message: Any = answer.json()["choices"][0]["message"]
        said = message["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return said if isinstance(said, str) else ""


def _retry_after(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY)
    return {"authorization": f"Bearer {key}"} if key else {}


def _refusal() -> str:
    return f"refuses the key in {KEY}" if os.environ.get(KEY) else f"wants a key: set {KEY} in the environment"
