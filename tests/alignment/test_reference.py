"""Reference errors computed ahead: the same numbers, the same training."""

from __future__ import annotations

import pytest
import torch

from ipa_core.alignment.data import prepare
from ipa_core.alignment.reference import ReferenceTable, reference_errors
from ipa_core.alignment.trainer import TrainedLoRA, train
from ipa_core.alignment.visits import epochs_of_run
from ipa_core.config import AlignmentConfig
from ipa_core.models.wan_vace.model import WanVACEModel
from ipa_core.records import ReferenceErrors
from tests.alignment.samples import Samples, make_samples
from tests.alignment.test_training import CONFIG, Slot, gradient


def table_of(
    model: WanVACEModel, samples: Samples, config: AlignmentConfig = CONFIG, batch_size: int = 3
) -> ReferenceTable:
    """Each sample's draws in two parts, as the stage computes long runs."""
    parts: dict[str, tuple[ReferenceErrors, ...]] = {}
    for sample, count in zip(samples, epochs_of_run(config, samples.digests), strict=True):
        example = prepare(sample, model, config)
        halves = range(count // 2), range(count // 2, count)
        parts[sample.digest] = tuple(
            reference_errors(model, example, half, config, batch_size) for half in halves if half
        )
    return ReferenceTable(samples=parts)


def trained(
    model: WanVACEModel,
    samples: Samples,
    references: ReferenceTable | None,
    slot: Slot | None = None,
    **changes: object,
) -> TrainedLoRA:
    config = CONFIG.model_copy(update=changes)
    found = train(model, samples, config, checkpoints=slot or Slot(), on_step=lambda log: None, references=references)
    model.transformer.unload_lora()
    return found


def test_a_run_draws_each_epoch_of_each_sample() -> None:
    # 24 draws of 5 samples: four whole epochs, and a fifth of all but one.
    assert sorted(epochs_of_run(CONFIG, ["a", "b", "c", "d", "e"])) == [4, 5, 5, 5, 5]


@pytest.mark.parametrize("hand_weight", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_table_serves_every_hand_weight(model: WanVACEModel, hand_weight: float, reduction: str) -> None:
    samples = make_samples(2)
    table = table_of(model, samples)
    changes = {"hand_weight": hand_weight, "reduction": reduction, "beta": 1e-3, "batch_size": 2}
    ahead, online = (trained(model, samples, known, **changes).history for known in (table, None))
    for one, other in zip(ahead, online, strict=True):
        assert one.reference_error == pytest.approx(other.reference_error, rel=1e-5)


def test_the_gradient_is_the_same(model: WanVACEModel) -> None:
    """Of a trained adapter, not of a fresh one whose gap is zero."""
    samples = make_samples(4)
    table = table_of(model, samples)
    states = []
    for known in (table, None):
        slot = Slot()
        trained(model, samples, known, slot, steps=4)
        states.append(slot.data)
    ahead, online = (_moments(state) for state in states)
    assert torch.nn.functional.cosine_similarity(ahead, online, dim=0) > 1 - 1e-6
    torch.testing.assert_close(ahead, online, rtol=1e-3, atol=1e-5 * float(online.abs().max()))


def test_the_gradient_depends_on_the_reference(model: WanVACEModel) -> None:
    """That the comparison above could fail: another reference gives another gradient."""
    samples = make_samples(4)
    table = table_of(model, samples)
    wrong = ReferenceTable(
        samples={
            digest: tuple(
                part.model_copy(update={"everywhere": tuple(2 * e for e in part.everywhere)}) for part in parts
            )
            for digest, parts in table.samples.items()
        }
    )
    slot = Slot()
    trained(model, samples, wrong, slot, steps=1)
    ours, theirs = _moments(slot.data), gradient(model, samples)
    assert not torch.allclose(ours, theirs, rtol=1e-2)


def test_a_table_survives_json(model: WanVACEModel) -> None:
    table = table_of(model, make_samples(2))
    again = ReferenceTable.model_validate_json(table.model_dump_json())
    places = [(digest, 0) for digest in table.samples]
    ours, theirs = again.error(places, CONFIG), table.error(places, CONFIG)
    assert torch.equal(ours, theirs)


def test_what_the_table_lacks_is_computed_in_the_step(model: WanVACEModel) -> None:
    samples = make_samples(2)
    short = table_of(model, samples, CONFIG.model_copy(update={"steps": 1}))
    mixed, online = (trained(model, samples, known).history for known in (short, None))
    for one, other in zip(mixed, online, strict=True):
        assert one.reference_error == pytest.approx(other.reference_error, rel=1e-5)


def test_a_draw_that_is_not_there_is_said(model: WanVACEModel) -> None:
    table = table_of(model, make_samples(2))
    [digest, _] = table.samples
    assert table.has([(digest, 0)])
    assert not table.has([(digest, 0), (digest, 99)])
    with pytest.raises(ValueError, match="no draw of epoch 99 of sample"):
        table.error([(digest, 99)], CONFIG)


def test_sft_needs_no_table(model: WanVACEModel) -> None:
    empty = ReferenceTable(samples={})
    assert trained(model, make_samples(2), empty, method="sft", steps=1).history[0].reference_error is None


def _moments(state: bytes | None) -> torch.Tensor:
    from ipa_core.alignment.checkpoint import Checkpoint

    assert state is not None
    states = Checkpoint.from_bytes(state).optimizer
    return torch.cat([states[name]["exp_avg"].flatten() for name in sorted(states)])
