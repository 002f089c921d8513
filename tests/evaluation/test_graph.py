"""The operations of a TensorFlow.js graph against numpy, and files that are not whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ipa_core.evaluation.graph import OPERATIONS, Graph
from ipa_core.evaluation.graph_files import KNOWN, GraphError, files_of, read_graph
from tests.evaluation.tiny_judge import convolving, node, whole_numbers, write_graph, write_judge

RNG = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def computed(folder: Path, one: dict[str, Any], seen: np.ndarray, **weights: np.ndarray) -> np.ndarray:
    """The result of a graph of one node, called `found`, on the input `seen`."""
    path = write_graph(folder, [one], weights, {"seen": seen.shape}, {"found": ("found", ())})
    return Graph(read_graph(path))(seen=torch.from_numpy(seen))["found"].numpy()


def convolved(seen: np.ndarray, kernel: np.ndarray, stride: int, padding: str, depthwise: bool) -> np.ndarray:
    """The definition, pixel by pixel (TensorFlow's guide to convolutions: SAME has ceil(size / stride) results, and of
    an odd number of added pixels the last one stands at the end)."""
    high, wide = kernel.shape[:2]
    sizes = [math.ceil(size / stride) for size in seen.shape[1:3]]
    if padding == "VALID":
        sizes = [(size - reach) // stride + 1 for size, reach in zip(seen.shape[1:3], (high, wide), strict=True)]
    missing = [
        max(0, (size - 1) * stride + reach - whole)
        for size, reach, whole in zip(sizes, (high, wide), seen.shape[1:3], strict=True)
    ]
    padded = np.pad(seen, ((0, 0), *((one // 2, one - one // 2) for one in missing), (0, 0)))
    rows = []
    for row in range(sizes[0]):
        for column in range(sizes[1]):
            part = padded[:, row * stride : row * stride + high, column * stride : column * stride + wide]
            form = "nhwc,hwcm->ncm" if depthwise else "nhwc,hwco->no"
            rows.append(np.einsum(form, part, kernel).reshape(len(seen), -1))
    return np.stack(rows, axis=1).reshape(len(seen), *sizes, -1)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 7), (8, 5)])
def test_a_convolution(tmp_path: Path, size: tuple[int, int], stride: int, padding: str) -> None:
    seen, kernel, bias = numbers(2, *size, 3), numbers(3, 3, 3, 4), numbers(4)
    one = node("found", "_FusedConv2D", ["seen", "kernel", "bias"], **convolving(stride, padding))
    found = computed(tmp_path, one, seen, kernel=kernel, bias=bias)
    np.testing.assert_allclose(found, convolved(seen, kernel, stride, padding, False) + bias, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_convolution(tmp_path: Path, stride: int) -> None:
    seen, kernel, bias = numbers(2, 6, 7, 3), numbers(3, 3, 3, 2), numbers(6)
    one = node("found", "FusedDepthwiseConv2dNative", ["seen", "kernel", "bias"], **convolving(stride, "SAME", "Relu6"))
    found = computed(tmp_path, one, seen, kernel=kernel, bias=bias)
    expected = convolved(seen, kernel, stride, "SAME", True) + bias
    np.testing.assert_allclose(found, expected.clip(0, 6), atol=1e-5)


ARITHMETIC: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], np.ndarray, dict[str, Any]]] = {
    "AddV2": (np.add, numbers(3), {}),
    "Mul": (np.multiply, numbers(3), {}),
    "Sum": (lambda seen, axes: seen.sum(axis=tuple(axes)), whole_numbers(1, 2), {"keep_dims": {"b": False}}),
    "Transpose": (np.transpose, whole_numbers(0, 3, 1, 2), {}),
    "Reshape": (np.reshape, whole_numbers(2, -1), {}),
}


@pytest.mark.parametrize("operation", ARITHMETIC)
def test_an_operation_with_a_constant(tmp_path: Path, operation: str) -> None:
    expected, constant, attributes = ARITHMETIC[operation]
    seen = numbers(2, 4, 5, 3)
    found = computed(tmp_path, node("found", operation, ["seen", "constant"], **attributes), seen, constant=constant)
    np.testing.assert_allclose(found, expected(seen, constant), atol=1e-5)


def test_softmax(tmp_path: Path) -> None:
    seen = numbers(2, 4, 5)
    powers = np.exp(seen)
    found = computed(tmp_path, node("found", "Softmax", ["seen"]), seen)
    np.testing.assert_allclose(found, powers / powers.sum(axis=-1, keepdims=True), atol=1e-6)


def test_concatenation(tmp_path: Path) -> None:
    seen, other = numbers(2, 3), numbers(2, 1)
    one = node("found", "ConcatV2", ["seen", "other", "axis"])
    found = computed(tmp_path, one, seen, other=other, axis=np.array(1, np.int32))
    np.testing.assert_array_equal(found, np.concatenate([seen, other], axis=1))


def test_a_graph_takes_any_number_of_pictures(tmp_path: Path) -> None:
    """Through the shape that it computes itself."""
    graph = Graph(read_graph(write_judge(tmp_path) / "model.json"))
    assert graph(image=torch.zeros(3, 224, 224, 3))["coordinates"].shape == (3, 21, 2)


def test_all_operations_that_files_may_ask_for_are_computed() -> None:
    assert OPERATIONS.keys() == KNOWN


def said(path: Path) -> str:
    with pytest.raises(GraphError) as wrong:
        read_graph(path)
    return str(wrong.value)


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = write_judge(folder) / "model.json"
    graph = json.loads(path.read_text())
    change(graph)
    path.write_text(json.dumps(graph))
    return path


def test_its_files_are_the_graph_and_the_weights_that_it_names(tmp_path: Path) -> None:
    path = write_judge(tmp_path) / "model.json"
    assert [file.name for file in files_of(path)] == ["model.json", "one.bin", "two.bin"]


def test_no_graph(tmp_path: Path) -> None:
    assert said(tmp_path / "model.json") == "there is no model.json"


def test_no_json(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(b"\x80")
    assert said(tmp_path / "model.json") == "model.json is no JSON"


def test_layers_model(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda graph: graph.update(format="layers-model"))
    assert said(path) == "model.json is no TensorFlow.js graph model"


def test_missing_weights(tmp_path: Path) -> None:
    path = write_judge(tmp_path) / "model.json"
    (tmp_path / "two.bin").unlink()
    assert said(path) == "there is no two.bin"


def test_weights_in_another_folder(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda graph: graph["weightsManifest"][0].update(paths=["../secret"]))
    assert said(path) == "model.json names weights in another folder: ../secret"


def test_weights_that_are_cut_off(tmp_path: Path) -> None:
    path = write_judge(tmp_path) / "model.json"
    whole = (tmp_path / "two.bin").read_bytes()
    (tmp_path / "two.bin").write_bytes(whole[:-4])
    size = 7 + len(whole)
    assert said(path) == f"its weights have {size - 4:,} bytes, and model.json asks for {size:,}"


def test_weights_of_another_type(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda graph: graph["weightsManifest"][0]["weights"][2].update(quantization={}))
    assert said(path) == "its weight points is not stored as float32 or int32"


def test_an_operation_that_is_not_known(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda graph: graph["modelTopology"]["node"][-1].update(op="NonMaxSuppressionV5"))
    assert said(path) == "model.json asks for NonMaxSuppressionV5, which can't be computed here"


def test_a_node_that_is_missing(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda graph: graph["modelTopology"]["node"].pop(-2))
    assert said(path) == "model.json is not whole: 'logits' is missing or wrong"


def test_a_circle(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda graph: graph["modelTopology"]["node"][-2].update(input=["probabilities"]))
    assert said(path) == "probabilities needs its own result"


def test_a_constant_without_values(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda graph: graph["modelTopology"]["node"].append(node("share", "Const")))
    graph = json.loads(path.read_text())
    graph["weightsManifest"][0]["weights"][0]["name"] = "another"
    path.write_text(json.dumps(graph))
    assert said(path) == "model.json has no values for share"
