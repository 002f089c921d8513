"""The training loop: train a LoRA for an animation model on preferred samples.

A step computes the reference error with the adapter off and without gradient, or reads it from a table. Then it
computes the model's error with the adapter on and the Flow-IPA loss, and AdamW updates the LoRA alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Protocol, cast

import torch

from ipa_core.alignment.batch import Example, collate
from ipa_core.alignment.checkpoint import Checkpoint, CheckpointSlot, capture, restore
from ipa_core.alignment.data import TrainingSample, prepare
from ipa_core.alignment.learn import Part, learn
from ipa_core.alignment.log import StepLog
from ipa_core.alignment.lora import lora, lora_files, lora_parameters
from ipa_core.alignment.processes import Processes, whole
from ipa_core.alignment.reference import ReferenceTable
from ipa_core.alignment.time_weight import time_weight
from ipa_core.alignment.visits import Label, Visit, advantages, visited_together, visits_of_step
from ipa_core.config import AlignmentConfig, CandidatesConfig
from ipa_core.models.animation import LORA_FILE, AnimationModel
from ipa_core.records import Digest

_KEPT_IN_MEMORY = 64
"""Number of prepared samples; one of 81 frames at 832 x 480 takes about 70 MB."""
DRIFT_STEPS = 8
"""Steps over which the drift is averaged that `max_drift` bounds."""
_ALONE = Processes()


class TrainingSamples(Protocol):
    """Preferred samples that are loaded one by one."""

    @property
    def digests(self) -> Sequence[Digest]:
        """The digest of each sample's latents, which identifies the sample in every random choice."""

    @property
    def labels(self) -> Sequence[Label]:
        """Each sample's place in its clip. Only methods that learn from losers ask for it."""

    def __getitem__(self, index: int) -> TrainingSample: ...


@dataclass(frozen=True)
class TrainedLoRA:
    """files: the files of the LoRA by name, as its model writes them; :data:`LORA_FILE` is one.
    history: one entry per optimizer step, including the steps before an interruption.
    """

    files: dict[str, bytes]
    history: tuple[StepLog, ...]

    @property
    def weights(self) -> bytes:
        """The file that :meth:`~ipa_core.models.ModelKind.load` takes."""
        return self.files[LORA_FILE]


def train(
    model: AnimationModel,
    samples: TrainingSamples,
    config: AlignmentConfig,
    *,
    checkpoints: CheckpointSlot,
    on_step: Callable[[StepLog], None],
    processes: Processes = _ALONE,
    references: ReferenceTable | None = None,
    preview: Callable[[int], None] | None = None,
    sampling: CandidatesConfig | None = None,
) -> TrainedLoRA:
    """Train a LoRA on the model's transformer by ``config``, from the newest checkpoint if there is one.

    On the CPU an interrupted and continued run gives the bytes of an uninterrupted one. The transformer's weights stay
    as they were, but frozen and without an adapter. ``on_step`` is called after every step. ``references`` holds
    reference errors computed ahead; a batch with a draw that ``references`` lacks computes its own. ``preview`` is
    called with the number of steps every ``preview_every`` steps, in each process: it may run the model. ``sampling``
    is needed by ``time_weight: sampler``.

    Several ``processes`` call this with the same arguments, share every batch, and take the steps of one process within
    float error. Only the first saves checkpoints and calls ``on_step``. Three processes can continue a run of two.

    Raises:
        ValueError: no samples; no pair; samples of different shapes in one batch; a checkpoint of another adapter; a
            batch that the processes can't share evenly; a transformer with an adapter; a missing driving clip to train
            on.
        FloatingPointError: the gradient is not finite.
    """
    if not samples.digests:
        raise ValueError("there are no samples to train on")
    transformer = model.transformer
    share = processes.share(config.batch_size, config.accumulation)
    part_size = config.batch_size // config.accumulation // processes.count
    weight = time_weight(config, model, sampling)
    labels = samples.labels if config.learns_from_losers else ()
    together = visited_together(config, labels, len(samples.digests))
    if not together:
        raise ValueError("there is no pair of a kept and a losing sample to train on")
    rewarded = advantages(labels) or [0.0] * len(samples.digests)
    # No dropout: the model and the frozen model must be the same function before the first step.
    transformer.eval()

    @lru_cache(_KEPT_IN_MEMORY)
    def example(index: int) -> Example:
        return prepare(samples[index], model, config)

    with lora(model, config), processes.spread(model), _gradient_checkpointing(transformer, config):
        parameters = lora_parameters(transformer)
        optimizer = torch.optim.AdamW(parameters.values(), weight_decay=config.weight_decay)
        history: list[StepLog] = []
        saved = checkpoints.load()
        if saved is not None:
            left = Checkpoint.from_bytes(saved)
            restore(left, parameters, optimizer)
            history += left.history
        for step in range(len(history), config.steps):
            if _far_enough(history, config):
                break
            started = time.monotonic()
            batch_visits = visits_of_step(config, samples.digests, together, step)
            # Of the whole batch: all processes must compute reference errors, or none.
            ahead = _ahead(references, samples, batch_visits, config)
            chosen = batch_visits[share]
            optimizer.zero_grad()
            parts = []
            for first in range(0, len(chosen), part_size):
                part = chosen[first : first + part_size]
                examples = [example(visit.index) for visit in part]
                epochs = [visit.epoch for visit in part]
                batch = collate(examples, epochs, config, model.device, model.t_range(config))
                known = ahead.error(_draws_of(samples, part), config) if ahead else None
                advantage = torch.tensor([rewarded[visit.index] for visit in part], device=model.device)
                parts.append(learn(model, batch, config, known, advantage, weight))
            grad_norm = _take_step(optimizer, step, config)
            means = _means(parts, processes)
            history.append(_log(means, step, config, grad_norm, time.monotonic() - started))
            if processes.first:
                on_step(history[-1])
            last = len(history) == config.steps or _far_enough(history, config)
            if len(history) % config.checkpoint_every == 0 or last:
                checkpoint = capture(parameters, optimizer, history)
                if processes.first:
                    checkpoints.save(len(history), checkpoint.to_bytes())
            if preview is not None and config.preview_every and len(history) % config.preview_every == 0:
                preview(len(history))
        return TrainedLoRA(lora_files(model), tuple(history))


def _far_enough(history: Sequence[StepLog], config: AlignmentConfig) -> bool:
    """Whether the mean drift of the last steps has reached the config's bound; a single batch's is too noisy."""
    drifts = [log.drift for log in history[-DRIFT_STEPS:] if log.drift is not None]
    enough = config.max_drift is not None and len(drifts) == DRIFT_STEPS
    return enough and sum(drifts) / DRIFT_STEPS >= (config.max_drift or 0.0)


def _ahead(
    references: ReferenceTable | None, samples: TrainingSamples, batch: Sequence[Visit], config: AlignmentConfig
) -> ReferenceTable | None:
    """Return the table when it is wanted and has all draws of the batch."""
    wanted = references is not None and config.uses_reference_table and references.has(_draws_of(samples, batch))
    return references if wanted else None


def _draws_of(samples: TrainingSamples, part: Sequence[Visit]) -> list[tuple[Digest, int]]:
    return [(samples.digests[visit.index], visit.epoch) for visit in part]


def _take_step(optimizer: torch.optim.Optimizer, step: int, config: AlignmentConfig) -> float:
    """Clip the gradient, update the adapter, and return the gradient's norm before clipping."""
    [group] = optimizer.param_groups
    grad_norm = whole(torch.nn.utils.clip_grad_norm_(group["params"], config.max_grad_norm)).item()
    if not math.isfinite(grad_norm):
        raise FloatingPointError(
            f"the gradient of step {step} is not finite ({grad_norm}): lower alignment.learning_rate or set "
            f"alignment.dtype to float32"
        )
    group["lr"] = learning_rate(step, config)
    optimizer.step()
    return grad_norm


def learning_rate(step: int, config: AlignmentConfig) -> float:
    """Return the rate of step 0, 1, ...: it rises evenly over the warm-up steps, then stays."""
    return config.learning_rate * min(1.0, (step + 1) / (config.warmup_steps + 1))


def _means(parts: Sequence[Part], processes: Processes) -> dict[str, float | None]:
    """Return the mean of each field over the whole batch, by the field's name."""
    means: dict[str, float | None] = {}
    for name in (field.name for field in fields(Part)):
        values = [getattr(part, name) for part in parts]
        means[name] = None if values[0] is None else processes.mean(torch.cat(values).mean()).item()
    return means


def _log(means: Mapping[str, Any], step: int, config: AlignmentConfig, grad_norm: float, seconds: float) -> StepLog:
    return StepLog(
        **means,
        step=step,
        steps=config.steps,
        grad_norm=grad_norm,
        learning_rate=learning_rate(step, config),
        seconds=seconds,
    )


@contextmanager
def _gradient_checkpointing(transformer: torch.nn.Module, config: AlignmentConfig) -> Iterator[None]:
    if not config.gradient_checkpointing:
        yield
        return
    switch = cast(Any, transformer)
    switch.enable_gradient_checkpointing()
    try:
        yield
    finally:
        switch.disable_gradient_checkpointing()
