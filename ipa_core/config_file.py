"""Reads a config from a YAML file, with changes of single fields (``--set``). Says in one sentence what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ipa_core.config import Config, ConfigError, RunConfig

Kind = TypeVar("Kind", bound=Config)
_SHOWN: Final = 60
"""Characters of a wrong value that a message shows."""


def read_config(path: Path, kind: type[Kind]) -> Kind:
    """Read a YAML file as a config. Raises :class:`ConfigError`, which names the wrong fields."""
    return _validated(path, _tree(path), kind)


def load_config(path: Path, overrides: Sequence[str] | None = None) -> RunConfig:
    """Read the YAML config of a run and apply ``a.b=VALUE`` overrides (VALUE is YAML). Relative paths in the file start
    from the file's folder, relative paths in overrides from the working directory. Raises :class:`ConfigError` when the
    result can't be used."""
    tree = _tree(path)
    _resolve_paths(tree, path.resolve().parent)
    for override in overrides or []:
        name, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set wants FIELD=VALUE, got '{override}'")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not YAML: {_yaml_trouble(error)}") from None
        changed: dict[str, Any] = {}
        _put(changed, name.split("."), value, override)
        _resolve_paths(changed, Path.cwd())
        tree = _merge(tree, changed)
    return _validated(path, tree, RunConfig)


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {path}; `ipa init` writes one") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; name a config, which is a YAML file; `ipa init` writes one") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} holds no text; name a config, which is a YAML file") from None
    except OSError as error:
        raise ConfigError(f"the config {path} can't be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {_yaml_trouble(error)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no config, which begins with fields such as `name:`; `ipa init` writes one")
    return tree


def _yaml_trouble(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    text = " ".join((getattr(error, "problem", None) or str(error)).split())
    return text if mark is None else f"{text} (line {mark.line + 1}, column {mark.column + 1})"


def _validated(path: Path, tree: Any, kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        missing, unknown = (_whole_fields(error, about) for about in ("missing", "extra_forbidden"))
        if missing and len(unknown) > 1:
            raise ConfigError(
                f"{path} is a config of another kind: {', '.join(missing)} must be there, {', '.join(unknown)} "
                "are unknown"
            ) from None
        lines = [
            _trouble(problem["type"], problem["loc"], problem["msg"], problem["input"], kind)
            for problem in error.errors()
        ]
        raise ConfigError(f"{path} can't be used: " + "; ".join(lines)) from None


def _whole_fields(error: ValidationError, about: str) -> list[str]:
    """Return the fields at the top of a config that have an error of this type."""
    return [str(one["loc"][0]) for one in error.errors() if one["type"] == about and len(one["loc"]) == 1]


def _trouble(about: str, location: tuple[int | str, ...], message: str, value: Any, kind: type[BaseModel]) -> str:
    name = ".".join(map(str, location))
    if about == "extra_forbidden":
        return f"{name}: unknown{_instead(location, kind)}"
    if about == "missing":
        return f"{name}: missing, and it has no default"
    if about == "model_type":
        message = "must be a section, with fields below it"
    message = message.removeprefix("Value error, ").replace("Input should be", "must be", 1)
    # An error between two stages has no location, and its input would be the whole file.
    if not location or isinstance(value, dict | list | BaseModel):
        return f"{name}: {message}" if name else message
    shown = repr(value)
    return f"{name}: {message} (got {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'})"


def _instead(location: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """Name the field that was probably meant: one with a similar name, or with the same name in another section."""
    *parents, name = [str(part) for part in location]
    node: type[BaseModel] | None = kind
    for parent in parents:
        node = _sections(node).get(parent) if node is not None else None
    similar = get_close_matches(name, node.model_fields, 1) if node is not None else []
    elsewhere = [f"{section}.{name}" for section, part in _sections(kind).items() if name in part.model_fields]
    meant = [".".join([*parents, *similar])] if similar else elsewhere
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def _sections(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the fields of a config that are configs themselves."""
    found = {}
    for name, field in kind.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found[name] = part
    return found


_PATHS = (
    ("clips", "sources"),
    ("clips", "metadata"),
    ("clips", "references"),
    ("poses", "model"),
    ("candidates", "model", "path"),
    ("candidates", "loras", "path"),
    ("scores", "model"),
    ("scores", "reward_model"),
    ("selection", "calibration"),
    ("evaluation", "fvd", "path"),
    ("evaluation", "fid_vid", "path"),
    ("evaluation", "sampler", "loras", "path"),
    ("evaluation", "judge"),
    ("execution", "store"),
)


def _resolve_paths(tree: dict[str, Any], base: Path) -> None:
    for *parents, last in _PATHS:
        for node in _below(tree, parents):
            value = node.get(last)
            if value is None or ("model" in parents and is_hub_id(value, base)):
                continue
            node[last] = [_from(base, item) for item in value] if isinstance(value, list) else _from(base, value)


def _below(tree: Any, parents: Sequence[str]) -> list[dict[str, Any]]:
    """Return the section of this name, or the sections of a list of them."""
    if isinstance(tree, list):
        return [found for part in tree for found in _below(part, parents)]
    if not isinstance(tree, dict):
        return []
    return _below(tree.get(parents[0]), parents[1:]) if parents else [tree]


def is_hub_id(value: Any, base: Path) -> bool:
    """Tell whether the value is ``owner/name`` of a model on the hub, and no path from ``base``: there is no folder
    ``owner``."""
    return (
        isinstance(value, str)
        and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value) is not None
        and not (base / value).parent.exists()
    )


def _from(base: Path, value: Any) -> Any:
    """Make a relative path absolute. A URL stays as it is."""
    if not isinstance(value, str) or "://" in value:
        return value
    return os.path.normpath(base / Path(value).expanduser())


def _put(tree: dict[str, Any], names: list[str], value: Any, override: str) -> None:
    *parents, last = names
    if not all(names):
        raise ConfigError(f"--set wants FIELD=VALUE with dots between names, got '{override}'")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[last] = value


def _merge(base: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changed.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merge(merged[name], value) if both else value
    return merged
