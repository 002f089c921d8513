"""ShardWriter: WebDataset tars with the same bytes for the same samples, and a Parquet table of their lineage.

Format: https://github.com/webdataset/webdataset. Members are ``<key>.<extension>``. The members of one sample lie side
by side.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from storage.digest import digest_file
from storage.errors import one_sentence
from storage.folders import make_folder, publish, temporary_for, write_whole
from storage.manifests import table_bytes

SAMPLES = "samples.parquet"
_DIGITS = "[0-9]" * 6


@dataclass(frozen=True)
class ShardFile:
    """A finished shard. ``size`` is in bytes, ``samples`` is the number of its samples."""

    name: str
    digest: str
    size: int
    samples: int


class ShardWriter:
    """Writes ``000000.tar``, ... into ``folder``, and ``samples.parquet`` last.

    The files become visible with :meth:`close` or at the end of the ``with`` block. A block that raises leaves no file.
    A folder with a ``samples.parquet`` is complete. The files of an earlier writer in the folder are replaced.
    """

    def __init__(self, folder: Path, samples_per_shard: int) -> None:
        if samples_per_shard < 1:
            raise ValueError(f"samples_per_shard must be at least 1, got {samples_per_shard}")
        self._folder = folder
        self._samples_per_shard = samples_per_shard
        self._rows: list[dict[str, Any]] = []
        self._keys: set[str] = set()
        self._shards: list[ShardFile] = []
        self._temporaries: list[Path] = []
        """The temporary files of the finished shards, and of the open shard if there is one."""
        self._file: BinaryIO | None = None
        self._tar: tarfile.TarFile | None = None
        self._closed = False

    def write(self, key: str, files: Mapping[str, bytes], columns: Mapping[str, Any]) -> None:
        """Add a sample. ``files`` are by extension (``mp4``, ``latents.safetensors``), ``columns`` are for its row.

        Raises ``ValueError`` for a key or extension that the format can't hold, and for a key that was written already.
        """
        self._check(key, files, columns)
        with one_sentence(f"write {self._folder / self._name}"):
            tar = self._tar or self._start_shard()
            for extension in sorted(files):
                member = tarfile.TarInfo(f"{key}.{extension}")  # mtime, uid and gid are 0, the mode is 0644.
                member.size = len(files[extension])
                tar.addfile(member, io.BytesIO(files[extension]))
        self._keys.add(key)
        self._rows.append({"shard": self._name, "key": key, **columns})
        if len(self._rows) % self._samples_per_shard == 0:
            self._finish_shard()

    def close(self) -> tuple[ShardFile, ...]:
        """Make everything visible, the table last, and return the shards."""
        if self._closed:
            return tuple(self._shards)
        if self._tar is not None:
            self._finish_shard()
        table = table_bytes(self._rows)
        with one_sentence(f"write {self._folder}"):
            make_folder(self._folder)
            (self._folder / SAMPLES).unlink(missing_ok=True)
            for shard, temporary in zip(self._shards, self._temporaries, strict=True):
                publish(temporary, self._folder / shard.name)
            names = {shard.name for shard in self._shards}
            for earlier in [*self._folder.glob(f"{_DIGITS}.tar"), *self._folder.glob(f".{_DIGITS}.tar.*.tmp")]:
                if earlier.name not in names:
                    earlier.unlink()
        write_whole(self._folder / SAMPLES, table)
        self._closed = True
        return tuple(self._shards)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._clean_up()

    @property
    def _name(self) -> str:
        """The name of the open shard."""
        return f"{len(self._shards):06d}.tar"

    def _check(self, key: str, files: Mapping[str, bytes], columns: Mapping[str, Any]) -> None:
        if self._closed:
            raise ValueError("this writer has been closed")
        if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", key):
            raise ValueError(f"a sample's key is letters, digits, - and _, got {key!r}")
        if key in self._keys:
            raise ValueError(f"the sample {key} was written already")
        if not files:
            raise ValueError(f"the sample {key} has no files")
        for extension in files:
            if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", extension):
                raise ValueError(f"a file's extension is lower-case letters, digits and inner dots, got {extension!r}")
        reserved = {"shard", "key"} & set(columns)
        if reserved:
            raise ValueError(f"the column {reserved.pop()} is the writer's own")

    def _start_shard(self) -> tarfile.TarFile:
        make_folder(self._folder)
        self._temporaries.append(temporary_for(self._folder / self._name))
        self._file = self._temporaries[-1].open("xb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        return self._tar

    def _finish_shard(self) -> None:
        assert self._tar is not None and self._file is not None
        temporary = self._temporaries[-1]
        with one_sentence(f"write {self._folder / self._name}"):
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            samples = (len(self._rows) - 1) % self._samples_per_shard + 1
            shard = ShardFile(self._name, digest_file(temporary), temporary.stat().st_size, samples)
        self._tar = self._file = None
        self._shards.append(shard)

    def _clean_up(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        for temporary in self._temporaries:
            with suppress(OSError):
                temporary.unlink()
