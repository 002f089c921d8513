"""Finds the videos of a run. They may lie behind fsspec URLs such as ``s3://``."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ipa_core.config import ConfigError
from ipa_core.records import Rejected
from ipa_core.scratch import scratch_folder
from ipa_core.video import ORDINARY, Look, look

VIDEO_SUFFIXES: Final = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mkv"}
    | {".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".tod", ".ts", ".vob"}
    | {".webm", ".wmv"}
)
_VERSIONS: Final = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created")


@dataclass(frozen=True)
class Video:
    """A driving video: a file, or the content of a URL."""

    address: str
    """Path or URL."""
    version: str | None = None
    """Size and ETag (or time) of a URL's content. None for files, and where the server has neither."""

    @property
    def name(self) -> str:
        return PurePosixPath(self.address).name

    @property
    def folder(self) -> str:
        """Name of the folder that holds it."""
        return PurePosixPath(self.address).parent.name


def is_url(address: str) -> bool:
    return "://" in address and not address.startswith("file://")


@dataclass(frozen=True)
class Found:
    """The content of a config's sources."""

    videos: tuple[Video, ...]
    """Sorted, each real file once."""
    left_out: Counter[str]
    """Number of the other files in folders and globs by suffix, hidden ones not counted."""


def search(sources: Sequence[str], table: str | None = None) -> Found:
    """Find the videos of ``sources``: files, folders (read recursively, also behind links), globs (``**`` for any
    depth), or their URLs. Folders and globs give only files with a video's suffix, and no hidden ones. A file that is
    named itself is always taken. The metadata table is no file that is left out. Raises :class:`ConfigError` for a
    source without a video."""
    found: dict[str, Video] = {}
    others: dict[str, str] = {}
    for source in sources:
        listed = _behind(source) if is_url(source) else _files(source.removeprefix("file://"))
        if not listed.videos:
            raise ConfigError(f"clips.sources: there is no video at '{source}'")
        for video in listed.videos:
            found.setdefault(video.address if is_url(video.address) else str(Path(video.address).resolve()), video)
        others |= listed.others
    read = {*found, *([] if table is None else [table if is_url(table) else str(Path(table).resolve())])}
    left_out = Counter(kind for address, kind in others.items() if address not in read)
    return Found(tuple(sorted(found.values(), key=lambda video: PurePosixPath(video.address))), left_out)


def find_videos(sources: Sequence[str]) -> list[Video]:
    """Return the videos that :func:`search` finds."""
    return list(search(sources).videos)


@dataclass(frozen=True)
class _Listed:
    videos: list[Video]
    others: dict[str, str]
    """Suffix of each other file by its address."""


def _files(source: str) -> _Listed:
    path = Path(source).expanduser()
    if path.is_file():
        return _Listed([Video(str(path))], {})
    # A path that exists is no glob, whatever its characters.
    tops = [path] if path.exists() else map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207
    below = [one for top in tops for one in ([top] if not top.is_dir() else _below(top))]
    seen = [one for one in below if not one.name.startswith(".")]
    videos = [one for one in seen if _has_a_videos_name(one) and one.is_file() and _is_text(one)]
    taken = set(videos)
    others = {str(one.resolve()): _kind(one) for one in seen if one not in taken}
    return _Listed([Video(str(one)) for one in videos], others)


def _is_text(path: Path) -> bool:
    """Return whether the name is UTF-8; records of runs can't hold another one."""
    return not any("\udc80" <= sign <= "\udcff" for sign in str(path))


def _kind(path: Path) -> str:
    if not _is_text(path):
        return "name that is not UTF-8"
    return path.suffix.lower() or "no suffix" if path.is_file() else "pipe or broken link"


def _below(top: Path) -> Iterator[Path]:
    """Yield what is no folder below a folder; all that lies behind links to folders comes last."""
    waiting, seen = [top], set()
    while waiting:
        start = waiting.pop(0)
        for folder, folders, names in os.walk(start):
            real = os.path.realpath(folder)
            if real in seen:  # A link may lead to a folder that it lies in.
                folders.clear()
                continue
            seen.add(real)
            waiting += [Path(folder, name) for name in sorted(folders) if Path(folder, name).is_symlink()]
            yield from (Path(folder, name) for name in names)


def _has_a_videos_name(path: Path | PurePosixPath) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _behind(url: str) -> _Listed:
    with reaching("clips.sources", url) as (filesystem, path):
        about = _info(filesystem, path)
        if about is not None and about["type"] == "file":
            return _Listed([_video(filesystem, about)], {})
        # A path that exists is no glob, whatever its characters.
        if about is None and glob.has_magic(path):
            found = _matching(filesystem, path)
        else:
            found = list(filesystem.find(path, detail=True).values())
    files = [(PurePosixPath(about["name"]), about) for about in found if about["type"] == "file"]
    videos = [_video(filesystem, about) for path, about in files if _has_a_videos_name(path)]
    others = [path for path, _ in files if not _has_a_videos_name(path) and not path.name.startswith(".")]
    return _Listed(videos, {str(path): path.suffix.lower() or "no suffix" for path in others})


def _matching(filesystem: Any, pattern: str) -> list[dict[str, Any]]:
    """Return the files whose own path, or a folder's above them, matches. It lists once and never calls fsspec's glob,
    which leaves out paths that it can't read."""
    from fsspec.utils import glob_translate

    place = re.split(r"[*?[]", pattern)[0].rpartition("/")[0]
    matches = re.compile(glob_translate(pattern)).match
    return [
        about
        for name, about in filesystem.find(place, detail=True).items()
        if matches(name) or any(matches(str(above)) for above in PurePosixPath(name).parents)
    ]


def _video(filesystem: Any, about: dict[str, Any]) -> Video:
    version = next((str(about[name]) for name in _VERSIONS if about.get(name)), None)
    return Video(filesystem.unstrip_protocol(about["name"]), version and f"{about['size']} {version}")


def _info(filesystem: Any, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = filesystem.info(path)
    except FileNotFoundError:
        return None
    return found


def version_of(url: str) -> str | None:
    """Return :attr:`Video.version` of the URL's content now. Raises :class:`ConfigError` when it can't be read."""
    with reaching("clips.sources", url) as (filesystem, path):
        return _video(filesystem, filesystem.info(path)).version


@contextmanager
def local_file(address: str) -> Iterator[Path]:
    """Yield the file itself, or a temporary copy of the URL's content. Raises :class:`ConfigError` if copying fails."""
    if not is_url(address):
        yield Path(address)
        return
    with scratch_folder() as folder:
        copy = folder / PurePosixPath(address).name
        with reaching("clips.sources", address) as (filesystem, path):
            filesystem.get_file(path, str(copy))
        yield copy


def look_at(address: str) -> Look:
    """Look at a video's header and first pictures; of a URL no more is read. A file that is no video is ordinary here:
    cutting it says what is wrong."""
    try:
        if not is_url(address):
            return look(Path(address))
        with reaching("clips.sources", address, Rejected) as (filesystem, path), filesystem.open(path, "rb") as file:
            return look(file)
    except Rejected:
        return ORDINARY


@contextmanager
def reaching(field: str, url: str, *passed: type[Exception]) -> Iterator[tuple[Any, str]]:
    """Yield file system and path of a URL. Any error inside but ``passed`` becomes a :class:`ConfigError` of one
    sentence."""
    try:
        import fsspec.core

        yield fsspec.core.url_to_fs(url, use_listings_cache=False)
    except passed:
        raise
    except Exception as error:  # Each protocol's library has its own errors, and few are an OSError.
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{field}: can't read {url}: {text}") from error
