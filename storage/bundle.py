"""A bundle: many small files of a folder behind a URL as one, so that thousands of them cost a few requests.

It is an index that may be lost: a file of it counts only if the folder's listing says the same version, and a damaged
bundle is written again.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

Files = Mapping[str, tuple[str, bytes]]
"""Version and bytes by name."""


def place(prefix: str) -> str:
    """The name of the bundle of a folder."""
    return f"bundles/{prefix}.zip"


def packed(files: Files) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (version, data) in sorted(files.items()):
            about = zipfile.ZipInfo(name)
            about.comment = version.encode()
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, data)
    return sink.getvalue()


def unpacked(data: bytes) -> Files | None:
    """The files that :func:`packed` wrote; None for a damaged bundle."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {about.filename: (about.comment.decode(), archive.read(about)) for about in archive.infolist()}
    # What zipfile raises for a damaged archive, by the place of the damage.
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, RuntimeError):
        return None
