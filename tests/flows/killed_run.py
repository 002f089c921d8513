"""A run over a fake folder that kills itself (SIGKILL) in the middle of a stage: python -m tests.flows.killed_run."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from flows.engine.progress import Progress
from flows.engine.run import Run
from flows.stages import STAGES
from tests.fakes import FAKES, fake_config
from tests.flows.conftest import HereCrew


class Killing(Progress):
    """Ends the process at the second sign of progress within one item of ``stage``."""

    def __init__(self, stage: str) -> None:
        super().__init__(quiet=True)
        self._victim = stage
        self._signs = 0

    def part(self, key: str, share: float) -> None:
        self._signs += self._stage.stage == self._victim
        if self._signs == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, stage: str) -> None:
    config = fake_config(Path(folder))
    with Run(config, STAGES, FAKES, crew=HereCrew) as run:
        run._progress = Killing(stage)
        run.walk()


if __name__ == "__main__":
    main(*sys.argv[1:])
