"""Videos of fixed held-out clips while the training goes on (`alignment.preview_every`), always from the same noise.

They are no result: nothing reads them but people. They lie under `previews/<key of the training>/` of the store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipa_core.config import CandidatesConfig, Config

if TYPE_CHECKING:
    import numpy as np

    from ipa_core.models.animation import AnimationModel
    from storage.folders import Folder

CLIPS: Final = 2
"""Number of held-out clips that are shown."""
_FILE: Final = re.compile(r"step-(?P<step>\d{6,})-(?P<clip>.+)\.mp4")


class Preview(Config):
    """A clip that is shown, encoded. clip_id: names its files. seed: as of the clip's first video in the evaluation."""

    clip_id: str
    conditioning: Path
    seed: int


def folder_of(key: str) -> str:
    """Return the name of the folder in the store."""
    return f"previews/{key}"


def file_of(step: int, clip_id: str) -> str:
    """Return the name of the file that shows a clip after so many steps."""
    return f"step-{step:06d}-{clip_id}.mp4"


def videos_of(key: str, folder: Folder) -> dict[str, dict[int, bytes]]:
    """Return the videos of a training in the store, mp4, by clip and number of steps."""
    found: dict[str, dict[int, bytes]] = {}
    for name in sorted(folder.names(f"{folder_of(key)}/")):
        named, data = _FILE.fullmatch(name.rpartition("/")[2]), folder.read(name)
        if named and data:
            found.setdefault(named["clip"], {})[int(named["step"])] = data
    return found


def drawn(
    model: AnimationModel, previews: tuple[Preview, ...], config: CandidatesConfig
) -> Iterator[tuple[Preview, np.ndarray]]:
    """Yield each clip with its video uint8 ``[T, H, W, 3]`` by the model as it is now. The training's random numbers
    stay as they are. Each of several processes must call this, because they may hold a part of the model each."""
    import torch

    from ipa_core.generation.candidates import generate
    from ipa_core.models.conditioning import Conditioning

    for preview in previews:
        conditioning = Conditioning.from_bytes(preview.conditioning.read_bytes())
        with torch.random.fork_rng(), torch.no_grad():
            yield preview, generate(model, conditioning, [preview.seed], config).videos[0]
