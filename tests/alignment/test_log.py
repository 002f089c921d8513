import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ipa_core.alignment.log import StepLog, TensorBoardLog


def step_log(step, loss):
    return StepLog(
        step=step,
        steps=4,
        loss=loss,
        model_error=0.5,
        reference_error=None,
        gap=None,
        logit=None,
        weight=None,
        grad_norm=1.5,
        learning_rate=1e-4,
        seconds=2.0,
    )


def scalars(folder, name):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_every_number_is_written_and_none_is_left_out(tmp_path):
    log = TensorBoardLog(tmp_path)
    log(step_log(0, loss=0.75))
    log(step_log(1, loss=0.5))
    log.close()
    assert scalars(tmp_path, "alignment/loss") == [(0, 0.75), (1, 0.5)]
    with pytest.raises(KeyError):
        scalars(tmp_path, "alignment/gap")


def test_steps_taken_again_supersede_those_of_the_killed_run(tmp_path):
    killed = TensorBoardLog(tmp_path)
    for step in range(3):
        killed(step_log(step, loss=0.75))
    killed.close()
    resumed = TensorBoardLog(tmp_path)
    for step in range(1, 4):
        resumed(step_log(step, loss=0.5))
    resumed.close()
    assert scalars(tmp_path, "alignment/loss") == [(0, 0.75), (1, 0.5), (2, 0.5), (3, 0.5)]
