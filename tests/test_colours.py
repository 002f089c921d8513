"""The curves and the matrix of HDR against constants of a second implementation, colour-science 0.4.7."""

import numpy as np
import pytest

from ipa_core.colours import _TO_BT709, _light

WHITE = 203.0
"""cd/m2 of the light that counts as 1."""


def test_pq_is_the_light_of_st_2084() -> None:
    coded = np.array([0.1, 0.25, 0.5, 0.75, 1.0])
    right = [0.3245655914644875, 5.154176009833007, 92.24570899406527, 983.3778555870275, 10000.0]
    assert WHITE * _light(np.stack([coded] * 3, axis=-1), "pq")[:, 0] == pytest.approx(right, rel=1e-9)


def test_hlg_is_the_light_of_a_screen_of_1000_candela() -> None:
    coded = np.array([[0.2, 0.2, 0.2], [0.75, 0.75, 0.75], [1, 1, 1], [0.8, 0.3, 0.1], [0.1, 0.6, 0.9]])
    right = [
        [5.622461417903335, 5.622461417903335, 5.622461417903335],
        [203.1521459375454, 203.1521459375454, 203.1521459375454],
        [1000.0000323217691, 1000.0000323217691, 1000.0000323217691],
        [220.67908501111395, 19.313547866146767, 2.1459497629051967],
        [2.18909502471169, 84.05878279751947, 382.1093326694589],
    ]
    assert WHITE * _light(coded, "hlg") == pytest.approx(np.array(right), rel=1e-7)


def test_primaries_of_bt2020_become_those_of_bt709() -> None:
    right = [
        [1.660491, -0.58764114, -0.07284986],
        [-0.12455047, 1.1328999, -0.00834942],
        [-0.01815076, -0.1005789, 1.11872966],
    ]
    assert pytest.approx(np.array(right), abs=1e-6) == _TO_BT709
