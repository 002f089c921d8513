"""Where the store lies: `execution.store` of the config, else `IPA_HOME`, else `.ipa` in the working directory."""

from __future__ import annotations

import os

from ipa_core.config import Execution
from storage import Store


def open_store(execution: Execution | None = None) -> Store:
    configured = execution.store if execution else None
    return Store(configured or os.environ.get("IPA_HOME") or ".ipa")
