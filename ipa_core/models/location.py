"""Find the weights of an animation model on this machine. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ipa_core.config import ConfigError, ModelConfig
from ipa_core.config_file import is_hub_id
from ipa_core.models.folder import INDEX, is_whole, parts_of, read_json, shards_of
from ipa_core.models.kinds import download_size, kind_of

_SETTINGS: Final = {"scheduler": "scheduler_config.json", "tokenizer": "*.json", "image_processor": "*.json"}
"""The small file without which a part can't be built, where that is not `config.json`."""


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
        raise MissingModel(f"the model folder {folder} is not complete: {', '.join(missing)}{remedy}")
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
    """Return a phrase for each file that the index and the parts' shard lists name and that is missing, and for each
    file of weights that ends too early: its download broke off."""
    parts = [folder / name for name in parts_of(read_json(folder / INDEX))]
    missing, cut = [part for part in parts if not part.is_dir()], []
    for part in parts:
        settings = _SETTINGS.get(part.name, "config.json")
        if part.is_dir() and not any(part.glob(settings)):
            missing.append(part / settings)
        shard_lists = list(part.glob("*.index.json"))
        for shard_list in shard_lists:
            missing += [part / shard for shard in shards_of(shard_list) if not (part / shard).is_file()]
        is_network = (part / "config.json").is_file()
        weights = list(part.glob("*.safetensors"))
        if is_network and not shard_lists and not weights:
            missing.append(part / "*.safetensors")
        cut += [path for path in weights if not is_whole(path)]
    phrases = [(path, "is missing") for path in missing] + [(path, "ends too early") for path in cut]
    return [f"{path.relative_to(folder).as_posix()} {phrase}" for path, phrase in phrases]
