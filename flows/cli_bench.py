"""`ipa sweep`: experiments on how to train."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def sweep(
    config: Annotated[Path, typer.Argument(help="A sweep, such as configs/paper-ablation.yaml.", show_default=False)],
    output: Annotated[
        Path, typer.Option(help="Folder for results.html, results.md and results.json.", show_default=False)
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field in all arms.", show_default=False),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Train many arms through the same cached pipeline and compare them in one table."""
    from flows.components import Components
    from flows.store import open_store
    from flows.sweep import load_sweep, run_sweep, sweep_page
    from ipa_core.config import load_config

    found = load_sweep(config)
    store = open_store(load_config(Path(found.run), set_).execution)
    swept = run_sweep(found, store, Components(), set_ or [])
    page = sweep_page(found, swept, shlex.join(["ipa", *sys.argv[1:]]))
    output.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("results.html", page.html()),
        ("results.md", page.markdown()),
        ("results.json", swept.table.model_dump_json(indent=1)),
    ):
        (output / name).write_text(text)
    print(json.dumps(swept.table.model_dump()) if json_ else output / "results.md")
