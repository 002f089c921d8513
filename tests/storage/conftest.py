from uuid import uuid4

import pytest


@pytest.fixture(params=["local", "memory", "s3"])
def address(request, tmp_path, monkeypatch):
    """The address of a store: a folder, or an fsspec URL."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/store"
    return tmp_path / "store" if request.param == "local" else f"memory://{uuid4().hex}"
