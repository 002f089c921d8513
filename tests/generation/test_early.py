"""Early rejection: what goes on is what a full generation would have made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ipa_core.config import CandidatesConfig, EarlyConfig, ModelConfig
from ipa_core.generation.candidates import generate
from ipa_core.generation.early import reasons
from ipa_core.generation.sampler import sample
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.generation.test_generation import CONDITIONING, SmallMemory

SEEDS = [1, 2, 3, 4, 5]


def config(scheduler: str = "euler", *levels: float, **changes: object) -> CandidatesConfig:
    settings: dict[str, object] = {"scheduler": scheduler, "steps": 6, "shift": 3.0, "guidance_scale": 1.0}
    if levels:
        settings["early"] = EarlyConfig(at=levels)
    return CandidatesConfig(model=ModelConfig(path="unused", dtype="float32"), **(settings | changes))


class Curved(SmallMemory):
    """Its velocity changes with the latents, so that a solver's memory matters. Each sample has its own sum."""

    def velocity(self, latents: Tensor, *about: object) -> Tensor:
        super().velocity(latents)
        return torch.sin(3 * latents)


class Keeps:
    """A sieve that lets these seeds go on, and remembers the levels at which it was asked."""

    def __init__(self, *kept: Sequence[int]) -> None:
        self.kept = list(kept)
        self.asked: list[tuple[float, list[int]]] = []

    def __call__(self, t: float, seeds: Sequence[int], clean: Tensor) -> Sequence[int]:
        assert clean.shape == (len(seeds), 2, 3, 4, 4)
        self.asked.append((round(t, 3), list(seeds)))
        return self.kept[len(self.asked) - 1]


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
@pytest.mark.parametrize("limit", [5, 2], ids=["one batch", "several batches"])
def test_the_kept_seeds_are_bit_equal_to_their_full_generation(scheduler: str, limit: int) -> None:
    sieve = Keeps([2, 4, 5], [2, 5])
    found = sample(Curved(limit), CONDITIONING, SEEDS, config(scheduler, 0.9, 0.6), sieve=sieve)
    assert torch.equal(found, sample(Curved(2), CONDITIONING, [2, 5], config(scheduler)))


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
def test_a_real_model_goes_on_as_if_nothing_was_asked(
    scheduler: str, model: WanVACEModel, conditioning: Conditioning
) -> None:
    whole = sample(model, conditioning, [7, 8], config(scheduler))
    asked = sample(model, conditioning, [7, 8], config(scheduler, 0.8), sieve=lambda t, seeds, clean: seeds)
    assert torch.equal(asked, whole)


def test_the_sieve_is_asked_at_the_first_step_at_or_below_each_level() -> None:
    timesteps = SmallMemory(1).scheduler(config())
    timesteps.set_timesteps(6, device=torch.device("cpu"))
    every = [round(float(t) / 1000, 3) for t in timesteps.timesteps]
    sieve = Keeps([2, 4], [4])
    sample(Curved(5), CONDITIONING, SEEDS, config("euler", 0.9, 0.6), sieve=sieve)
    expected = [next(t for t in every if t <= level) for level in (0.9, 0.6)]
    assert sieve.asked == [(expected[0], SEEDS), (expected[1], [2, 4])]


def test_a_level_below_all_steps_is_asked_at_the_last_one() -> None:
    sieve = Keeps([1])
    sample(Curved(5), CONDITIONING, SEEDS, config("unipc", 0.01, shift=16.0), sieve=sieve)
    assert [t for t, _ in sieve.asked] == [pytest.approx(0.76, abs=0.01)]


def test_a_preview_is_the_clean_sample_that_the_velocity_points_at() -> None:
    class Straight(SmallMemory):
        def velocity(self, latents: Tensor, t: Tensor, *_: object) -> Tensor:
            return ((latents - 5) / t[:, None, None, None, None]).float()

    seen = []

    def sieve(t: float, seeds: Sequence[int], clean: Tensor) -> Sequence[int]:
        seen.append(clean)
        return seeds

    sample(Straight(2), CONDITIONING, SEEDS, config("euler", 0.8), sieve=sieve)
    torch.testing.assert_close(seen, [torch.full((5, 2, 3, 4, 4), 5.0)])


def test_stopped_seeds_are_sampled_no_further() -> None:
    model = Curved(5)
    sample(model, CONDITIONING, SEEDS, config("euler", 0.8, steps=6, shift=1.0), sieve=Keeps([3]))
    assert model.batches == [5, 5, 5, 1, 1, 1]  # t = 1, .83, .67; the third step is asked about.


def test_progress_counts_stopped_seeds_as_finished() -> None:
    told: list[tuple[int, int]] = []
    sample(Curved(2), CONDITIONING, [1, 2], config("euler", 0.8, steps=2), lambda *at: told.append(at), Keeps([2]))
    assert told == [(2, 6), (4, 6), (5, 6)]  # Decoding the second seed is left.


def test_a_clip_that_is_given_up_has_no_videos(model: WanVACEModel, conditioning: Conditioning) -> None:
    early = EarlyConfig(at=(0.8,), least=0.5)
    made = generate(model, conditioning, [7, 8], config(early=early), judge=lambda video: 0.25)
    assert (made.seeds, len(made.latents), made.videos.shape[0]) == ((), 0, 0)
    why = "given up at t = 0.67: the best of 2 previews scores 0.250, candidates.early.least is 0.5"
    assert [(one.seed, one.stopped) for one in made.previews] == [(7, why), (8, why)]


def test_the_better_half_is_finished(model: WanVACEModel, conditioning: Conditioning) -> None:
    scores = iter([0.2, 0.6, 0.4])
    asked: list[np.ndarray] = []

    def judge(video: np.ndarray) -> float:
        asked.append(video)
        return next(scores)

    made = generate(model, conditioning, [7, 8, 9], config("euler", 0.8), judge=judge)
    assert made.seeds == (8, 9)
    assert [one.score for one in made.previews] == [0.2, 0.6, 0.4]
    assert asked[0].shape == made.videos[0].shape
    whole = sample(model, conditioning, [7, 8, 9], config())
    torch.testing.assert_close(made.latents, whole[1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("scores", "stopped"),
    [
        ([0.1, 0.4, 0.3, 0.2], [True, False, False, True]),
        ([0.1, 0.1, 0.1], [False, False, True]),
        ([None, 0.1, None, None], [False, False, True, True]),
    ],
    ids=["better half", "the first of equals", "unscorable last"],
)
def test_who_goes_on(scores: list[float | None], stopped: list[bool]) -> None:
    assert [bool(why) for why in reasons(0.8, scores, EarlyConfig(at=(0.8,)))] == stopped


def test_the_reason_has_the_score_and_the_place() -> None:
    assert reasons(0.8, [0.1, 0.4], EarlyConfig(at=(0.8,))) == [
        "stopped at t = 0.80: the preview scores 0.100, number 2 of 2, and 1 go on",
        None,
    ]


@pytest.mark.parametrize(
    ("levels", "keep", "finished", "steps"),
    [((0.75,), 0.5, 4, 3 * 8 + 5 * 4), ((0.75, 0.5), 0.5, 2, 3 * 8 + 2 * 4 + 3 * 2), ((0.75,), 0.3, 3, 3 * 8 + 5 * 3)],
    ids=["half", "halved twice", "rounded up"],
)
def test_the_share_of_steps_that_is_paid(levels: tuple[float, ...], keep: float, finished: int, steps: int) -> None:
    early = EarlyConfig(at=levels, keep=keep)
    settings = config(early=early, per_clip=8, steps=8, shift=1.0)  # t = 1, 7/8, 6/8, ...: three steps to .75
    assert (settings.finished_per_clip, settings.early_share) == (finished, steps / 64)


def test_guided_steps_weigh_twice_in_the_share() -> None:
    guided = {"guidance_scale": 3.0, "guidance_until": 0.75}
    settings = config(early=EarlyConfig(at=(0.5,)), per_clip=8, steps=8, shift=1.0, **guided)
    # Two of eight steps are guided, five lie at or above the level.
    assert settings.early_share == (7 * 8 + 3 * 4) / (10 * 8)


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
@pytest.mark.parametrize(("steps", "shift"), [(12, 3.0), (50, 16.0)])
def test_the_noise_levels_are_the_schedulers(scheduler: str, steps: int, shift: float) -> None:
    settings = config(scheduler, steps=steps, shift=shift)
    known = SmallMemory(1).scheduler(settings)
    known.set_timesteps(steps, device=torch.device("cpu"))
    assert settings.noise_levels == pytest.approx((known.timesteps / 1000).tolist(), abs=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early": {"at": [0.8]}, "per_clip": 8, "group": 4}, "leave out group"),
        ({"early": {"at": [0.8, 0.9]}}, "falling noise levels"),
        ({"early": {"at": []}}, "falling noise levels"),
    ],
)
def test_settings_that_can_not_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)
