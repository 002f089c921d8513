"""Digests of what lies outside the store, the registry and the reviews, each read once per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from flows.engine.components import Components
from ipa_core.clips import Video, is_url, local_file, version_of
from ipa_core.config import RunConfig
from ipa_core.records import Verdict
from storage import Store
from storage.digest import digest_bytes, digest_config, digest_file
from storage.registry import Registry, State
from storage.reviews import Reviews, verdicts

_DOWNLOADS = 8
"""Videos behind URLs that are read at once."""


class RunInputs:
    """The `Inputs` of a run. ``keep=False`` (plans) puts no object into the store; ``generator`` is the LoRA that
    generates, where it isn't what the config says."""

    def __init__(
        self,
        store: Store,
        config: RunConfig,
        components: Components,
        *,
        keep: bool = True,
        generator: str | None = None,
    ) -> None:
        self.store = store
        self._config = config
        self._components = components
        self._keep = keep
        self._generator = generator

    def videos(self, videos: Sequence[Video]) -> list[str]:
        behind_urls = [video for video in videos if is_url(video.address)]
        try:
            with ThreadPoolExecutor(_DOWNLOADS) as pool:
                found = dict(zip(behind_urls, pool.map(self._behind_url, behind_urls), strict=True))
        finally:
            if behind_urls:  # Kept at once, also by a plan: these cost a download.
                self.store.digests.save()
        return [found.get(video) or self.store.digests.file(video.address) for video in videos]

    def _behind_url(self, video: Video) -> str:
        known = self.store.digests.url(video.address, video.version) if video.version else None
        if known is not None:
            return known
        with local_file(video.address) as copy:
            digest = digest_file(copy)
        if video.version and version_of(video.address) == video.version:  # Else it was replaced meanwhile.
            self.store.digests.remember_url(video.address, video.version, digest)
        return digest

    def model_weights(self) -> str:
        return self._model_weights

    def pose_weights(self) -> str:
        return self._pose_weights

    def score_weights(self) -> str:
        return self._score_weights

    def rounds(self) -> State:
        return self._rounds

    def generator(self) -> str | None:
        if self._generator is None and self._config.rounds.on_policy:
            return self.rounds().champion(self.model_weights())
        return self._generator

    def verdicts(self) -> Mapping[str, Verdict]:
        return self._verdicts

    def put(self, data: bytes) -> str:
        return self.store.objects.put(data) if self._keep else digest_bytes(data)

    @cached_property
    def _rounds(self) -> State:
        return Registry(self.store.address).state()

    @cached_property
    def _verdicts(self) -> Mapping[str, Verdict]:
        return verdicts(Reviews(self.store.address).standing())

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
        return self._digest_of(files)

    @cached_property
    def _score_weights(self) -> str:
        return self._digest_of(self._components.score_files(self._config.scores))

    def _digest_of(self, files: Mapping[str, str]) -> str:
        return digest_config({name: self.store.digests.file(Path(path)) for name, path in files.items()})
