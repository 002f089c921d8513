"""Durable bytes: a content-addressable store, the cache of actions over it, checkpoints, manifests and shards.

This package knows no orchestrator, no torch and no science. pyarrow loads with `storage.shards` only.
"""

from storage.actions import Action, ActionCache, ActionResult, Blob, Store
from storage.errors import CorruptObject, MissingObject, StoreError
from storage.objects import ObjectStore

__all__ = [
    "Action",
    "ActionCache",
    "ActionResult",
    "Blob",
    "CorruptObject",
    "MissingObject",
    "ObjectStore",
    "Store",
    "StoreError",
]
