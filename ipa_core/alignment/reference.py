"""Errors of the frozen model p_ref: the pretrained model with the adapter switched off, not a copy of it.

The error e_ref is one number per draw of (noise, t), and draws follow from the seed, the sample and the epoch. So the
step that needs e_ref can compute it, or it is computed ahead into a table. The table holds two sums of squares per
draw: they give the error for every hand weight and every beta. The gradient is the same. With the table a step costs as
much as a supervised step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ipa_core.alignment.batch import Batch, Example, collate, velocity_error, velocity_squared_error
from ipa_core.alignment.halo import SquaredError
from ipa_core.config import AlignmentConfig
from ipa_core.models.adapter import adapter_off
from ipa_core.models.animation import AnimationModel
from ipa_core.records import Digest, Record, ReferenceErrors


def reference_error(model: AnimationModel, batch: Batch, config: AlignmentConfig) -> Tensor:
    """Return e_ref ``[B]`` without gradient, computed like e_theta, so that both are equal before the first step."""
    with adapter_off(model.transformer), torch.no_grad():
        return velocity_error(model, batch, config)


class ReferenceTable(Record):
    """The frozen model's errors for the draws of a training run, by the digests of the samples' latents.

    The errors depend on the draws and on the frozen model's prediction: seed, timesteps, latents, mask and dtype. They
    do not depend on beta, hand weight, reduction, batch size, steps or the LoRA.
    """

    samples: dict[Digest, tuple[ReferenceErrors, ...]]

    def has(self, draws: Iterable[tuple[Digest, int]]) -> bool:
        """Return whether the table has all of these draws, each given by its sample's digest and its epoch."""
        return all(self._part(digest, epoch) is not None for digest, epoch in draws)

    def error(self, draws: Sequence[tuple[Digest, int]], config: AlignmentConfig) -> Tensor:
        """Return e_ref ``[B]`` of samples of one shape. Raises ``ValueError`` when the table lacks a draw."""
        everywhere, on_hands, elements = [], [], 0
        for digest, epoch in draws:
            part = self._part(digest, epoch)
            if part is None:
                raise ValueError(f"the table of reference errors has no draw of epoch {epoch} of sample {digest[:12]}")
            everywhere.append(part.everywhere[epoch - part.first_epoch])
            on_hands.append(part.on_hands[epoch - part.first_epoch])
            elements = part.elements
        errors = SquaredError(torch.tensor(everywhere), torch.tensor(on_hands), elements)
        return errors.weighted(config.hand_weight, config.reduction)

    def _part(self, digest: Digest, epoch: int) -> ReferenceErrors | None:
        parts = self.samples.get(digest, ())
        return next((part for part in parts if 0 <= epoch - part.first_epoch < len(part.everywhere)), None)


def reference_errors(
    model: AnimationModel, example: Example, epochs: range, config: AlignmentConfig, batch_size: int = 1
) -> ReferenceErrors:
    """Compute the errors of one sample for the draws of consecutive epochs; ``model`` has no adapter."""
    everywhere: list[float] = []
    on_hands: list[float] = []
    elements = example.clean.numel()
    for start in range(0, len(epochs), batch_size):
        part = epochs[start : start + batch_size]
        batch = collate([example] * len(part), part, config, model.device, model.t_range(config))
        with torch.no_grad():
            errors = velocity_squared_error(model, batch, config)
        everywhere += errors.everywhere.tolist()
        on_hands += errors.on_hands.tolist()
    return ReferenceErrors(
        first_epoch=epochs.start, everywhere=tuple(everywhere), on_hands=tuple(on_hands), elements=elements
    )
