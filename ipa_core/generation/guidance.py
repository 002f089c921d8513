"""Classifier-free guidance: the passes with and without the prompt, one after the other or as one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from ipa_core.models.animation import AnimationModel

_SPARE: Final = 1.2
"""How much more memory than twice that of one pass must be free before both are one batch."""


class Guidance:
    """Predicts the guided velocity of a batch. Both ways give the same up to rounding."""

    def __init__(
        self, model: AnimationModel, guided: Mapping[str, Tensor], unguided: Mapping[str, Tensor] | None, scale: float
    ) -> None:
        """``guided`` and ``unguided``: streams ``[B, ...]``; without ``unguided`` there is no guidance."""
        self._model, self._guided, self._unguided, self._scale = model, guided, unguided, scale
        self.together: bool | None = None
        """Whether both passes are one batch. None: the first pass will show whether a GPU has the memory. A CPU gains
        nothing by it, so that its single seeds stay diffusers' own to the bit."""

    def velocity(self, latents: Tensor, t: Tensor, *, off: bool = False) -> Tensor:
        """Predict for ``latents [B, C, R + T', h, w]`` at ``t [B]``. ``off``: without guidance in this step."""
        if self._unguided is None or off:
            return self._model.velocity(latents, t, self._guided)
        if self.together:
            both = {name: torch.cat([self._unguided[name], self._guided[name]]) for name in self._guided}
            prediction = self._model.velocity(torch.cat([latents, latents]), torch.cat([t, t]), both)
            without, guided = prediction.chunk(2)
        else:
            guided = self._measured(latents, t)
            without = self._model.velocity(latents, t, self._unguided)
        return without + self._scale * (guided - without)

    def _measured(self, latents: Tensor, t: Tensor) -> Tensor:
        """Predict the pass with the prompt, and decide with the memory that it takes."""
        device = self._model.device
        if self.together is not None or device.type != "cuda":
            return self._model.velocity(latents, t, self._guided)
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        prediction = self._model.velocity(latents, t, self._guided)
        taken = torch.cuda.max_memory_allocated(device) - held
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        self.together = _fits(taken, torch.cuda.mem_get_info(device)[0] + idle)
        return prediction


def _fits(taken: int, free: int) -> bool:
    """Return whether two passes, of which one took so many bytes, fit into the free ones at once."""
    return _SPARE * 2 * taken <= free
