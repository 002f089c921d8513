"""Options that several commands have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from flows.engine.project import PROJECT
from ipa_core.config import ConfigError, RunConfig
from ipa_core.config_file import load_config

CONFIGS: Final = PROJECT / "configs"
DEMO: Final = CONFIGS / "demo.yaml"


def run_config(config: Path, videos: list[str] | None, overrides: list[str] | None) -> RunConfig:
    """Read a run config with changes. Raises ``ConfigError``."""
    sources = [f"clips.sources={json.dumps(videos)}"] if videos else []
    return load_config(config, [*(overrides or []), *sources])


@contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """Turn an error of the file system into one sentence. Raises ``ConfigError``."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{what} {path} can't be written: {error.strerror}; name another place") from None


Config = Annotated[Path, typer.Argument(help="A run config, such as configs/demo.yaml.", show_default=False)]
Videos = Annotated[
    list[str] | None,
    typer.Argument(help="Videos, folders or URLs instead of the config's clips.sources.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Change a field of the config; VALUE is YAML.", show_default=False
    ),
]
