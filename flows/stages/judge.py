"""What the stages that generate know of the hand score: its settings, what it can't score, and the score itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flows.engine.stage import Item, key_fields
from flows.engine.view import View
from flows.engine.worker import Worker
from flows.stages.poses import posed_clips
from ipa_core.config import ScoreVersion
from ipa_core.records import PoseSequence, Split
from ipa_core.scoring.degenerate import why_degenerate
from ipa_core.scoring.quality import score_of
from ipa_core.scoring.yardstick import why_unscorable
from ipa_core.video import decode_video
from storage import ActionResult
from storage.registry import SHORT

if TYPE_CHECKING:
    import numpy as np


def score_settings(run: View) -> dict[str, object]:
    """Return the settings, besides bytes, on which a hand score depends. Evaluation scores with the same."""
    config, version = run.config, run.inputs.score_version
    settings = key_fields(config.scores, "model", "reward_model", "vlm_address", "version")
    settings |= {"backend": config.poses.backend}
    if config.scores.reward == "vlm":
        from ipa_core.scoring.vlm import PROMPT_VERSION

        settings["vlm_prompt"] = PROMPT_VERSION
    return settings if version == 1 else settings | {"version": version}


def version_of(settings: Mapping[str, Any]) -> ScoreVersion:
    """Return the version of the score that :func:`score_settings` name. Version 1 is older than its number."""
    version: ScoreVersion = settings.get("version", 1)
    return version


def who_judged(run: View) -> str:
    """Return a sentence for people: who chose the samples, and who judges a comparison of the models."""
    reward = f" with the reward {run.config.scores.reward}" if run.config.scores.reward else ""
    score = f"the hand score, version {run.inputs.score_version}{reward} ({run.inputs.score_weights[:SHORT]})"
    judge = run.inputs.second_judge
    second = (
        "; there is no second judge (evaluation.judge)"
        if judge is None
        else f", and by the second judge ({judge[:SHORT]}), which never chooses"
    )
    return f"Chosen by {score}. Judged by the same score, by comparison with the true video where there is one{second}"


def unscorable(run: View, pose: ActionResult) -> str | None:
    """Return why the scorer can score no hand of a clip, whatever the model generates, or None.

    None also where this can't be told: another scorer than the project's judges, or an older version found the pose.
    """
    largest = pose.record.get("largest_hand")
    if largest is None or not run.inputs.own_scorer:
        return None
    return why_unscorable(largest, run.config.scores)


def no_hands(run: View, split: Split) -> list[str]:
    """Return a sentence for people about the clips of a split that :func:`unscorable` leaves out; none if all go on."""
    whys = [unscorable(run, pose) for named, pose in posed_clips(run) if named.clip.split == split]
    if not any(whys):
        return []
    kind = "training" if split == "train" else "held-out"
    return [
        f"in {len(whys) - whys.count(None)} of {len(whys)} {kind} clips no driving hand can be scored, so nothing is "
        f"generated for them: scores.min_hand_size is {run.config.scores.min_hand_size:g}"
    ]


def preview_judge(item: Item, worker: Worker) -> Callable[[np.ndarray], float | None]:
    """Return a function that scores a video uint8 ``[T, H, W, 3]`` of the item's clip."""
    inputs, objects = item.action.inputs, worker.store.objects
    truth = decode_video(objects.get(inputs["clip"]))
    pose = PoseSequence.from_bytes(objects.get(inputs["pose"]))
    version = version_of(item.action.config["early"]["scores"])
    scorer = worker.scorer(version)
    another = {"found": PoseSequence.from_bytes(objects.get(inputs["found"]))} if "found" in inputs else {}

    def judge(video: np.ndarray) -> float | None:
        if shows_nothing(video, version):
            return None
        found = scorer.score(video, truth, pose, **another).score
        # Many good previews reach the ceiling; within a clip, what lies above it tells them apart.
        return found.score if version < 3 or found.order is None else round(score_of(found.order), 5)

    return judge


def shows_nothing(video: np.ndarray, version: ScoreVersion) -> str | None:
    """Return why a generated video uint8 ``[T, H, W, 3]`` is not scored, or None. Version 1 scores everything."""
    return why_degenerate(video) if version > 1 else None
