"""Compute a TensorFlow.js graph model in torch. Tensors stay ``[N, H, W, C]``, as TensorFlow has them."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch.nn import functional as F

from ipa_core.evaluation.graph_files import GraphError, GraphFiles, inputs_of

Attributes = Mapping[str, Any]


class Graph:
    """Call it with the inputs of the signature by name; it returns the outputs by name."""

    def __init__(self, files: GraphFiles) -> None:
        self._files = files
        self._weights = {name: torch.from_numpy(value.copy()) for name, value in files.weights.items()}

    @torch.inference_mode()
    def __call__(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Raises :class:`GraphError` when an operation is used in a way that is not known here."""
        files = self._files
        known: dict[str, torch.Tensor] = {}
        for name in files.order:
            node = files.nodes[name]
            if node["op"] == "Const":
                known[name] = self._weights[name]
            elif node["op"] == "Placeholder":
                known[name] = inputs[files.placeholders[name]]
            else:
                known[name] = OPERATIONS[node["op"]](node.get("attr", {}), *(known[one] for one in inputs_of(node)))
        return {name: known[node] for name, node in files.results.items()}


def _convolution(how: Attributes, seen: torch.Tensor, kernel: torch.Tensor, *extra: torch.Tensor) -> torch.Tensor:
    return _fused(how, _convolved(how, seen, kernel.permute(3, 2, 0, 1), 1), extra)


def _depthwise(how: Attributes, seen: torch.Tensor, kernel: torch.Tensor, *extra: torch.Tensor) -> torch.Tensor:
    high, wide, channels, times = kernel.shape
    alone = kernel.permute(2, 3, 0, 1).reshape(channels * times, 1, high, wide)
    return _fused(how, _convolved(how, seen, alone, channels), extra)


def _convolved(how: Attributes, seen: torch.Tensor, kernel: torch.Tensor, groups: int) -> torch.Tensor:
    """Convolve with a kernel ``[O, I, H, W]``, placed as TensorFlow places it."""
    strides, dilations = ([int(number) for number in how[name]["list"]["i"][1:3]] for name in ("strides", "dilations"))
    pictures = seen.permute(0, 3, 1, 2)
    if _text(how["padding"]["s"]) == "SAME":
        rows, columns = (
            _padding(*about) for about in zip(pictures.shape[2:], kernel.shape[2:], strides, dilations, strict=True)
        )
        pictures = F.pad(pictures, (*columns, *rows))
    return F.conv2d(pictures, kernel, None, strides, 0, dilations, groups).permute(0, 2, 3, 1)


def _padding(size: int, reach: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the pixels before and after. The odd one goes to the end; torch's own padding has it on no side."""
    missing = max(0, (math.ceil(size / stride) - 1) * stride + dilation * (reach - 1) + 1 - size)
    return missing // 2, missing - missing // 2


def _fused(how: Attributes, found: torch.Tensor, extra: Sequence[torch.Tensor]) -> torch.Tensor:
    """Add the bias and apply the activation that are fused into a convolution."""
    for name in map(_text, how["fused_ops"]["list"]["s"]):
        match name:
            case "BiasAdd":
                found = found + extra[0]
            case "Relu":
                found = found.relu()
            case "Relu6":
                found = found.clamp(0, 6)
            case _:
                raise GraphError(f"a convolution with {name} can't be computed here")
    return found


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


def _number_of(_: Attributes, seen: torch.Tensor, begin: torch.Tensor, end: torch.Tensor, __: Any) -> torch.Tensor:
    """Take one number of a shape, the only slice that is known here."""
    if seen.ndim != 1 or int(end[0]) != int(begin[0]) + 1:
        raise GraphError("a slice of more than one number of a shape can't be computed here")
    return seen[int(begin[0])]


def _sum(how: Attributes, seen: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    return seen.sum(dim=axes.reshape(-1).tolist(), keepdim=bool(how["keep_dims"]["b"]))


OPERATIONS: Final[Mapping[str, Callable[..., torch.Tensor]]] = {
    "_FusedConv2D": _convolution,
    "FusedDepthwiseConv2dNative": _depthwise,
    "AddV2": lambda _, one, other: one + other,
    "Mul": lambda _, one, other: one * other,
    "Softmax": lambda _, seen: seen.softmax(dim=-1),
    "Sum": _sum,
    "Shape": lambda _, seen: torch.tensor(seen.shape, dtype=torch.int32),
    "StridedSlice": _number_of,
    "Pack": lambda how, *parts: torch.stack(parts, dim=int(how["axis"]["i"])),
    "Reshape": lambda _, seen, shape: seen.reshape(shape.tolist()),
    "Transpose": lambda _, seen, order: seen.permute(order.tolist()),
    "ConcatV2": lambda _, *parts: torch.cat(parts[:-1], dim=int(parts[-1])),
    "Identity": lambda _, seen: seen,
}
