from uuid import uuid4

import pytest


@pytest.fixture(params=["local", "memory"])
def address(request, tmp_path, monkeypatch):
    """Of a store: a folder, and an fsspec URL."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "store" if request.param == "local" else f"memory://{uuid4().hex}"
