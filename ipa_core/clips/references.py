"""Pictures of other people, who are animated in place of the person in the driving video (`clips.references`)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import cv2
from blake3 import blake3

from ipa_core.clips.split import split_of
from ipa_core.config import ConfigError
from ipa_core.records import Digest, Split


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder, by name, and the names of its other files."""

    paths: Mapping[str, Path]
    others: tuple[str, ...]


def find_pictures(folder: str) -> Pictures:
    """Look at a folder's own files, not at folders below it. Raises ``ConfigError`` when it holds no picture."""
    place = Path(folder)
    if not place.is_dir():
        raise ConfigError(f"clips.references: there is no folder {folder}; name a folder of pictures, each of a person")
    files = [path for path in sorted(place.iterdir()) if path.is_file() and not path.name.startswith(".")]
    pictures = {one_form(path.name): path for path in files if _can_be_read(path)}
    others = tuple(path.name for path in files if one_form(path.name) not in pictures)
    if not pictures:
        found = f" ({', '.join(others[:3])} can't be read)" if others else ""
        raise ConfigError(f"clips.references: {folder} holds no PNG or JPEG{found}; put a picture of a person into it")
    return Pictures(pictures, others)


def _can_be_read(path: Path) -> bool:
    # Some signatures that OpenCV knows it can't decode (HEIC). An eighth of the size is quick for photographs.
    try:
        return cv2.haveImageReader(str(path)) and cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_8) is not None
    except cv2.error:  # Its header asks for more pixels than OpenCV takes.
        return False


def one_form(name: str) -> str:
    """Return a name whose letters with accents are one character: a Mac writes two into the names of files."""
    return unicodedata.normalize("NFC", name)


def check_named(name: str, pictures: Mapping[str, object], folder: str, table: str) -> None:
    """Raise ``ConfigError`` when a table names a picture that is not there."""
    if name not in pictures:
        near = get_close_matches(name, pictures, 1, 0.6)
        meant = f"did you mean '{near[0]}'?" if near else "name a file of that folder, without folders in front"
        raise ConfigError(f"clips.metadata: {table} has the reference '{name}', which is not in {folder}; {meant}")


def drawn(clip_id: str, split: Split, pictures: Mapping[str, Digest], held_out: float) -> str:
    """Return the name of a clip's picture, by the digests alone: a new picture changes few clips.

    A share ``held_out`` of the pictures is for held-out clips only, so that people who are judged on are in no
    training. All pictures serve all clips where one side would have none.
    """
    own = [name for name, digest in pictures.items() if split_of(digest, held_out) == split]
    sides = {split_of(digest, held_out) for digest in pictures.values()}
    chosen = own if len(sides) == 2 else pictures
    return min(chosen, key=lambda name: blake3(f"reference/{clip_id}/{pictures[name]}".encode()).digest())
