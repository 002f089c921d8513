"""`ipa score preview`: what it can't do is said before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.experiments.score_preview import calibrate
from ipa_core.config import ConfigError
from tests.fakes import FAKES, fake_config, write_videos


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"shifts": [-1.0]}, r"^candidates\.shift: must be greater than 0 \(got -1\.0\)$"),
        ({"shifts": [float("nan")]}, r"^candidates\.shift: must be a finite number \(got nan\)$"),
        ({"few_steps": [0]}, r"^candidates\.steps: must be greater than 0 \(got 0\)$"),
        ({"few_steps": [2, 6]}, "^a first pass of 6 steps is no cheaper: candidates.steps is 6$"),
        ({"guidance_until": [2.0], "scale": 5.0}, r"^candidates\.guidance_until: must be less than or equal to 1 "),
        (
            {"guidance_until": [0.9]},
            "^candidates.guidance_scale is 1: there is no guidance that could be switched off$",
        ),
        ({"unguided": True}, "^candidates.guidance_scale is 1: there is no guidance that could be switched off$"),
        ({"steps": 1}, "^candidates.steps is 1: no step is left after a preview; take more$"),
    ],
)
def test_what_can_not_be_measured_is_said_before_any_work(asked: dict[str, object], said: str, tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 1)
    settings = {"candidates__steps": asked.pop("steps", 6), "candidates__guidance_scale": asked.pop("scale", 1.0)}

    with pytest.raises(ConfigError, match=said):
        calibrate(fake_config(tmp_path, **settings), FAKES, clips=1, per_clip=2, **asked)  # type: ignore[arg-type]
    assert not (tmp_path / "store" / "runs").exists()
