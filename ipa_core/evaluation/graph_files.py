"""Read a TensorFlow.js graph model: ``model.json`` is its graph, and the files it names hold raw weights.

The files are data: nothing of them is executed but the operations of :data:`KNOWN`. Source of the format:
TensorFlow.js, "graph-model" with a "weightsManifest".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

KNOWN: Final = frozenset(
    ("AddV2", "ConcatV2", "FusedDepthwiseConv2dNative", "Identity", "Mul", "Pack", "Reshape", "Shape", "Softmax")
) | {"StridedSlice", "Sum", "Transpose", "_FusedConv2D"}
"""Operations that `ipa_core.evaluation.graph` computes."""
_TYPES: Final = {"float32": np.float32, "int32": np.int32}
Shapes = Mapping[str, tuple[int, ...]]


class GraphError(ValueError):
    """The files hold no graph that can be run. The message says why, without the folder."""


@dataclass(frozen=True, eq=False)
class GraphFiles:
    """nodes: by name; order: names of those that the outputs need, each after its inputs; weights: of the constants;
    inputs, outputs: shapes by the names of the signature, -1 for any size; placeholders, results: the node of each."""

    nodes: Mapping[str, Mapping[str, Any]]
    order: Sequence[str]
    weights: Mapping[str, np.ndarray]
    inputs: Shapes
    outputs: Shapes
    placeholders: Mapping[str, str]
    results: Mapping[str, str]


def files_of(path: Path) -> list[Path]:
    """Return ``path`` (a ``model.json``) and the weight files that it names. Raises :class:`GraphError` when one is
    missing, lies in another folder, or is of another kind."""
    names = [str(name) for group in _listed(_json(path), "weightsManifest") for name in _listed(group, "paths")]
    for name in names:
        if Path(name).name != name:
            raise GraphError(f"{path.name} names weights in another folder: {name}")
        if not (path.parent / name).is_file():
            raise GraphError(f"there is no {name}")
    return [path, *(path.parent / name for name in names)]


def read_graph(path: Path) -> GraphFiles:
    """Raises :class:`GraphError` for files that are no graph, whose sizes don't fit, or with an operation that is not
    known here."""
    files_of(path)
    found = _json(path)
    try:
        nodes = {node["name"]: node for node in found["modelTopology"]["node"]}
        inputs, outputs = found["signature"]["inputs"], found["signature"]["outputs"]
        results = {name: _node(one["name"]) for name, one in outputs.items()}
        graph = GraphFiles(
            nodes=nodes,
            order=_sorted(nodes, list(results.values())),
            weights=_weights(path, _listed(found, "weightsManifest")),
            inputs={name: _shape(one) for name, one in inputs.items()},
            outputs={name: _shape(one) for name, one in outputs.items()},
            placeholders={_node(one["name"]): name for name, one in inputs.items()},
            results=results,
        )
    except (KeyError, TypeError, AttributeError) as trouble:
        raise GraphError(f"{path.name} is not whole: {trouble} is missing or wrong") from None
    _check_operations(path, graph)
    return graph


def inputs_of(node: Mapping[str, Any]) -> list[str]:
    """Return the names of the nodes whose results a node takes."""
    return [_node(name) for name in node.get("input", ()) if not name.startswith("^")]


def _check_operations(path: Path, graph: GraphFiles) -> None:
    operations = {name: graph.nodes[name]["op"] for name in graph.order}
    if unknown := sorted({*operations.values()} - KNOWN - {"Const", "Placeholder"}):
        raise GraphError(f"{path.name} asks for {', '.join(unknown)}, which can't be computed here")
    for name, kind in operations.items():
        there = {"Const": graph.weights, "Placeholder": graph.placeholders}.get(kind)
        if there is not None and name not in there:
            raise GraphError(f"{path.name} has no values for {name}")


def _sorted(nodes: Mapping[str, Mapping[str, Any]], wanted: list[str]) -> list[str]:
    order: dict[str, None] = {}
    under_way: set[str] = set()
    while wanted:
        name = wanted[-1]
        missing = [one for one in inputs_of(nodes[name]) if one not in order]
        if name in order or not missing:
            order[wanted.pop()] = None
        elif name in under_way:
            raise GraphError(f"{name} needs its own result")
        else:
            under_way.add(name)
            wanted += missing
    return list(order)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise GraphError(f"there is no {path.name}")
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        raise GraphError(f"{path.name} is no JSON") from None
    if not isinstance(found, dict) or found.get("format") != "graph-model":
        raise GraphError(f"{path.name} is no TensorFlow.js graph model")
    return found


def _listed(holder: Any, name: str) -> Sequence[Any]:
    listed = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(listed, list):
        raise GraphError(f"its {name} are no list")
    return listed


def _weights(path: Path, groups: Sequence[Any]) -> dict[str, np.ndarray]:
    weights: dict[str, np.ndarray] = {}
    for group in groups:
        content = b"".join((path.parent / str(name)).read_bytes() for name in _listed(group, "paths"))
        described = _listed(group, "weights")
        for one in described:
            if one["dtype"] not in _TYPES or "quantization" in one:
                raise GraphError(f"its weight {one['name']} is not stored as float32 or int32")
        wanted = sum(4 * math.prod(one["shape"]) for one in described)
        if wanted != len(content):
            raise GraphError(f"its weights have {len(content):,} bytes, and {path.name} asks for {wanted:,}")
        start = 0
        for one in described:
            end = start + 4 * math.prod(one["shape"])
            weights[one["name"]] = np.frombuffer(content[start:end], _TYPES[one["dtype"]]).reshape(one["shape"])
            start = end
    return weights


def _shape(described: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(one["size"]) for one in described["tensorShape"]["dim"])


def _node(name: str) -> str:
    return name.split(":")[0]
