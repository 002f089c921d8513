"""Stand-ins for DWPose's two networks: tiny ONNX files with the published inputs and outputs."""

from pathlib import Path

import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core.pose.dwpose import DETECTOR, WHOLE_BODY

DETECTOR_SIDE = 64
HEIGHT, WIDTH = 64, 48
"""Of the whole-body network's input."""
BOX = 52
"""Side of the person's box in the detector's input; its centre is the picture's."""
PLACES = np.random.default_rng(0).uniform(0.1, 0.9, (kp.COUNT, 2))
"""Of the points in the whole-body network's input, as shares of its width and height."""


def write_models(folder: Path) -> None:
    """A detector that sees one person in every picture that is not dark, and a whole-body network that puts the 133
    points at fixed places of the person's box, surer in brighter pictures."""
    onnx = pytest.importorskip("onnx", reason="the tiny networks are written with onnx")
    from onnx import TensorProto, helper, numpy_helper

    def save(name: str, inputs: list[int], outputs: dict[str, list[int]], nodes: list, **constants: np.ndarray) -> None:
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, inputs)],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
            [numpy_helper.from_array(value.astype(np.float32), key) for key, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        onnx.checker.check_model(model)
        onnx.save(model, folder / name)

    brightness = helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=1)
    save(
        DETECTOR,
        [1, 3, DETECTOR_SIDE, DETECTOR_SIDE],
        {"found": [1, 1, 5]},
        [
            brightness,
            helper.make_node("Squeeze", ["mean"], ["one"]),
            helper.make_node("Mul", ["one", "score"], ["scored"]),
            helper.make_node("Add", ["scored", "box"], ["found"]),
        ],
        score=np.array([[[0, 0, 0, 0, 1 / 255]]]),
        box=np.array([[[*[(DETECTOR_SIDE - BOX) / 2] * 2, *[(DETECTOR_SIDE + BOX) / 2] * 2, 0]]]),
    )
    peaks = {
        axis: np.eye(2 * size)[(PLACES[:, index] * 2 * size).astype(int)][None]
        for index, (axis, size) in enumerate({"x": WIDTH, "y": HEIGHT}.items())
    }
    save(
        WHOLE_BODY,
        [1, 3, HEIGHT, WIDTH],
        {"simcc_x": [1, kp.COUNT, 2 * WIDTH], "simcc_y": [1, kp.COUNT, 2 * HEIGHT]},
        [
            brightness,
            helper.make_node("Squeeze", ["mean"], ["one"]),
            helper.make_node("Sigmoid", ["one"], ["sure"]),
            helper.make_node("Mul", ["sure", "x"], ["simcc_x"]),
            helper.make_node("Mul", ["sure", "y"], ["simcc_y"]),
        ],
        **peaks,
    )
