"""The conditioning of a clip's candidates: tensors that only their model understands, and their bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import safetensors.torch
import torch
from torch import Tensor

_REFERENCE: Final = "reference_latents"
_UNGUIDED: Final = "negative_"


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The inputs that all candidates of a clip share, encoded once. Batch dimension 1.

    A stream is a tensor ``[1, ...]`` that the model's ``velocity`` gets by name. Sampler and training pass streams on
    unread: only the model knows their names and shapes.

    shared: streams that are the same with and without guidance (Wan-VACE: ``control``).
    guided: streams of the pass with the prompt (Wan-VACE: ``prompt_embeds``).
    unguided: streams of the same names for the pass without the prompt, or None without guidance.
    reference_latents: ``[1, C, R, h, w]``, normalised; R reference frames (Wan-VACE: 1).
    frames, height, width: number of the video's frames, and their size in pixels.

    Raises ``ValueError`` when guided and unguided streams differ in their names, or when a name can't be stored.
    """

    shared: Mapping[str, Tensor]
    guided: Mapping[str, Tensor]
    unguided: Mapping[str, Tensor] | None
    reference_latents: Tensor
    frames: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.unguided is not None and set(self.unguided) != set(self.guided):
            raise ValueError(
                f"guided and unguided streams must have the same names, got {sorted(self.guided)} and "
                f"{sorted(self.unguided)}"
            )
        for name in (*self.shared, *self.guided):
            if name == _REFERENCE or name.startswith(_UNGUIDED) or (name in self.shared and name in self.guided):
                raise ValueError(
                    f"a stream can't be called {name}: a name stands in one mapping only, is not {_REFERENCE} and does "
                    f"not begin with {_UNGUIDED}"
                )

    def streams(self, guided: bool = True) -> dict[str, Tensor]:
        """Return the streams for the pass with the prompt or, with ``guided`` False, for the pass without it.

        Raises ``ValueError`` when the pass without the prompt was not encoded.
        """
        if guided:
            return {**self.shared, **self.guided}
        if self.unguided is None:
            raise ValueError("guidance needs the negative prompt, but this conditioning was encoded without one")
        return {**self.shared, **self.unguided}

    def to(self, device: torch.device) -> Conditioning:
        """Return the same conditioning on another device."""
        return replace(
            self,
            shared=_moved(self.shared, device),
            guided=_moved(self.guided, device),
            unguided=None if self.unguided is None else _moved(self.unguided, device),
            reference_latents=self.reference_latents.to(device),
        )

    def to_bytes(self) -> bytes:
        """Write safetensors; the same conditioning gives the same bytes on every device.

        A stream keeps its name, an unguided stream becomes ``negative_<name>``; ``reference_latents`` is one more.
        """
        size = {"frames": self.frames, "height": self.height, "width": self.width}
        unguided = {f"{_UNGUIDED}{name}": stream for name, stream in (self.unguided or {}).items()}
        named = {**self.streams(), **unguided, _REFERENCE: self.reference_latents}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in named.items()}
        # A single metadata entry: safetensors keeps entries in a hash map, whose order differs from process to process.
        return safetensors.torch.save(tensors, metadata={"conditioning": json.dumps(size, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Conditioning:
        """Read the bytes of :meth:`to_bytes` onto the CPU. Raises ``ValueError`` when they hold no conditioning.

        A stream is guided when the file also has ``negative_<name>``. Without guidance all streams come back as shared;
        ``streams()`` returns the same.
        """
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        size = header.get("__metadata__", {}).get("conditioning")
        if size is None:
            raise ValueError("these bytes hold no conditioning: the metadata entry 'conditioning' is missing")
        tensors = safetensors.torch.load(data)
        reference = tensors.pop(_REFERENCE)
        prefixed = [name for name in tensors if name.startswith(_UNGUIDED)]
        unguided = {name.removeprefix(_UNGUIDED): tensors.pop(name) for name in prefixed}
        return cls(
            shared={name: stream for name, stream in tensors.items() if name not in unguided},
            guided={name: tensors[name] for name in unguided},
            unguided=unguided or None,
            reference_latents=reference,
            **json.loads(size),
        )


def _moved(streams: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: stream.to(device) for name, stream in streams.items()}
