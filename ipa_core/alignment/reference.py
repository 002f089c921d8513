"""The reference p_ref is the pretrained model itself: the same weights with the adapter switched off, not a copy.

Its error e_ref is one number per draw of (noise, t), and draws follow from the seed, the sample and the epoch. So e_ref
can be computed online, in the step that needs it, or ahead, into a table: two sums of squares per draw, from which the
weighted error of every hand weight follows, for every beta. The gradient is the same; with the table a step costs what
a supervised one costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from ipa_core.alignment.batch import Batch, Example, collate, velocity_error, velocity_squared_error
from ipa_core.alignment.draws import Visit, visits
from ipa_core.alignment.halo import SquaredError
from ipa_core.config import AlignmentConfig
from ipa_core.models.animation import AnimationModel
from ipa_core.records import Digest, Record


@contextmanager
def adapter_off(transformer: torch.nn.Module) -> Iterator[None]:
    """Within the block the transformer is the base model. Switching also freezes the adapter, and is always undone."""
    switch = cast(Any, transformer)
    switch.disable_adapters()
    try:
        yield
    finally:
        switch.enable_adapters()


def reference_error(model: AnimationModel, batch: Batch, config: AlignmentConfig) -> Tensor:
    """e_ref ``[B]``, without gradient: computed as e_theta is, so that the two are equal before the first step."""
    # Several processes may have wrapped it (DistributedDataParallel).
    transformer = getattr(model.transformer, "module", model.transformer)
    with adapter_off(transformer), torch.no_grad():
        return velocity_error(model, batch, config)


class ReferenceErrors(Record):
    """The reference's squared errors on one sample, a draw of each epoch in a row (see halo.SquaredError)."""

    first_epoch: int
    everywhere: tuple[float, ...]
    on_hands: tuple[float, ...]
    elements: int


class ReferenceTable(Record):
    """Errors of the reference for the draws of a training run, by the digests of its samples' latents.

    Only what changes the draws or the reference's prediction is in them: seed, timesteps, latents, mask and type; not
    beta, hand weight, reduction, batch size, steps or anything of the LoRA.
    """

    samples: dict[Digest, tuple[ReferenceErrors, ...]]

    def error(self, places: Sequence[tuple[Digest, int]], config: AlignmentConfig) -> Tensor:
        """e_ref ``[B]`` of samples of one shape, each told by its digest and the epoch of the draw.

        Raises ``ValueError`` for a draw that the table lacks.
        """
        found = [self._draw(digest, epoch) for digest, epoch in places]
        errors = SquaredError(
            everywhere=torch.tensor([everywhere for everywhere, _, _ in found]),
            on_hands=torch.tensor([on_hands for _, on_hands, _ in found]),
            elements=found[0][2],
        )
        return errors.weighted(config.hand_weight, config.reduction)

    def _draw(self, digest: Digest, epoch: int) -> tuple[float, float, int]:
        for part in self.samples.get(digest, ()):
            place = epoch - part.first_epoch
            if 0 <= place < len(part.everywhere):
                return part.everywhere[place], part.on_hands[place], part.elements
        raise ValueError(f"the table of reference errors has no draw of epoch {epoch} of sample {digest[:12]}")


def epochs_of_run(config: AlignmentConfig, digests: Sequence[Digest]) -> Counter[Digest]:
    """How many epochs of each sample a run draws from: 0 to before this."""
    walk: list[Visit] = visits(config.seed, digests, 0, config.steps * config.batch_size)
    epochs: Counter[Digest] = Counter()
    for visit in walk:
        epochs[digests[visit.index]] = max(epochs[digests[visit.index]], visit.epoch + 1)
    return epochs


def reference_errors(
    model: AnimationModel, example: Example, epochs: range, config: AlignmentConfig, batch_size: int = 1
) -> ReferenceErrors:
    """Of one sample and the draws of some epochs in a row; ``model`` has no adapter."""
    everywhere: list[float] = []
    on_hands: list[float] = []
    elements = example.clean.numel()
    for start in range(0, len(epochs), batch_size):
        part = epochs[start : start + batch_size]
        batch = collate([example] * len(part), part, config, model.device)
        with torch.no_grad():
            errors = velocity_squared_error(model, batch, config)
        everywhere += errors.everywhere.tolist()
        on_hands += errors.on_hands.tolist()
    return ReferenceErrors(
        first_epoch=epochs.start, everywhere=tuple(everywhere), on_hands=tuple(on_hands), elements=elements
    )
