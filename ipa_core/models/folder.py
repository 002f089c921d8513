"""The small files of a diffusers pipeline folder: index, configs, headers of the weights. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ipa_core.models.animation import UnknownModel

INDEX: Final = "model_index.json"
"""This file of every diffusers pipeline folder names the pipeline's class and the folders of its parts."""
EXPERTS: Final = ("transformer", "transformer_2")
"""The expert for high noise, which a model with one transformer has too, and the one for low noise."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises :class:`UnknownModel` when the file is none: mostly, its download broke off."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnknownModel(f"{path} is no whole JSON file ({error}); download the model again") from None
    except OSError as error:
        raise UnknownModel(f"{path} can't be read: {error.strerror}") from None
    if not isinstance(found, dict):
        raise UnknownModel(f"{path} holds no JSON object; download the model again")
    return found


def parts_of(index: Mapping[str, Any]) -> list[str]:
    """Return the names of the parts that an index names. Optional parts may be left out as ``[null, null]``."""
    return [name for name, value in index.items() if isinstance(value, list) and value and value[0] is not None]


def shards_of(shard_list: Path) -> list[str]:
    """Return the names of the weights' files in a shard list. Raises :class:`UnknownModel` for another file."""
    files = read_json(shard_list).get("weight_map")
    if not isinstance(files, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in files.values()
    ):
        raise UnknownModel(f"{shard_list} is no list of weights; download the model again")
    return sorted(set(files.values()))


def check_transformer(folder: Path, part: str, wanted: str) -> dict[str, Any]:
    """Return the config of a transformer, or {} while it is missing. Raises :class:`UnknownModel` for another class."""
    path = folder / part / "config.json"
    if not path.exists():
        return {}
    config = read_json(path)
    if config.get("_class_name") != wanted:
        raise UnknownModel(
            f"{path} is of the class {config.get('_class_name')}, and the pipeline needs {wanted}: the folder mixes "
            "two models; download the model again"
        )
    return config


def is_whole(weights: Path) -> bool:
    """Return whether a safetensors file has all the bytes that its header tells of. It reads the header only."""
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > weights.stat().st_size:
                return False
            header = json.loads(file.read(length))
        end = max((about["data_offsets"][1] for name, about in header.items() if name != "__metadata__"), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return weights.stat().st_size == 8 + length + int(end)
