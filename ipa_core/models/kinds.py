"""The kinds of animation models, and the kind of a folder or a config. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from ipa_core.config import RunConfig
from ipa_core.models.animation import ModelKind, Network, UnknownModel
from ipa_core.models.folder import INDEX, read_json
from ipa_core.models.wan_animate import WAN_ANIMATE
from ipa_core.models.wan_vace import WAN_VACE

KINDS: tuple[ModelKind, ...] = (WAN_VACE, WAN_ANIMATE)
"""The only list of kinds: a further model is a folder beside ``wan_vace`` and an entry here."""


def kind_of(folder: Path) -> ModelKind:
    """Find a pipeline folder's kind by its ``_class_name``. Raises :class:`UnknownModel` when no kind can run it."""
    index = read_json(folder / INDEX)
    name = index.get("_class_name")
    for kind in KINDS:
        if kind.pipeline == name:
            kind.check_index(index, folder)
            return kind
    known = ", ".join(kind.pipeline for kind in KINDS)
    raise UnknownModel(
        f"no model here can load the pipeline class {name}, which {folder / INDEX} names; set candidates.model.path to "
        f"a model of a known class ({known})"
    )


def known_network(config: RunConfig) -> tuple[ModelKind, Network] | None:
    """Find kind and network of ``candidates.model.path``, also without weights; None when the size is not known."""
    for kind in KINDS:
        network = kind.network(config.candidates.model.path)
        if network is not None:
            return kind, network
    return None


def download_size(path: str) -> str | None:
    """Return the download size of a hub model as text for people; None when the size is not known."""
    return next((kind.downloads[path] for kind in KINDS if path in kind.downloads), None)
