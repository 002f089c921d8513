"""Find the weights of an animation model on this machine. Loads no torch."""

from __future__ import annotations

import json
from pathlib import Path

from ipa_core.config import ConfigError, ModelConfig
from ipa_core.config_file import is_hub_id
from ipa_core.models.kinds import INDEX, download_size, kind_of


class MissingModel(ConfigError):  # noqa: N818 - the name is clear without Error
    """Weights are missing on this machine. The message says where to get them."""


def resolve_model(config: ModelConfig) -> Path:
    """Find the diffusers pipeline folder of ``config``: a local folder, or a hub model from the local cache.

    It reads index files and file names, and never uses the internet. Raises :class:`MissingModel` for missing files,
    :class:`~ipa_core.models.UnknownModel` when the model can't be used even if it is complete.
    """
    local = Path(config.path)
    is_local = local.is_dir()
    folder = local if is_local else _cached_snapshot(config)
    remedy = "; candidates.model.path names a whole folder" if is_local else f"; {_how_to_get(config)}"
    if not (folder / INDEX).is_file():
        raise MissingModel(f"{folder} is no diffusers pipeline folder: it has no {INDEX}{remedy}")
    kind_of(folder)
    missing = _missing_files(folder)
    if missing:
        raise MissingModel(f"the model folder {folder} is not complete: {', '.join(missing)} is missing{remedy}")
    return folder


def _cached_snapshot(config: ModelConfig) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if not is_hub_id(config.path, Path.cwd()):
        about = "is a file" if Path(config.path).is_file() else "is not there"
        raise MissingModel(
            f"the model folder '{config.path}' {about}; set candidates.model.path to a folder with {INDEX}, or to a "
            "hub id such as Wan-AI/Wan2.1-VACE-1.3B-diffusers"
        )
    try:
        return Path(snapshot_download(config.path, revision=config.revision, local_files_only=True))
    except HFValidationError as error:
        raise MissingModel(f"candidates.model.path: {config.path} is no hub id: {error}") from None
    except LocalEntryNotFoundError:
        raise MissingModel(f"the model {config.path} is not on this machine: {_how_to_get(config)}") from None


def _how_to_get(config: ModelConfig) -> str:
    revision = f" --revision {config.revision}" if config.revision else ""
    size = download_size(config.path)
    about = f" ({size})" if size else ""
    return f"get it with `hf download {config.path}{revision}`{about}, or set candidates.model.path to a folder with it"


def _missing_files(folder: Path) -> list[str]:
    """Return the files that the index and the parts' shard lists name and that are missing, relative to ``folder``."""
    index = json.loads((folder / INDEX).read_text())
    parts = [folder / name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
    missing = [part for part in parts if not part.is_dir()]
    for part in parts:
        shard_lists = list(part.glob("*.index.json"))
        for shard_list in shard_lists:
            shards = sorted(set(json.loads(shard_list.read_text())["weight_map"].values()))
            missing += [part / shard for shard in shards if not (part / shard).is_file()]
        is_network = (part / "config.json").is_file()
        if is_network and not shard_lists and not list(part.glob("*.safetensors")):
            missing.append(part / "*.safetensors")
    return [path.relative_to(folder).as_posix() for path in missing]
