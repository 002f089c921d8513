"""A killed run, continued by the same command, ends with the samples and the LoRA of an uninterrupted one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.stage import STAGE_NAMES
from flows.stages.finetune import LORA
from flows.stages.shards import samples_of
from tests.fakes import fake_config, write_videos
from tests.flows.conftest import VIDEOS, Done, run_fake

ROOT = Path(__file__).parents[2]


def outputs(done: Done) -> dict[str, object]:
    """What was chosen and trained on, and the LoRA's bytes. Not the shards': they hold the candidates as mp4, which the
    encoder was seen to write otherwise once in a hundred runs, with the same latents."""
    shards = done.results.one("shards")
    assert shards is not None
    samples = [(sample.key, sample.latents, sample.conditioning) for sample in samples_of(shards[0], done.store)]
    return {"samples": samples, "lora": done.output("finetune", LORA)}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["candidates", "shards", "finetune"])
def test_a_killed_run_goes_on_where_it_was(finished: Path, tmp_path: Path, stage: str) -> None:
    write_videos(tmp_path / "videos", VIDEOS)
    command = [sys.executable, "-m", "tests.flows.killed_run", str(tmp_path), stage]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL

    done = run_fake(fake_config(tmp_path))

    before = STAGE_NAMES[: STAGE_NAMES.index(stage)]  # type: ignore[arg-type]
    assert [name for name in before if name in done.computed()] == []
    assert outputs(done) == outputs(run_fake(fake_config(finished)))
