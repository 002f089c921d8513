"""Open the store at `execution.store` of the config, else at `IPA_HOME`, else at `.ipa` in the working directory."""

from __future__ import annotations

import os
from contextlib import ExitStack

from ipa_core.config import ConfigError, Execution
from ipa_core.scratch import scratch_folder
from storage import Store
from storage.folders import LocalFolder


def store_address(execution: Execution | None = None) -> str:
    configured = execution.store if execution else None
    return configured or os.environ.get("IPA_HOME") or ".ipa"


def open_store(execution: Execution | None = None, *, make: bool = True) -> Store:
    """Open the store. With ``make=False`` nothing is made where there is none, and it reads as empty."""
    return Store(store_address(execution), make=make, cache_gb=(execution or Execution()).cache_gb)


def existing_store() -> Store:
    """Open the store for a command that only reads. Raises :class:`ConfigError` if there is none."""
    store = open_store(make=False)
    if not store.exists:
        raise ConfigError(f"there is no store at {store.address}; `ipa run` makes one, IPA_HOME names another")
    return store


class LogFolder:
    """A local folder for a library that writes files bit by bit, such as TensorBoard. It is the store's own if that is
    local, else a scratch folder whose files :meth:`close` puts into the store."""

    def __init__(self, store: Store, name: str) -> None:
        folder = store.folder.below(name)
        self._uploads_to = None if isinstance(folder, LocalFolder) else folder
        self._scratch = ExitStack()
        self.path = folder.path if isinstance(folder, LocalFolder) else self._scratch.enter_context(scratch_folder())

    def close(self) -> None:
        """Put the files into a remote store. Raises ``StoreError``."""
        with self._scratch:
            if self._uploads_to is None:
                return
            for path in sorted(self.path.rglob("*")):
                if path.is_file():
                    self._uploads_to.write(path.relative_to(self.path).as_posix(), path.read_bytes())
