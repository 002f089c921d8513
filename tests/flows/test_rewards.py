"""What `scores.reward` may name."""

from __future__ import annotations

import numpy as np
import pytest

from flows.engine.components import reward, score_files
from ipa_core.config import ConfigError, ScoresConfig
from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence
from ipa_core.scoring import ConfidenceReward
from tests.scoring.hands import FRAMES, KnownHands, moving_hands, pose_of, video_of


def generous(video: np.ndarray, driving_video: np.ndarray, driving: PoseSequence) -> dict[str, np.ndarray]:
    return {side: np.ones(len(video)) for side in HANDS}


def test_none_is_no_opinion() -> None:
    assert reward(ScoresConfig()) is None


def test_a_function_is_found_by_module_and_attribute() -> None:
    assert reward(ScoresConfig(reward=f"{__name__}:generous")) is generous


@pytest.mark.parametrize("name", ["no.such.module:judge", f"{__name__}:nobody", "not-installed"])
def test_what_can_not_be_loaded_is_a_config_error(name: str) -> None:
    with pytest.raises(ConfigError, match="can't be loaded"):
        reward(ScoresConfig(reward=name))


def test_what_is_no_function_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="is no function"):
        reward(ScoresConfig(reward="ipa_core.keypoints:COUNT"))


def test_another_backend_s_confidence_is_a_reward() -> None:
    hands = moving_hands()
    video = video_of(hands)
    found = ConfidenceReward(KnownHands(pose_of(hands, confidence=0.7)))(video, video, pose_of(hands))
    np.testing.assert_allclose(found["left"], np.full(FRAMES, 0.7), rtol=1e-6)


def test_missing_coefficients_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        score_files(ScoresConfig(model="/nowhere.json"))


def test_a_second_backend_without_its_models_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="reward_model"):
        score_files(ScoresConfig(reward="dwpose"))
