"""FVD and FID-VID: Frechet distance between features of generated and of true videos, by a plug-in extractor.

Both are the same computation on features of different networks, an I3D for FVD and a 3D ResNet for FID-VID, both
trained on Kinetics. We may not ship their weights, so nothing is computed until a config names a file. Sources:
Unterthiner et al., "FVD: A new metric for video generation" (2019); Heusel et al., "GANs Trained by a Two Time-Scale
Update Rule" (2017).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ipa_core.config import ConfigError, ExtractorConfig
from ipa_core.records import Record

NO_EXTRACTOR = "not computed: no extractor configured"


class FeaturePair(Record):
    """Features of a generated video and of the true one, each ``[D]``."""

    generated: tuple[float, ...]
    truth: tuple[float, ...]


class FrechetComparison(Record):
    """Distance of each model's videos from the true ones, >= 0, lower is better. If ``None``, ``reason`` says why."""

    base: float | None
    aligned: float | None
    videos: int
    """Number per model. The estimate is biased upwards for few videos: compare only equal numbers."""
    reason: str | None


def extractor_bytes(config: ExtractorConfig) -> bytes:
    """Read the file. Raises :class:`~ipa_core.config.ConfigError` when it is missing or has another digest."""
    path = Path(config.path)
    if not path.is_file():
        raise ConfigError(f"there is no feature extractor {path}")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != config.sha256.lower():
        raise ConfigError(f"the feature extractor {path} has the SHA-256 {digest}, the config says {config.sha256}")
    return content


class FeatureExtractor:
    """A TorchScript file: float32 ``[1, 3, T, H, W]`` in [-1, 1] -> ``[1, D]``; it resizes its input.

    Loading TorchScript executes code from the file. The config's SHA-256 guards: a file with another digest is not
    loaded. Raises :class:`~ipa_core.config.ConfigError` when the file is missing or has another digest.
    """

    def __init__(self, config: ExtractorConfig) -> None:
        content = extractor_bytes(config)
        import torch

        with warnings.catch_warnings():
            # torch deprecates TorchScript, but the field's I3D networks are published in nothing else.
            warnings.filterwarnings("ignore", "`torch.jit.load`", DeprecationWarning)
            # Load the digested bytes: the file may have changed meanwhile.
            self._network = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()

    def pair(self, generated: np.ndarray, truth: np.ndarray) -> FeaturePair:
        """Return the features of two videos, uint8 RGB ``[T, H, W, 3]``."""
        return FeaturePair(generated=self._features(generated), truth=self._features(truth))

    def _features(self, video: np.ndarray) -> tuple[float, ...]:
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(video)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        with torch.inference_mode():
            features = self._network(pixels)
        if features.ndim != 2 or len(features) != 1:
            raise ValueError(f"the feature extractor must return [1, D] for one video, got {tuple(features.shape)}")
        return tuple(features[0].double().tolist())


def compare_frechet(pairs: Sequence[tuple[FeaturePair | None, FeaturePair | None]]) -> FrechetComparison:
    """Compare ``pairs`` of (base, aligned) features, one per clip and seed; the true videos are in both."""
    extracted = [(base, aligned) for base, aligned in pairs if base is not None and aligned is not None]
    if not extracted:
        return FrechetComparison(base=None, aligned=None, videos=0, reason=NO_EXTRACTOR)
    if len(extracted) < 2:
        return FrechetComparison(base=None, aligned=None, videos=1, reason="not computed: it needs two videos")
    truth = np.array([base.truth for base, _ in extracted])
    base_features = np.array([base.generated for base, _ in extracted])
    aligned_features = np.array([aligned.generated for _, aligned in extracted])
    return FrechetComparison(
        base=round(frechet_distance(base_features, truth), 6),
        aligned=round(frechet_distance(aligned_features, truth), 6),
        videos=len(extracted),
        reason=None,
    )


def distance_from_truth(pairs: Sequence[FeaturePair]) -> float | None:
    """Return the distance of one model's generated videos from the true ones; ``None`` for fewer than two."""
    if len(pairs) < 2:
        return None
    generated, truth = (np.array([getattr(pair, side) for pair in pairs]) for side in ("generated", "truth"))
    return round(frechet_distance(generated, truth), 6)


def frechet_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the squared Frechet distance of the Gaussians fitted to two sets of features ``[N, D]``, N >= 2; >= 0.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``. The trace of the root is the sum of the roots of the eigenvalues of
    ``C1^(1/2) C2 C1^(1/2)``. That matrix is symmetric, so no general matrix root is needed.
    """
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ covariances[1] @ root)
    apart = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    spread = np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.sqrt(shared.clip(min=0)).sum()
    return max(0.0, float(apart + spread))
