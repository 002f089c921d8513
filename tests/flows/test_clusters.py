"""How a run connects to a cluster, without one. `test_runners.py` has real clusters."""

from __future__ import annotations

import pytest

from flows.engine.stage import RunStopped
from flows.orchestration.clusters import TRIES, Ray


def connecting(monkeypatch: pytest.MonkeyPatch, *answers: str | None) -> list[str]:
    """Ray's answers to one connection after the other: an error's text, or None. Returns the addresses asked."""
    left, asked = list(answers), []

    def init(address: str, **about: object) -> None:
        asked.append(address)
        if (error := left.pop(0)) is not None:
            raise ConnectionError(error)

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    return asked


STARTS_BADLY = "Initialization failure from server:\nStarting Ray client server failed."


def test_a_client_process_of_ray_that_dies_as_it_starts_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = connecting(monkeypatch, STARTS_BADLY, STARTS_BADLY, None)
    Ray("ray://here:10001").task_runner("cpu")
    assert asked == ["ray://here:10001"] * 3


def test_a_ray_that_starts_no_client_process_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = connecting(monkeypatch, *[STARTS_BADLY] * TRIES)
    with pytest.raises(RunStopped, match="no Ray answers at ray://here:10001: Initialization failure"):
        Ray("ray://here:10001").task_runner("cpu")
    assert len(asked) == TRIES


def test_where_nothing_listens_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = connecting(monkeypatch, "ray client connection timeout", None)
    with pytest.raises(RunStopped, match="no Ray answers"):
        Ray("ray://here:10001").task_runner("cpu")
    assert len(asked) == 1
