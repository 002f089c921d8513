"""Open the store at `execution.store` of the config, else at `IPA_HOME`, else at `.ipa` in the working directory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ipa_core.config import Execution
from storage import Store
from storage.folders import LocalFolder


def open_store(execution: Execution | None = None) -> Store:
    configured = execution.store if execution else None
    return Store(configured or os.environ.get("IPA_HOME") or ".ipa")


class LogFolder:
    """A local folder for a library that writes files bit by bit, such as TensorBoard. It is the store's own if that is
    local, else a scratch folder whose files :meth:`close` puts into the store."""

    def __init__(self, store: Store, name: str) -> None:
        folder = store.folder.below(name)
        self._uploads_to = None if isinstance(folder, LocalFolder) else folder
        self.path = folder.path if isinstance(folder, LocalFolder) else Path(tempfile.mkdtemp(prefix="ipa-"))

    def close(self) -> None:
        """Put the files into a remote store. Raises ``StoreError``."""
        if self._uploads_to is None:
            return
        try:
            for path in sorted(self.path.rglob("*")):
                if path.is_file():
                    self._uploads_to.write(path.relative_to(self.path).as_posix(), path.read_bytes())
        finally:
            shutil.rmtree(self.path)
