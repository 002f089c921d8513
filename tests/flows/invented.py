"""A run whose every digest is invented, so that its keys are the same on every machine and with every library.

Nothing is computed: each stage's items are listed from what the stages before it are said to have made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from flows.engine.inputs import RunInputs
from flows.engine.stage import Item, ItemResult
from flows.engine.view import View
from flows.engine.walk import looked_up
from flows.stages import STAGES
from ipa_core.clips.sources import Video
from ipa_core.config import RunConfig, ScoreVersion
from ipa_core.evaluation import ClipResult, VideoMetrics
from ipa_core.records import Decision, HandScore, ReferenceErrors, ScoreComponents, Verdict, YieldReport
from storage import ActionResult, Blob, Store
from storage.digest import digest_bytes
from storage.registry import State
from tests.fakes import FAKES

VIDEOS = 8
_DECISIONS = TypeAdapter(tuple[Decision, ...])


def invented(*about: object) -> str:
    """A digest that follows from ``about``."""
    return digest_bytes(" ".join(map(str, about)).encode())


class InventedInputs(RunInputs):
    """``verdicts``: by candidate's video. The champion, if any, is the one that the config's ``generator`` names."""

    def __init__(self, store: Store, config: RunConfig, generator: str | None, rejected: Sequence[str] = ()) -> None:
        super().__init__(store, config, FAKES, generator=generator)
        self._rejected = rejected

    @property
    def video_digests(self) -> Mapping[Video, str]:  # type: ignore[override]
        return {video: invented("video", video.name) for video in self.videos}

    @property
    def model_weights(self) -> str:  # type: ignore[override]
        return invented("model weights")

    @property
    def pose_weights(self) -> str:  # type: ignore[override]
        return invented("pose weights")

    @property
    def score_weights(self) -> str:  # type: ignore[override]
        return invented("score weights")

    @property
    def score_version(self) -> ScoreVersion:  # type: ignore[override]
        return self._config.scores.version or 1  # The pinned keys are those of stores with scores of version 1.

    @property
    def registry(self) -> State:  # type: ignore[override]
        return State()

    @property
    def verdicts(self) -> Mapping[str, Verdict]:  # type: ignore[override]
        return dict.fromkeys(self._rejected, "reject")


def keys(folder: Path, config: RunConfig, generator: str | None = None, rejected: Sequence[str] = ()) -> dict[str, Any]:
    """Key of every item, by stage and the item's name."""
    (folder / "videos").mkdir(parents=True)
    for number in range(VIDEOS):
        (folder / "videos" / f"video-{number}.mp4").touch()
    store = Store(folder / "store")
    inputs = InventedInputs(store, config, generator, rejected)
    view = View(config, inputs)
    for stage in STAGES:
        for items, _ in looked_up(view, stage):
            view.add(stage.name, [ItemResult(item, "cached", _made(store, item, config)) for item in items])
    return {
        stage: {entry.item.name: entry.item.action.key for entry in entries} for stage, entries in view.results.items()
    }


def _made(store: Store, item: Item, config: RunConfig) -> ActionResult:
    record, names = _record(item, config)
    outputs = {name: Blob(_there(store, invented(item.action.key, name)), 1) for name in names}
    if item.action.stage == "selection":
        decisions = tuple(
            Decision(clip_id=one.candidate.clip_id, seed=one.candidate.seed, score=0.5, kept=True, reason="kept")
            for one in _scored(item, store)
        )
        outputs["decisions.json"] = Blob(store.objects.put(_DECISIONS.dump_json(decisions)), 1)
    return ActionResult(item.action, "done", None, record, outputs)


def _scored(item: Item, store: Store) -> Any:
    from flows.stages.selection import scored_table

    return scored_table(item.action, store)


def _there(store: Store, digest: str) -> str:
    """An empty file in the place of an object."""
    assert isinstance(store.address, Path)
    place = store.address / "objects" / digest[:2] / digest[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    return digest


def _record(item: Item, config: RunConfig) -> tuple[Mapping[str, Any], Sequence[str]]:
    """Of each stage: what the next ones read of its record, and the names of its outputs."""
    stage, inputs = item.action.stage, item.action.inputs
    candidates = range(config.candidates.group_size)
    match stage:
        case "clips":
            crop = {"x": 0.0, "y": 0.0, "width": 832.0, "height": 480.0}
            window = {"index": 0, "start": 0.0, "crop": crop, "reference_index": 3}
            return {"clips": [window], "dropped": []}, ["000.mp4", "000.png"]
        case "poses":
            return {"frames": 81, "hands_found": 1.0}, ["pose"]
        case "candidates":
            files = [f"{k}.{kind}" for k in candidates for kind in ("mp4", "latents")]
            first = item.action.config.get("first", 0)
            return {"seeds": [1000 + first + k for k in candidates]}, ["conditioning", *files]
        case "scores":
            return _score().model_dump(mode="json"), ["pose", "hands.json"]
        case "selection":
            report = YieldReport(**dict.fromkeys(YieldReport.model_fields, 1))
            return {"report": report.model_dump(), "best_score": 0.5}, []
        case "shards":
            return {"samples": 1}, ["000000.tar", "samples.parquet"]
        case "references":
            errors = ReferenceErrors(first_epoch=0, everywhere=(1.0,), on_hands=(0.5,), elements=8)
            return errors.model_dump(mode="json"), []
        case "finetune":
            return {"steps": 1, "samples": 1, "loss": 0.5}, ["pytorch_lora_weights.safetensors", "training.json"]
        case _ if "results" in inputs:
            return {}, []
        case _:
            result = ClipResult(
                clip_id=item.action.config["clip_id"],
                seed=1000,
                model="aligned" if "lora" in inputs else "base",
                metrics=VideoMetrics(psnr=20.0, ssim=0.5, psnr_hand=15.0, ssim_hand=0.25),
                score=_score(),
                hands_found=1.0,
                drift=0.0,
            )
            return {"results": [result.model_dump(mode="json")]}, ["0.mp4", "0.pose"]


def _score() -> HandScore:
    components = ScoreComponents(**dict.fromkeys(("confidence", "size", "pck", "error", "bone_consistency"), 0.5),
                                 jitter=0.5, sharpness=0.5)  # fmt: skip
    return HandScore(score=0.5, unscorable=None, components=components, good_frames=0.5, hands=())
