from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_core.config import ConfigError, ExtractorConfig
from ipa_core.evaluation import FeatureExtractor
from ipa_core.evaluation.features import frechet_distance
from tests.evaluation.material import smooth_video


class MeanColour(torch.nn.Module):
    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return video.mean(dim=(2, 3, 4))


@pytest.fixture
def extractor_file(tmp_path: Path) -> Path:
    path = tmp_path / "mean colour.pt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        torch.jit.script(MeanColour()).save(str(path))
    return path


def config_of(path: Path) -> ExtractorConfig:
    return ExtractorConfig(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_features_of_a_torchscript_file(extractor_file: Path) -> None:
    video = smooth_video()
    pair = FeatureExtractor(config_of(extractor_file)).pair(video, np.full_like(video, 255))
    assert pair.truth == (1.0, 1.0, 1.0)
    assert pair.generated == pytest.approx(video.mean(axis=(0, 1, 2)) / 127.5 - 1, abs=1e-5)


def test_a_file_with_another_digest_is_not_opened(extractor_file: Path) -> None:
    config = config_of(extractor_file)
    extractor_file.write_bytes(b"something else")
    with pytest.raises(ConfigError, match="has the SHA-256"):
        FeatureExtractor(config)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no feature extractor"):
        FeatureExtractor(ExtractorConfig(path=str(tmp_path / "i3d.pt"), sha256="00"))


def test_distance_is_the_textbook_formula() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(40, 6)), rng.normal(0.5, 2.0, size=(30, 6)) @ rng.normal(size=(6, 6))
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(one @ other).real
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(one + other - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_distance_with_fewer_videos_than_features() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 50))
    assert frechet_distance(features, features + 1) == pytest.approx(50, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_distance_is_symmetric_and_zero_on_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(10, 4)), rng.normal(size=(12, 4))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), rel=1e-6)
