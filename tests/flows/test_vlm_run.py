"""A run whose candidates a vision language model judges too."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.engine.inputs import RunInputs
from flows.engine.view import View
from flows.engine.walk import Scope
from flows.stages.judge import score_settings
from ipa_core.config import ConfigError, RunConfig
from storage import Store
from tests.fakes import FAKES, fake_config, write_videos
from tests.flows.conftest import Done, run_fake
from tests.scoring.test_vlm import Server, completion, server

__all__ = ["server"]


def settings(folder: Path, address: str, model: str = "a-model") -> RunConfig:
    return fake_config(
        folder,
        clips__held_out=0.0,
        candidates__per_clip=1,
        scores__reward="vlm",
        scores__vlm_address=address,
        scores__vlm_model=model,
    )


def scored(config: RunConfig) -> Done:
    return run_fake(config, Scope(last="scores"))


def test_an_answer_is_part_of_the_score_and_never_asked_twice(tmp_path: Path, server: Server) -> None:
    write_videos(tmp_path / "videos", 2)
    server.replies = [completion("0.25")]
    done = scored(settings(tmp_path, server.address))
    rewards = [result.record["components"]["reward"] for _, result in done.results.done("scores")]
    assert rewards == [0.25, 0.25]
    questions = [path for path, _, _ in server.asked if path.endswith("completions")]
    assert len(questions) == 4  # Two candidates with two hands.
    again = scored(settings(tmp_path, server.address.replace("127.0.0.1", "localhost")))
    assert again.computed() == {}
    assert len([path for path, _, _ in server.asked if path.endswith("completions")]) == 4


def test_a_server_that_is_down_stops_the_run_before_work(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 1)
    with pytest.raises(ConfigError, match=r"^scores.vlm_address: .* does not answer"):
        scored(settings(tmp_path, "http://127.0.0.1:1/v1"))
    assert not (tmp_path / "store" / "actions").exists()


def named(config: RunConfig, tmp_path: Path) -> dict[str, object]:
    return score_settings(View(config, RunInputs(Store(tmp_path / "store"), config, FAKES)))


def test_the_model_is_in_the_key_and_the_address_is_not(tmp_path: Path) -> None:
    here, there, other = (
        named(settings(tmp_path, address, model), tmp_path)
        for address, model in (("http://a/v1", "m"), ("http://b/v1", "m"), ("http://a/v1", "n"))
    )
    assert here == there
    assert (here["vlm_model"], other["vlm_model"], here["vlm_prompt"]) == ("m", "n", 1)
    assert "vlm_prompt" not in named(fake_config(tmp_path), tmp_path)
