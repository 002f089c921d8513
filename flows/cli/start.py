"""`ipa init` and `ipa schema`: a config for own footage, and what a config may hold."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from flows.cli.options import CONFIGS, writing
from flows.cli.talk import say
from ipa_core.config import ConfigError, RunConfig

TEMPLATE: Final = CONFIGS / "wan-vace-1.3b.yaml"
SCHEMA: Final = "ipa.schema.json"
_HEAD: Final = """\
# yaml-language-server: $schema={schema}
# Wan 2.1 VACE 1.3B on your own footage: one GPU with 24 GB. Three steps: the weights (about 19 GB), the costs of a
# run without computing anything, and the run. The same command continues a run that was stopped.
#   hf download Wan-AI/Wan2.1-VACE-1.3B-diffusers
#   ipa plan {config}
#   ipa run {config}
# Fields that are not here have a default. {schema} explains all fields; many editors read it.
"""


def init(
    where: Annotated[
        Path, typer.Argument(metavar="[FOLDER|FILE]", help="The .yaml file, or the folder for ipa.yaml.")
    ] = Path(),
) -> None:
    """Write a config for own footage, each line explained, and its schema for editors. Replaces no file."""
    is_folder = where.is_dir() or not where.suffix
    if not is_folder and where.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{where} is no folder and does not end in .yaml: name a folder, or a file such as ipa.yaml")
    path = where / "ipa.yaml" if is_folder else where
    if path.exists():
        raise ConfigError(f"{path} is there already: name another file, such as `ipa init {_other(path)}`")
    with writing("the config", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(own_config(path))
        schema = path.with_name(SCHEMA)
        if not schema.exists():
            schema.write_text(_text(config_schema()))
    print(path)
    say(f"next: read it, then `ipa plan {_word(path)}`")


def schema() -> None:
    """Print the JSON schema of a run config: all fields with types, defaults and what they mean."""
    print(_text(config_schema()), end="")


def own_config(path: Path) -> str:
    """Return the text of a config at ``path`` for the videos in the file's folder, or in its folder `videos`."""
    from ipa_core.clips.sources import find_videos

    folder = path.resolve().parent
    try:
        beside = not (folder / "videos").is_dir() and bool(find_videos([str(folder)]))
    except ConfigError:  # There is no video yet.
        beside = False
    name = folder.name if path.name == "ipa.yaml" else path.stem
    _, _, body = TEMPLATE.read_text().partition("\nname: wan-vace-1.3b ")
    body = body.replace("sources: [videos]", f"sources: [{'.' if beside else 'videos'}]", 1)
    return _HEAD.format(schema=SCHEMA, config=_word(path)) + f"name: {json.dumps(name or 'own')} {body}"


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of a run config as a YAML file may hold it, with one value for a list of one."""
    found = RunConfig.model_json_schema()
    for part in (found, *found["$defs"].values()):
        for name, field in part.get("properties", {}).items():
            if "$ref" in field:
                field.pop("default", None)  # Its fields say their own.
            if field.get("type") == "array":
                about = {word: field.pop(word) for word in ("title", "description", "default") if word in field}
                part["properties"][name] = about | {"anyOf": [field, field["items"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found


def _text(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=1) + "\n"


def _word(path: Path) -> str:
    return shlex.quote(str(path))


def _other(path: Path) -> str:
    return _word(path.with_name(f"{path.stem}-2.yaml"))
