"""Components of real `ipa run` processes whose workers fail: `IPA_COMPONENTS=tests.flows.fault_components:NAME`."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import numpy as np

from ipa_core.config import PosesConfig
from ipa_core.records import PoseSequence
from tests.fakes import FAKES, FakeExtractor


class Slow(FakeExtractor):
    """A pose takes the seconds that `IPA_SLOW` says."""

    def extract(self, frames: np.ndarray) -> PoseSequence:
        time.sleep(float(os.environ.get("IPA_SLOW", "0.2")))
        return super().extract(frames)


class Deadly(FakeExtractor):
    """A video that is all black kills its process."""

    def extract(self, frames: np.ndarray) -> PoseSequence:
        if frames.mean() < 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(frames)


class Stopped(FakeExtractor):
    """A video that is all black stops its process, which then neither computes nor answers SIGTERM."""

    def extract(self, frames: np.ndarray) -> PoseSequence:
        if frames.mean() < 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().extract(frames)


def slow(config: PosesConfig) -> FakeExtractor:
    return Slow(config)


def deadly(config: PosesConfig) -> FakeExtractor:
    return Deadly(config)


def stopped(config: PosesConfig) -> FakeExtractor:
    return Stopped(config)


SLOW = replace(FAKES, pose_extractor=slow)  # type: ignore[arg-type]
DEADLY = replace(FAKES, pose_extractor=deadly)  # type: ignore[arg-type]
STOPPED = replace(FAKES, pose_extractor=stopped)  # type: ignore[arg-type]
