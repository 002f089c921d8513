from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def person() -> np.ndarray:
    """A rendered person of 96 x 96 pixels, both hands raised."""
    path = Path(__file__).parents[1] / "data" / "person.png"
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
