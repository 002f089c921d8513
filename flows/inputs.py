"""Digests of what lies outside the store, and the registry, each read once per run."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from flows.components import Components
from ipa_core.config import RunConfig
from storage import Store
from storage.digest import digest_bytes, digest_config
from storage.registry import Registry, State


class RunInputs:
    """The `Inputs` of a run. ``keep=False`` (plans) writes nothing into the store."""

    def __init__(self, store: Store, config: RunConfig, components: Components, *, keep: bool = True) -> None:
        self.store = store
        self._config = config
        self._components = components
        self._keep = keep

    def file(self, path: Path) -> str:
        return self.store.digests.file(path)

    def model_weights(self) -> str:
        return self._model_weights

    def pose_weights(self) -> str:
        return self._pose_weights

    def rounds(self) -> State:
        return self._rounds

    def put(self, data: bytes) -> str:
        return self.store.objects.put(data) if self._keep else digest_bytes(data)

    @cached_property
    def _rounds(self) -> State:
        return Registry(self.store.address).state()

    @cached_property
    def _model_weights(self) -> str:
        return self.store.digests.tree(self._components.model_folder(self._config.candidates.model))

    @cached_property
    def _pose_weights(self) -> str:
        extractor = self._components.pose_extractor(self._config.poses)
        try:
            files = extractor.weights()
        finally:
            extractor.close()
        return digest_config({name: self.store.digests.file(Path(path)) for name, path in files.items()})
