"""How evaluated videos look, also where an earlier version evaluated them."""

from __future__ import annotations

from pathlib import Path

from tests.fakes import fake_config
from tests.flows.conftest import run_fake
from tests.flows.test_newer_store import write_changed


def test_the_stored_videos_of_an_earlier_version_are_looked_at(folder: Path) -> None:
    done = run_fake(fake_config(folder))
    base = [result for item, result in done.results.done("evaluation") if item.name.endswith(" base")]
    for result in base:
        rows = [{name: value for name, value in row.items() if name != "look"} for row in result.record["results"]]
        write_changed(done.store, result.key, "evaluation", {"record": {"results": rows}})
    again = run_fake(fake_config(folder, alignment__seed=1))
    [compared] = [result for item, result in again.results.done("evaluation") if item.name == "comparison"]
    pairs = {metric["name"]: metric["pairs"] for metric in compared.record["metrics"]}
    assert again.computed()["evaluation"] == len(base) + 1  # Of the other LoRA, and the comparison.
    assert pairs["sharpness"] == pairs["psnr"]
