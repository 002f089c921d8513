"""Durable bytes: a content-addressable store, the cache of actions over it, checkpoints, manifests and shards.

This package knows no orchestrator, no torch and no science. It imports quickly: pyarrow loads with `ShardWriter` only.
"""

from typing import TYPE_CHECKING, Any

from storage.actions import Action, ActionCache, ActionResult, Blob, Store
from storage.errors import CorruptObject, MissingObject, StoreError
from storage.objects import ObjectStore

if TYPE_CHECKING:
    from storage.shards import ShardWriter

__all__ = [
    "Action",
    "ActionCache",
    "ActionResult",
    "Blob",
    "CorruptObject",
    "MissingObject",
    "ObjectStore",
    "ShardWriter",
    "Store",
    "StoreError",
]


def __getattr__(name: str) -> Any:
    if name == "ShardWriter":
        from storage.shards import ShardWriter

        return ShardWriter
    raise AttributeError(f"module 'storage' has no attribute {name!r}")
