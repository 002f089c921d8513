"""A run's inputs from outside its store's results. Each is read once, when the run starts: a file, a table or a review
that changes later has no effect on the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from flows.engine.components import Components, hand_scorer
from ipa_core.clips.metadata import VideoMetadata, read_metadata
from ipa_core.clips.references import Pictures, find_pictures
from ipa_core.clips.sources import Found, Video, is_url, local_file, look_at, search, version_of
from ipa_core.config import NEWEST_SCORE, RunConfig, ScoreVersion
from ipa_core.records import Verdict
from ipa_core.scoring.calibration import Calibration
from ipa_core.video import LOOK_VERSION, Look
from storage import Store, StoreError
from storage.digest import digest_bytes, digest_config, digest_file, is_digest
from storage.preferences import Preference, Preferences
from storage.registry import Registry, State
from storage.reviews import Reviews, verdicts

_DOCUMENTS = frozenset({".gif", ".jpeg", ".jpg", ".md", ".mp4", ".pdf", ".png", ".rst", ".svg", ".webm", ".webp"})
"""Suffixes of files beside a model's weights that no pipeline reads."""
_AT_ONCE = 500
"""Results of scores that are read at the same time."""
_DOWNLOADS = 8
"""Videos that are read at the same time."""


class RunInputs:
    """With ``keep=False`` (plans), no object enters the store. ``generator`` (a LoRA's digest) overrides the config."""

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
        self.components = components
        self._keep = keep
        self._generator = generator
        self._files: dict[Path, str] = {}

    def read(self) -> None:
        """Read the inputs that people may change while a run goes on. Raises ``ConfigError`` and ``StoreError``."""
        _ = self.metadata, self.registry, self.verdicts, self.calibration, self.preferences, self.videos
        _ = self.references

    @cached_property
    def sources(self) -> Found:
        """The content of the config's sources."""
        return search(self._config.clips.sources, self._config.clips.metadata)

    @property
    def videos(self) -> tuple[Video, ...]:
        """The driving videos that the config names; :attr:`video_digests` reads their bytes."""
        return self.sources.videos

    @cached_property
    def video_digests(self) -> Mapping[Video, str]:
        behind_urls = [video for video in self.videos if is_url(video.address)]
        try:
            with ThreadPoolExecutor(_DOWNLOADS) as pool:
                found = dict(zip(behind_urls, pool.map(self._behind_url, behind_urls), strict=True))
        finally:
            if behind_urls:  # Save at once, also in a plan: each cost a download.
                self.store.digests.save()
        return {video: found.get(video) or self.store.digests.file(video.address) for video in self.videos}

    def _behind_url(self, video: Video) -> str:
        known = self.store.digests.url(video.address, video.version) if video.version else None
        if known is not None:
            return known
        with local_file(video.address) as copy:
            digest = digest_file(copy)
            self._look(digest, str(copy))  # The bytes are here now.
        if video.version and version_of(video.address) == video.version:  # Else the file changed meanwhile.
            self.store.digests.remember_url(video.address, video.version, digest)
        return digest

    @cached_property
    def looks(self) -> Mapping[str, Look]:
        """Facts about the driving videos by digest, each read once per store."""
        addresses = {digest: video.address for video, digest in self.video_digests.items()}
        try:
            with ThreadPoolExecutor(_DOWNLOADS) as pool:
                return dict(zip(addresses, pool.map(self._look, addresses, addresses.values()), strict=True))
        finally:
            if any(map(is_url, addresses.values())):
                self.store.digests.save()

    def _look(self, digest: str, address: str) -> Look:
        known = self.store.digests.look(digest, LOOK_VERSION)
        with suppress(ValueError, TypeError):  # A damaged one is looked up again.
            traits, fps, usual_fps = json.loads(known or "")
            return Look(tuple(map(str, traits)), float(fps), float(usual_fps))
        found = look_at(address)
        self.store.digests.remember_look(digest, LOOK_VERSION, json.dumps([found.traits, found.fps, found.usual_fps]))
        return found

    @cached_property
    def metadata(self) -> VideoMetadata | None:
        """The table of prompts, groups and splits."""
        table = self._config.clips.metadata
        return read_metadata(table) if table else None

    @cached_property
    def pictures(self) -> Pictures:
        """The pictures of other people to animate; none without `clips.references`. Raises ``ConfigError``."""
        folder = self._config.clips.references
        return find_pictures(folder) if folder else Pictures({}, ())

    @cached_property
    def references(self) -> Mapping[str, str]:
        """Their digests by name. Their bytes enter the store."""
        return {name: self.file(path) for name, path in self.pictures.paths.items()}

    @cached_property
    def registry(self) -> State:
        return Registry(self.store.address).state()

    @cached_property
    def verdicts(self) -> Mapping[str, Verdict]:
        """People's verdicts by the digest of the candidate's video."""
        return verdicts(Reviews(self.store.address).histories(), self._config.selection.reviewers)

    @cached_property
    def calibration(self) -> Calibration | None:
        """What people keep, by score. Raises ``ConfigError``."""
        file = self._config.selection.calibration
        return Calibration.read(file) if file else None

    @cached_property
    def preferences(self) -> Mapping[str, Sequence[Preference]]:
        """What people said of pairs of videos, by the pair. They enter reports and model cards, and no key."""
        return Preferences(self.store.address).histories()

    @cached_property
    def generator(self) -> str | None:
        """Digest of the generator; None: the base model alone."""
        if self._generator is None and self._config.rounds.on_policy:
            return self.registry.champion(self.model_weights)
        return self._generator

    @property
    def model_folder(self) -> Path:
        """The folder of the model's weights. Raises ``MissingModel``."""
        return self.components.model_folder(self._config.candidates.model)

    @cached_property
    def model_weights(self) -> str:
        """The model's digest, of the whole folder as the store saw it first.

        Documents beside the weights may change later: a folder that computes the same keeps its digest. Stores from
        before know whole folders only, so their keys stay.
        """
        seen = self.store.folder.below("models")
        computes = self.store.digests.tree(self.model_folder, _computes)
        if (first := seen.read(computes)) is None:
            first = self.store.digests.tree(self.model_folder).encode()
            if self._keep and not seen.write(computes, first, replace=False):
                first = seen.read(computes) or first  # Another run was first.
        if not is_digest(digest := first.decode(errors="replace")):
            raise StoreError(f"{seen.address(computes)} holds no digest: it is damaged; remove it")
        return digest

    @cached_property
    def pose_weights(self) -> str:
        extractor = self.components.pose_extractor(self._config.poses)
        try:
            files = extractor.weights()
        finally:
            extractor.close()
        return self._digest_of(files)

    @cached_property
    def score_weights(self) -> str:
        """Digest of the hand score's coefficients and finger network; the pose backend has its own."""
        scores = self._config.scores.model_copy(update={"version": self.score_version})
        return self._digest_of(self.components.score_files(scores))

    @cached_property
    def second_judge(self) -> str | None:
        """Digest of the second judge's files; None without one. Raises ``ConfigError``."""
        folder = self._config.evaluation.judge
        if folder is None:
            return None
        from ipa_core.evaluation.second_judge import judge_files

        return self._digest_of({path.name: str(path) for path in judge_files(folder)})

    @cached_property
    def score_version(self) -> ScoreVersion:
        """The version of the hand score: the config's, else the one that the store was made with."""
        return self._config.scores.version or _made_with(self.store)

    def _digest_of(self, files: Mapping[str, str]) -> str:
        return digest_config({name: self.store.digests.file(Path(path)) for name, path in files.items()})

    @property
    def own_scorer(self) -> bool:
        """Whether the project's own scorer judges, so that its rule says which clips can't be scored."""
        return self.components.hand_scorer is hand_scorer

    def file(self, path: Path) -> str:
        """Put a file that the config names into the store, as it is when the run first asks. Return its digest."""
        if path not in self._files:
            self._files[path] = self.store.digests.file(path)
            if self._keep and self.store.objects.missing({self._files[path]}):
                self._files[path] = self.store.objects.put_file(path)
        return self._files[path]

    def put(self, data: bytes) -> str:
        """Put a small table of upstream results into the store as an input of one action. Return its digest."""
        return self.store.objects.put(data) if self._keep else digest_bytes(data)


def _made_with(store: Store) -> ScoreVersion:
    """Return the version of the hand score that was the default when the store was made."""
    if store.generation > 2:
        return NEWEST_SCORE
    return 2 if store.generation == 2 else _scored_by(store)


def _scored_by(store: Store) -> ScoreVersion:
    """Return the lowest version of the store's scores, without scores 2. The key of a score of version 1 names none."""
    found: set[ScoreVersion] = set()
    keys = store.actions.keys("scores")
    while 1 not in found and (some := list(islice(keys, _AT_ONCE))):
        found |= {one.action.config.get("version", 1) for one in store.actions.lookup("scores", some).values()}
    return min(found, default=2)


def _computes(name: str) -> bool:
    """Return whether a file of a model folder may change what the model computes."""
    path = PurePosixPath(name)
    return path.suffix.lower() not in _DOCUMENTS and not path.name.startswith(("LICENSE", "NOTICE"))
