"""A vision language model as a second opinion, against a small server on loopback."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from ipa_core.config import ConfigError, ScoresConfig
from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence
from ipa_core.scoring.vlm import FRAMES, SIZE, TRIES, NoAnswer, VlmReward, number

Reply = tuple[int, dict[str, str], bytes]
SECRET = "sk-not-for-logs"


def completion(said: Any) -> Reply:
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]}).encode()


class Server(ThreadingHTTPServer):
    """Gives the replies in their order, the last one for ever, and keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = [completion("0.8")]
        self.asked: list[tuple[str, dict[str, str], Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._reply(None)

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _reply(self, body: Any) -> None:
        self.server.asked.append((self.path, dict(self.headers), body))
        replies = self.server.replies
        status, headers, data = replies.pop(0) if len(replies) > 1 else replies[0]
        self.send_response(status)
        for name, value in (headers | {"content-length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def waited() -> list[float]:
    return []


@pytest.fixture
def reward(server: Server, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> VlmReward:
    monkeypatch.delenv("IPA_VLM_KEY", raising=False)
    return VlmReward(server.address, "a-model", waited.append)


def material() -> tuple[np.ndarray, np.ndarray, PoseSequence]:
    """Six frames of a red candidate and a green driving video, with a right hand around (40, 24) and no left hand."""
    red, green = (np.zeros((6, 64, 64, 3), np.uint8) for _ in range(2))
    red[..., 0], green[..., 1] = 255, 255
    points, confidence = np.zeros((6, 133, 2), np.float32), np.zeros((6, 133), np.float32)
    grid = np.stack([np.arange(21) % 5, np.arange(21) // 5], axis=1) / 4 - 0.5
    points[:, HANDS["right"]] = np.array([40, 24]) + grid * 16
    confidence[:, HANDS["right"]] = 1
    return red, green, PoseSequence(points, confidence, 64, 64, "presence", "fake")


def test_a_hand_that_is_there_gets_the_answer_in_all_frames(server: Server, reward: VlmReward) -> None:
    found = reward(*material())
    assert found["right"].tolist() == [0.8] * 6
    assert np.isnan(found["left"]).all()
    assert len(server.asked) == 1  # Nobody is asked about a hand that is not there.


def test_the_picture_shows_the_driving_hand_above_the_candidates(server: Server, reward: VlmReward) -> None:
    reward(*material())
    [(path, _, body)] = server.asked
    [text, image] = body["messages"][0]["content"]
    assert (path, body["model"], body["temperature"], text["type"]) == ("/v1/chat/completions", "a-model", 0, "text")
    data = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    picture = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert picture.shape == (2 * SIZE, FRAMES * SIZE, 3)
    above, below = picture[SIZE // 2, SIZE // 2], picture[SIZE + SIZE // 2, SIZE // 2]
    assert (above.argmax(), below.argmax()) == (1, 0)


@pytest.mark.parametrize(("said", "value"), [("0", 0), (" 1.0\n", 1), ("0.75", 0.75), ("1", 1)])
def test_a_number_is_read(said: str, value: float) -> None:
    assert number(said) == value


@pytest.mark.parametrize(
    "said", ["unknown", "", "0.8.", "score: 0.8", "1.5", "-0.1", "0,8", "80%", "nan", ".5", "0.8 0.9", "1e-1", "٠"]
)
def test_every_other_answer_is_unknown(said: str) -> None:
    assert np.isnan(number(said))


@pytest.mark.parametrize("said", ["I see a lovely hand.", None, [{"type": "text", "text": "0.8"}]])
def test_an_answer_that_is_no_number_is_no_trouble(server: Server, reward: VlmReward, said: Any) -> None:
    server.replies = [completion(said)]
    assert np.isnan(reward(*material())["right"]).all()
    assert len(server.asked) == 1


def test_it_waits_as_long_as_the_server_says(server: Server, reward: VlmReward, waited: list[float]) -> None:
    server.replies = [(429, {"retry-after": "7"}, b""), (503, {}, b""), completion("0.5")]
    assert reward(*material())["right"][0] == 0.5
    assert waited == [7, 2]


@pytest.mark.parametrize("reply", [(500, {}, b"oh"), (429, {"retry-after": "99999"}, b""), (200, {}, b"<html>"),
                                   (200, {}, b"[]"), (200, {}, b'{"choices": []}')])  # fmt: skip
def test_lasting_trouble_is_one_sentence(server: Server, reward: VlmReward, waited: list[float], reply: Reply) -> None:
    server.replies = [reply]
    with pytest.raises(
        NoAnswer, match=rf"^http://127.* gave no answer in {TRIES} tries \(the last: .*\); the next run"
    ):
        reward(*material())
    assert (len(server.asked), len(waited)) == (TRIES, TRIES - 1)
    assert max(waited) <= 120


@pytest.mark.parametrize("status", [400, 404, 307])
def test_a_refused_request_is_not_repeated(server: Server, reward: VlmReward, status: int) -> None:
    server.replies = [(status, {"location": "http://127.0.0.1:1/"}, b"")]
    with pytest.raises(
        NoAnswer, match=rf"refuses the request with the error {status}; does it serve the model a-model"
    ):
        reward(*material())
    assert len(server.asked) == 1


def test_the_key_goes_to_the_server_and_into_no_message(
    server: Server, reward: VlmReward, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("IPA_VLM_KEY", SECRET)
    server.replies = [(401, {}, f"wrong key {SECRET}".encode())]
    with caplog.at_level("DEBUG"), pytest.raises(NoAnswer, match=r"refuses the key in IPA_VLM_KEY$") as refused:
        reward(*material())
    [(_, headers, _)] = server.asked
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(refused.value) and SECRET not in caplog.text


def test_without_a_key_none_is_sent(server: Server, reward: VlmReward) -> None:
    reward(*material())
    assert "authorization" not in {name.lower() for name in server.asked[0][1]}


def test_a_server_that_answers_passes_the_check(server: Server, reward: VlmReward) -> None:
    server.replies = [(404, {}, b"")]  # Not every server lists its models.
    reward.check()
    assert server.asked[0][0] == "/v1/models"


def test_a_server_that_is_down_is_said_before_work(server: Server) -> None:
    with pytest.raises(
        ConfigError, match=r"^scores.vlm_address: http://127.0.0.1:1/v1 does not answer \(ConnectError\)"
    ):
        VlmReward("http://127.0.0.1:1/v1", "a-model").check()


@pytest.mark.parametrize(
    ("status", "why"), [(401, "wants a key: set IPA_VLM_KEY"), (502, "answers with the error 502")]
)
def test_a_server_that_refuses_is_said_before_work(server: Server, reward: VlmReward, status: int, why: str) -> None:
    server.replies = [(status, {}, b"")]
    with pytest.raises(ConfigError, match=why):
        reward.check()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"vlm_address": "http://127.0.0.1:8000/v1"},
        {"vlm_model": "m"},
        {"vlm_address": "ftp://host/v1", "vlm_model": "m"},
        {"vlm_address": "https://me:word@host/v1", "vlm_model": "m"},
        {"vlm_address": "https://host/v1?key=word", "vlm_model": "m"},
    ],
)
def test_a_config_without_a_usable_address_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="vlm"):
        ScoresConfig.model_validate({"reward": "vlm", **fields})
