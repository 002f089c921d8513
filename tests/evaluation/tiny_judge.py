"""Small graphs in the format of the second judge, made here: no test needs a download."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Node = dict[str, Any]


def text(value: str) -> dict[str, str]:
    return {"s": base64.b64encode(value.encode()).decode()}


def convolving(stride: int = 1, padding: str = "SAME", *fused: str) -> dict[str, Any]:
    """The attributes of a convolution with a bias."""
    return {
        "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
        "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
        "padding": text(padding),
        "fused_ops": {"list": {"s": [text(name)["s"] for name in ("BiasAdd", *fused)]}},
    }


def node(name: str, operation: str, inputs: Sequence[str] = (), **attributes: Any) -> Node:
    return {"name": name, "op": operation, "input": list(inputs), "attr": attributes}


def write_graph(
    folder: Path,
    nodes: Sequence[Node],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, tuple[str, Sequence[int]]],
) -> Path:
    """Write ``model.json`` and its weights, in two files. ``outputs``: node and shape by name."""

    def described(name: str, shape: Sequence[int]) -> dict[str, Any]:
        return {"name": f"{name}:0", "tensorShape": {"dim": [{"size": str(size)} for size in shape]}}

    folder.mkdir(parents=True, exist_ok=True)
    constants = [node(name, "Const") for name in weights]
    content = b"".join(np.ascontiguousarray(value).tobytes() for value in weights.values())
    (folder / "one.bin").write_bytes(content[:7])
    (folder / "two.bin").write_bytes(content[7:])
    about = [{"name": name, "shape": list(value.shape), "dtype": str(value.dtype)} for name, value in weights.items()]
    graph = {
        "format": "graph-model",
        "signature": {
            "inputs": {name: described(name, shape) for name, shape in inputs.items()},
            "outputs": {name: described(*one) for name, one in outputs.items()},
        },
        "modelTopology": {"node": [*(node(name, "Placeholder") for name in inputs), *constants, *nodes]},
        "weightsManifest": [{"paths": ["one.bin", "two.bin"], "weights": about}],
    }
    path = folder / "model.json"
    path.write_text(json.dumps(graph))
    return path


def whole_numbers(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def write_judge(folder: Path) -> Path:
    """A judge that sees a hand where the picture is bright. Its points lie the further apart the redder it is."""
    points = np.zeros((1, 1, 3, 42), np.float32)
    points[0, 0, 0] = np.linspace(-1, 1, 42)
    bright = np.zeros((1, 1, 3, 8), np.float32)
    bright[..., 4] = 20 / 3  # No hand: the third class, of which the second number is the probability.
    bright[..., 5] = -20 / 3
    biases = {"no points": np.zeros(42, np.float32), "dark": np.array([0, 0, 0, 0, -4, 4, 0, 0], np.float32)}
    weights = {
        "share": np.array(1 / (255 * 224 * 224), np.float32),
        "rows and columns": whole_numbers(1, 2),
        "points": points,
        "bright": bright,
        "begin": whole_numbers(0),
        "end": whole_numbers(1),
        "step": whole_numbers(1),
        "many": np.array(21, np.int32),
        "two": np.array(2, np.int32),
        "classes": whole_numbers(-1, 4, 2),
        **biases,
    }
    nodes = [
        node("small", "Mul", ["image", "share"]),
        node("mean", "Sum", ["small", "rows and columns"], keep_dims={"b": True}),
        node("points of it", "_FusedConv2D", ["mean", "points", "no points"], **convolving()),
        node("size", "Shape", ["points of it"]),
        node("count", "StridedSlice", ["size", "begin", "end", "step"]),
        node("form", "Pack", ["count", "many", "two"], axis={"i": "0"}),
        node("coordinates", "Reshape", ["points of it", "form"]),
        node("hand", "_FusedConv2D", ["mean", "bright", "dark"], **convolving()),
        node("logits", "Reshape", ["hand", "classes"]),
        node("probabilities", "Softmax", ["logits"]),
    ]
    outputs = {"coordinates": ("coordinates", (-1, 21, 2)), "classes": ("probabilities", (-1, 4, 2))}
    write_graph(folder, nodes, weights, {"image": (-1, 224, 224, 3)}, outputs)
    return folder
