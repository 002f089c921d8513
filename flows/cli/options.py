"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

CONFIGS: Final = Path(__file__).resolve().parents[2] / "configs"
DEMO: Final = CONFIGS / "demo.yaml"

Config = Annotated[Path, typer.Argument(help="A run config, such as configs/demo.yaml.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Change a field of the config; VALUE is YAML.", show_default=False
    ),
]
