"""A killed run, continued by the same command, ends with the bytes of an uninterrupted one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.stages import STAGE_NAMES
from flows.stages.finetune import LORA
from tests.fakes import fake_config, write_videos
from tests.flows.conftest import VIDEOS, Done, run_fake

ROOT = Path(__file__).parents[2]


def outputs(done: Done) -> dict[str, str]:
    shards = done.one("shards")
    files = {name: output.digest for name, output in shards[1].outputs.items()}
    return files | {"lora": done.output("finetune", LORA)}


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
