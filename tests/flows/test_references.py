"""Errors of the reference model, computed ahead for the draws of a training."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from flows.engine.walk import Scope
from flows.stages.finetune import LORA
from tests.fakes import fake_config
from tests.flows.conftest import run_fake


def test_each_draw_of_the_training_is_there(folder: Path) -> None:
    done = run_fake(fake_config(folder))
    draws = sum(len(result.record["everywhere"]) for _, result in done.results.done("references"))
    assert draws == 4 * 2  # Steps by samples a step.


def test_the_training_computes_no_reference_itself(folder: Path) -> None:
    with patch("ipa_core.alignment.learn.reference_error", side_effect=AssertionError("computed in the step")):
        done = run_fake(fake_config(folder), Scope(refresh=frozenset({"finetune"})))
    assert done.computed() == {"finetune": 1}


def test_trainings_that_differ_in_beta_lambda_or_the_adapter_share_them(folder: Path) -> None:
    changes = {"alignment__beta": 20.0, "alignment__hand_weight": 1.0, "alignment__rank": 4}
    assert run_fake(fake_config(folder, **changes), Scope(last="references")).computed() == {}


def test_another_seed_of_the_training_has_other_draws(folder: Path) -> None:
    assert run_fake(fake_config(folder, alignment__seed=1), Scope(last="references")).computed()["references"] > 0


def test_what_was_packed_and_dropped_is_not_made_again(folder: Path) -> None:
    """The training computes what it finds no error for."""
    done = run_fake(fake_config(folder))
    item = done.results["references"][0].item
    done.store.objects.delete(item.action.inputs["latents"])
    again = run_fake(fake_config(folder, alignment__seed=1), Scope(last="finetune"))
    assert set(again.computed()) == {"references", "finetune"}
    assert item.action.inputs["latents"] not in {
        one.item.action.inputs["latents"] for one in again.results["references"]
    }


def test_a_longer_training_computes_only_the_draws_that_are_new(folder: Path) -> None:
    before = run_fake(fake_config(folder), Scope(last="references"))
    samples = len(before.results.done("references"))
    # Eight whole epochs, and some of a ninth.
    steps = samples * 8 // 2 + 1
    first = run_fake(fake_config(folder, alignment__steps=steps), Scope(last="references")).computed()["references"]
    longer = run_fake(fake_config(folder, alignment__steps=steps + 1), Scope(last="references")).computed()
    assert first == samples + 2
    assert 1 <= longer["references"] <= 2


def test_training_on_the_driving_clips(folder: Path) -> None:
    """The same samples with other shards, draws of other videos, another LoRA."""
    before = run_fake(fake_config(folder)).output("finetune", LORA)
    done = run_fake(fake_config(folder, alignment__latents="driving"), Scope(last="finetune"))
    assert set(done.computed()) == {"shards", "references", "finetune"}
    assert done.output("finetune", LORA) != before


def test_supervised_training_has_no_reference(folder: Path) -> None:
    done = run_fake(fake_config(folder, alignment__method="sft"), Scope(last="finetune"))
    assert (done.results["references"], done.computed()) == ([], {"finetune": 1})
