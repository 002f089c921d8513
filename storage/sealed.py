"""Small JSON files that carry the digest of what they say, so that damage is told from a decision."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from storage.digest import digest_bytes, json_bytes


def seal(kind: str, record: BaseModel) -> bytes:
    """The record under the name ``kind``, and its digest."""
    about = record.model_dump(mode="json")
    return json_bytes({kind: about, "blake3": digest_bytes(json_bytes(about))})


def unseal(kind: str, data: bytes) -> Any:
    """What :func:`seal` wrote, as plain JSON. Raises ``ValueError`` where it is damaged."""
    try:
        sealed = json.loads(data)
        if digest_bytes(json_bytes(sealed[kind])) == sealed["blake3"]:
            return sealed[kind]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no sealed {kind}") from error
    raise ValueError(f"the digest of the {kind} is another")
