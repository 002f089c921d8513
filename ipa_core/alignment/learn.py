"""What one part of a batch teaches: its loss, backward, with the numbers that are logged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ipa_core.alignment.batch import Batch, velocity, velocity_error
from ipa_core.alignment.flow import flow_target
from ipa_core.alignment.halo import SquaredError, squared_error
from ipa_core.alignment.loss import error_weight
from ipa_core.alignment.methods import METHODS, Errors
from ipa_core.alignment.reference import reference_error
from ipa_core.alignment.time_weight import TimeWeight
from ipa_core.config import AlignmentConfig
from ipa_core.models.adapter import adapter_off
from ipa_core.models.animation import AnimationModel


@dataclass(frozen=True)
class Part:
    """Results of one part of a batch: tensors ``[b]`` without gradient. Those that need e_ref are None without it, the
    weight for other methods than IPA, the drift (a share of the velocity's length, ``[1]``) without the frozen
    velocity."""

    loss: Tensor
    model_error: Tensor
    reference_error: Tensor | None = None
    gap: Tensor | None = None
    logit: Tensor | None = None
    weight: Tensor | None = None
    drift: Tensor | None = None


def learn(
    model: AnimationModel,
    batch: Batch,
    config: AlignmentConfig,
    known: Tensor | None,
    advantage: Tensor,
    time_weight: TimeWeight,
) -> Part:
    """Add a part's share to the gradient of the batch's mean loss. ``known`` is e_ref, if it was computed ahead. Else
    the frozen model runs first, because gradient checkpointing computes the layers again in the backward pass, with the
    adapter as it is then. ``advantage [b]`` matters to methods that learn from losers."""
    if config.needs_reference_velocity:
        return _learn_near(model, batch, config, advantage, time_weight)
    if config.method == "sft":
        error = velocity_error(model, batch, config)
        return _step(config, error, error)
    reference = reference_error(model, batch, config) if known is None else known.to(model.device)
    error = velocity_error(model, batch, config)
    errors = Errors(error, reference, None, config.beta / 2 * time_weight(batch.t), advantage)
    return _step(config, METHODS[config.method](errors), error, errors)


def _learn_near(
    model: AnimationModel, batch: Batch, config: AlignmentConfig, advantage: Tensor, time_weight: TimeWeight
) -> Part:
    """The same with the frozen model's velocity: the anchor, the drift and NFT need more than its error."""
    with adapter_off(model.transformer), torch.no_grad():
        frozen = velocity(model, batch, config)
    moving = velocity(model, batch, config)
    target = flow_target(batch.clean, batch.noise)
    error, reference = (_weighted(_between(one, target, batch), config) for one in (moving, frozen))
    moved = _between(moving, frozen, batch)
    weight = config.beta / 2 * time_weight(batch.t)
    errors = Errors(error, reference, _weighted(moved, config), weight, advantage)
    loss = error if config.method == "sft" else METHODS[config.method](errors)
    anchor = config.anchor * moved.weighted(0.0)
    length = frozen.float().square().sum()
    drift = (moved.everywhere.detach().sum() / length).sqrt().reshape(1)
    return _step(config, loss.mean() + anchor.mean(), error, errors, drift)


def _step(
    config: AlignmentConfig, loss: Tensor, error: Tensor, errors: Errors | None = None, drift: Tensor | None = None
) -> Part:
    (loss.mean() / config.accumulation).backward()
    shown = loss.detach().mean().reshape(1)
    if errors is None:
        return Part(loss=shown, model_error=error.detach(), drift=drift)
    logits = errors.logits.detach()
    return Part(
        loss=shown,
        model_error=error.detach(),
        reference_error=errors.reference,
        gap=(errors.reference - error).detach(),
        logit=logits,
        weight=error_weight(logits, errors.weight) if config.method == "ipa" else None,
        drift=drift,
    )


def _between(one: Tensor, other: Tensor, batch: Batch) -> SquaredError:
    return squared_error(one, other, batch.hand_mask, batch.reference_frames)


def _weighted(errors: SquaredError, config: AlignmentConfig) -> Tensor:
    return errors.weighted(config.hand_weight, config.reduction)
