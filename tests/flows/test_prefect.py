"""The flow on a real Prefect server."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.runs import RunSummary
from tests.fakes import fake_config


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with warnings.catch_warnings():
        # Prefect's own dependencies warn while its server starts.
        warnings.simplefilter("ignore")
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_COMPONENTS", "tests.fakes:FAKES")


def run(folder: Path, **changes: object) -> tuple[str, RunSummary]:
    from flows.retrain import retrain

    state = retrain(fake_config(folder, **changes), return_state=True)
    summary = state.result(raise_on_failure=False)
    assert isinstance(summary, RunSummary)
    return state.type.value, summary


pytestmark = [pytest.mark.usefixtures("server"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_a_run_with_something_new_is_completed_and_shows_its_outputs(folder: Path) -> None:
    state, summary = run(folder, alignment__beta=100.0)
    assert (state, summary.status) == ("COMPLETED", "completed")
    assert {name: Path(path).exists() for name, path in summary.outputs.items()} == {
        "lora": True,
        "shards": True,
        "report": True,
    }


def test_a_run_with_nothing_new_says_so(folder: Path) -> None:
    run(folder)
    state, summary = run(folder)
    assert (state, summary.status) == ("COMPLETED", "nothing_new")
    assert {row.computed for row in summary.stages} == {0}


def test_a_run_that_cannot_go_on_is_failed_with_its_sentence(folder: Path) -> None:
    state, summary = run(folder, selection__threshold=1.0)
    assert (state, summary.status) == ("FAILED", "failed")
    assert summary.error is not None and "selection.threshold is 1.0" in summary.error


def test_the_summary_is_kept_in_the_runs_folder(folder: Path) -> None:
    _, summary = run(folder)
    kept = json.loads((folder / "store" / "runs" / summary.run_id / "run.json").read_text())
    assert kept["status"] == summary.status


def test_the_ui_gets_a_table_of_the_stages(folder: Path) -> None:
    run(folder)
    from prefect.client.orchestration import get_client

    async def artifacts() -> list[str | None]:
        async with get_client() as client:
            return [artifact.key for artifact in await client.read_artifacts()]

    assert "stages" in asyncio.run(artifacts())


def test_retention_drops_what_was_not_kept_and_the_next_run_is_still_cached(folder: Path) -> None:
    from flows.stages.candidates import groups
    from storage import Store
    from tests.flows.conftest import run_fake

    run(folder, execution__retention="kept", alignment__beta=50.0)
    config = fake_config(folder, alignment__beta=50.0)
    done = run_fake(config)
    latents = {candidate.latents for group in groups(config, done.results) for candidate in group.candidates()}
    assert done.computed() == {}
    assert 0 < len(Store(folder / "store").objects.missing(latents)) < len(latents)
