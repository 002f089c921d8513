"""The kinds of animation models, and which of them a folder or a config means. Loads no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from ipa_core.config import RunConfig
from ipa_core.models.animation import ModelKind, Network, UnknownModel
from ipa_core.models.wan_vace import WAN_VACE

KINDS: tuple[ModelKind, ...] = (WAN_VACE,)
"""The only list: a second model is a folder beside ``wan_vace`` and a line here."""
INDEX: Final = "model_index.json"
"""Every diffusers pipeline folder has it; it names the class of the pipeline and the folders of its parts."""


def kind_of(folder: Path) -> ModelKind:
    """The kind that a pipeline folder's ``_class_name`` says.

    Raises :class:`UnknownModel` for an unknown class, and for a model of a known one that its kind can't run.
    """
    index = json.loads((folder / INDEX).read_text())
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
    """Kind and network that ``candidates.model.path`` names, also without weights; None: the size is not known."""
    for kind in KINDS:
        network = kind.network(config.candidates.model.path)
        if network is not None:
            return kind, network
    return None


def download_size(path: str) -> str | None:
    """Of a hub model, to be read; None where it is not known."""
    return next((kind.downloads[path] for kind in KINDS if path in kind.downloads), None)
