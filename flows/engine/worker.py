"""Compute items with loaded models and commit the results to the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flows.engine.components import Components
from flows.engine.devices import release_device
from flows.engine.loras import Added
from flows.engine.machine import device_of, provenance
from flows.engine.room import check_room
from flows.engine.stage import Item, Output, Place
from flows.engine.work import Batch, Listener, Outcome
from ipa_core.config import ConfigError, ExtractorConfig, ModelConfig, RunConfig, ScoreVersion
from ipa_core.records import Rejected
from ipa_core.scratch import scratch_folder
from storage import ActionResult, Blob, CorruptObject, MissingObject, Store, StoreError
from storage.digest import digest_config, digest_file

if TYPE_CHECKING:
    from ipa_core.evaluation import FeatureExtractor
    from ipa_core.evaluation.second_judge import SecondJudge
    from ipa_core.models.animation import AnimationModel
    from ipa_core.pose import PoseExtractor
    from ipa_core.scoring import HandScorer

log = logging.getLogger(__name__)


class Worker:
    """Loads each model on first use and keeps it."""

    def __init__(self, store: Store, config: RunConfig, components: Components) -> None:
        self.store = store
        self.config = config
        self.components = components
        self.progress: Callable[[int, int], None] = lambda done, total: None
        """Called with (done, total) parts of the item under way."""
        self.scratch: Path
        """A folder for outputs too big for memory; each item has its own, which goes with the item."""
        self._model: tuple[tuple[str | None, Added, ModelConfig], AnimationModel] | None = None
        self._features: dict[str, FeatureExtractor] = {}
        self._scorers: dict[ScoreVersion, HandScorer] = {}
        self._judges: dict[str, SecondJudge] = {}

    @cached_property
    def extractor(self) -> PoseExtractor:
        return self.components.pose_extractor(self.config.poses)

    def scorer(self, version: ScoreVersion) -> HandScorer:
        """Return the hand score of a version; an action says which."""
        if version not in self._scorers:
            scores = self.config.scores.model_copy(update={"version": version})
            self._scorers[version] = self.components.hand_scorer(scores, self.extractor)
        return self._scorers[version]

    def model(self, lora: str | None = None, added: Added = (), *, all_bits: bool = False) -> AnimationModel:
        """Return the animation model with the LoRA of this digest and with added ones. Keep one model only: two may not
        fit on a GPU. ``all_bits``: as the training has it, without the config's quantization."""
        config = self.config.candidates.model
        if all_bits:
            config = config.model_copy(update={"quantization": None})
        wanted = lora, added, config
        if self._model is None or self._model[0] != wanted:
            self._model = None
            weights = self._weights(lora, added)
            loaded = self.components.animation_model(config, self.config.execution, weights, True)
            self._model = (wanted, loaded)
        return self._model[1]

    def _weights(self, lora: str | None, added: Added) -> bytes | None:
        own = None if lora is None else self.store.objects.get(lora)
        if not added:
            return own
        parts = [(self.store.objects.get(digest), weight) for digest, weight in added]
        return self.components.combined_lora(
            self.config.candidates.model, parts if own is None else [(own, 1.0), *parts]
        )

    def make_room(self) -> None:
        """Drop the kept model and release the GPU, because another process needs its memory."""
        if self._model is None:
            return
        import gc

        import torch

        self._model = None
        gc.collect()
        torch.cuda.empty_cache()
        release_device()

    def features(self, config: ExtractorConfig) -> FeatureExtractor:
        if config.sha256 not in self._features:
            from ipa_core.evaluation import FeatureExtractor

            self._features[config.sha256] = FeatureExtractor(config)
        return self._features[config.sha256]

    def second_judge(self, digest: str) -> SecondJudge:
        """Return the judge of these files. Raises ``ConfigError`` when the folder of this machine has others."""
        from ipa_core.evaluation.second_judge import SecondJudge, judge_files

        if digest not in self._judges:
            folder = self.config.evaluation.judge
            assert folder is not None, "an item asks for it"
            found = digest_config({path.name: digest_file(path) for path in judge_files(folder)})
            if found != digest:
                raise ConfigError(f"evaluation.judge: the files in {folder} are not those with which the run started")
            self._judges[digest] = SecondJudge(folder)
        return self._judges[digest]

    def close(self) -> None:
        self.make_room()
        if "extractor" in self.__dict__:
            self.extractor.close()

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        """Compute and commit the items of a batch in order. Return one outcome for each and tell it to the listener.

        Only exceptions that must stop the process pass through, such as KeyboardInterrupt.
        """
        outcomes = []
        for item in batch.items:
            if batch.refresh:
                self.store.checkpoints.clear(item.action.key)
            listener.part(item.action.key, 0.0)
            with self._unless_elsewhere(item, batch) as elsewhere:
                outcomes.append(elsewhere or self._outcome(item, batch, listener))
            listener.done(outcomes[-1])
        return outcomes

    @contextmanager
    def _unless_elsewhere(self, item: Item, batch: Batch) -> Iterator[Outcome | None]:
        """Hold the item's lease within the block. Yield an outcome if another run computes the item, or computed it
        since this run looked it up."""
        key = item.action.key
        if batch.refresh:
            yield None
            return
        with self.store.leases.claimed(key) as mine:
            try:
                known = self.store.actions.get(item.action.stage, key) if mine else None
                found = Outcome(key, result=known, elsewhere=True) if known or not mine else None
            except StoreError as error:
                found = Outcome(key, error=_sentence(error))
            yield found

    def _outcome(self, item: Item, batch: Batch, listener: Listener) -> Outcome:
        started, key = time.perf_counter(), item.action.key
        self.progress = lambda done, total: listener.part(key, done / total)
        try:
            check_room(self.store)
            with scratch_folder() as self.scratch:
                try:
                    output = batch.stage.compute(item, self)
                except Rejected as finding:
                    output = Output(record={}, rejected=str(finding))
                return Outcome(key, result=self._commit(item, output, time.perf_counter() - started, batch))
        except (MissingObject, CorruptObject) as trouble:
            return Outcome(key, lost=trouble.digest)
        except Exception as error:
            log.debug("%s: %s failed", batch.stage.name, item.name, exc_info=True)
            return Outcome(key, error=_sentence(error))

    def _commit(self, item: Item, output: Output, seconds: float, batch: Batch) -> ActionResult:
        outputs: dict[str, Blob] = {}
        for name, content in output.objects.items():
            if isinstance(content, bytes):
                outputs[name] = Blob(self.store.objects.put(content), len(content))
            else:
                size = content.stat().st_size
                outputs[name] = Blob(self.store.objects.put_file(content), size)
        if batch.refresh:
            self.store.actions.forget(item.action.stage, item.action.key)
        result = self.store.actions.commit(
            ActionResult(
                action=item.action,
                outcome="rejected" if output.rejected else "done",
                reason=output.rejected,
                record=output.record_json(),
                outputs=outputs,
                provenance=provenance()
                | {"seconds": round(seconds, 3), "name": item.name}
                | self._devices(batch.stage.place),
            )
        )
        self.store.checkpoints.clear(item.action.key)
        return result

    def _devices(self, place: Place) -> dict[str, str | int]:
        """Return the device and the number of its kind that worked on the item at once, which make the item's cost, and
        how the model computed."""
        execution = self.config.execution
        processes = {"train": execution.train_processes, "gpu": execution.gpus_per_clip}.get(place, 1)
        how = dict(self._model[1].how) if place == "gpu" and self._model is not None else {}
        return {"device": device_of(place, execution), "processes": processes, **how}


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:500]}"
