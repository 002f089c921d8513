"""A run over a fake folder without an orchestrator, up to the shards: python -m tests.flows.plain_run FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

from flows.engine.run import Run
from flows.engine.walk import Scope
from flows.stages import STAGES
from tests.fakes import FAKES, fake_config


def main(folder: str) -> None:
    with Run(fake_config(Path(folder)), STAGES, FAKES, Scope(last="shards")) as run:
        run.walk()
    run.check()


if __name__ == "__main__":
    main(sys.argv[1])
