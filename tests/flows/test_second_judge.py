"""The second judge in runs: it looks at the stored videos, and nothing that chooses reads what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.engine.plan import plan_run
from flows.outcomes.adapters import model_rows
from flows.stages import STAGES
from flows.stages.evaluation import clip_results, comparison
from flows.stages.judge import who_judged
from ipa_core.config import RunConfig
from storage import Store
from storage.registry import Registry
from tests.evaluation.tiny_judge import write_judge
from tests.fakes import FAKES, fake_config
from tests.flows.conftest import run_fake, whole_run

ROOT = Path(__file__).parents[2]
CHOOSES = (
    *("ipa_core/scoring", "ipa_core/alignment", "ipa_core/generation", "ipa_core/evaluation/promotion.py"),
    *("flows/stages/candidates.py", "flows/stages/scores.py", "flows/stages/selection.py", "flows/stages/shards.py"),
    *("flows/stages/references.py", "flows/stages/finetune.py", "flows/outcomes/promotion.py", "flows/training"),
)


def with_judge(folder: Path) -> RunConfig:
    if not (folder / "judge").exists():
        write_judge(folder / "judge")
    return fake_config(folder, evaluation__judge=str(folder / "judge"))


@pytest.mark.parametrize("place", CHOOSES)
def test_what_chooses_does_not_know_the_second_judge(place: str) -> None:
    files = [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py"))
    assert files
    assert [path.name for path in files if "second_judge" in path.read_text()] == []


def test_naming_a_judge_generates_no_video_again(folder: Path) -> None:
    before = run_fake(fake_config(folder))
    videos = [item.name for item, _ in before.results.done("evaluation") if "clip" in item.action.inputs]
    done = run_fake(with_judge(folder))
    computed = [entry.item.name for entry in done.results["evaluation"] if entry.status == "computed"]
    assert done.computed().keys() == {"evaluation"}
    assert computed == [*(f"{name}, second judge" for name in videos), "comparison"]


def test_every_video_is_judged_and_compared(folder: Path) -> None:
    done = run_fake(with_judge(folder))
    rows, compared = clip_results(done.view), comparison(done.view)
    assert compared is not None and len(rows) == 2 * compared.pairs > 0
    judged = [row.second_judge for row in rows]
    assert all(value is not None and 0 <= value <= 1 for value in judged)
    metric = compared.metrics[-1]
    assert (metric.name, metric.pairs) == ("second_judge", compared.pairs)


def test_a_judge_with_other_bytes_judges_again(folder: Path) -> None:
    run_fake(with_judge(folder))
    graph = folder / "judge" / "model.json"
    graph.write_text(graph.read_text() + "\n")
    assert run_fake(with_judge(folder)).computed().keys() == {"evaluation"}


def test_a_plan_knows_what_it_will_look_at(folder: Path) -> None:
    config = with_judge(folder)
    found = plan_run(Store(folder / "store"), config, STAGES, FAKES)
    planned = {stage.name: stage.compute for stage in found.stages}
    assert planned["evaluation"] == run_fake(config).computed()["evaluation"]


def test_the_report_the_card_and_the_registry_have_it(folder: Path) -> None:
    summary = whole_run(with_judge(folder))
    report = Path(summary.outputs["report"]).read_text()
    card = (Path(summary.outputs["lora"]) / "README.md").read_text()
    [row] = model_rows(Registry(folder / "store").state())
    assert "second judge (never chooses)" in report and "second judge (never chooses)" in card
    assert "which never chooses" in report and "Chosen by the hand score, version 3" in report
    assert row.second_judge is not None


def test_without_a_judge_it_is_said_that_there_is_none(folder: Path) -> None:
    said = who_judged(run_fake(fake_config(folder)).view)
    assert said.endswith("with the true video where there is one; there is no second judge (evaluation.judge)")
