"""The config of a run: the settings of its stages and of its execution (:class:`Execution`).

A field that can change the results of a stage enters the keys of that stage. The fields of :class:`Execution` and
:class:`RoundsConfig` enter no key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from math import ceil, floor
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
DType = Literal["float32", "bfloat16"]
Quantization = Literal["int8", "fp8"]
TrainStrategy = Literal["ddp", "fsdp2"]
TrackerName = Literal["wandb", "mlflow"]


LATER: Final = "later"
"""Marks a field that was added when stores were in use: ``Annotated[float | None, LATER] = None``. Its default must
keep the earlier behaviour: a field at its default is left out of every key."""


def is_later(field: FieldInfo) -> bool:
    return LATER in field.metadata


class ConfigError(Exception):
    """A config can't be used. The message says which field is wrong, which value it has, and what it should be."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _one_value_is_a_list(cls, tree: Any) -> Any:
        """Take one value as a list where a list is wanted: ``sources: /data/dance``."""
        if not isinstance(tree, dict):
            return tree
        return {name: [value] if cls._wants_a_list(name, value) else value for name, value in tree.items()}

    @classmethod
    def _wants_a_list(cls, name: str, value: Any) -> bool:
        kind = cls.model_fields[name].annotation if name in cls.model_fields else None
        # ``tuple[str, ...]``; a tuple of a certain length needs all of its values.
        return isinstance(value, str | int | float) and get_origin(kind) is tuple and get_args(kind)[-1] is ...


class ClipsConfig(Config):
    """Settings of the stage `clips`, which cuts driving videos into clips."""

    sources: tuple[str, ...]
    """Video files, folders (read recursively) or globs, also as URLs (`s3://bucket/videos/`). Their bytes enter the
    keys, their paths don't."""
    metadata: str | None = None
    """CSV or Parquet table (or its URL) with a column `file` (name, or path as under sources) and any of `prompt`,
    `group`, `split` (`train` or `held_out`; it counts for the whole group) and `reference` (a name in `references`)."""
    prompt: str = ""
    """Prompt of the videos that have no prompt of their own."""
    frames: PositiveInt = 81
    """F, the number of pictures of a clip."""
    fps: Positive = 16.0
    """Pictures per second of a clip. Source videos are resampled by their time stamps."""
    width: PositiveInt = 832
    height: PositiveInt = 480
    min_source_fps: Positive = 8.0
    """Videos with fewer pictures per second are rejected, because their hands jump."""
    max_windows: PositiveInt | None = None
    """Most windows that are taken from one video, from its start. None takes all."""
    max_gigapixels: Annotated[Positive, LATER] = 50_000.0
    """Most pixels that are decoded of one video, in thousand millions; what follows is left out. A small file may claim
    any number. The default is about 220 hours of 1080p, or 28 hours of 4K at 60 fps."""
    cut_threshold: Positive = 0.3
    """A new shot begins where the colour histograms of two pictures differ by more (Hellinger distance)."""
    crop: Literal["person", "center"] = "person"
    """`person`: a rectangle of the clip's aspect around the person of the window, or `center` where nobody is found."""
    crop_margin: Annotated[float, Field(ge=0, le=2)] = 0.15
    """Margin around the person, as a share of the person's height."""
    reference: Literal["random", "first"] = "random"
    """The reference image: the clip's `first` frame, or (paper) a `random` one, which the source's digest decides."""
    references: Annotated[str | None, LATER] = None
    """A folder of pictures of other people: cross-identity. Each clip's reference image is then the one that the column
    `reference` of the metadata table names (none: the clip's own), or, without that column, one by the digests of clip
    and pictures. What these clips are animated to has no true video."""
    held_out: Fraction = 0.2
    """Share of the groups kept for evaluation, by hash of the group. A `split` in the metadata table overrides it."""
    group_by: Annotated[str, LATER] = "file"
    """The group (performer) of a video without one in the metadata table: `file` (each file is a group), `folder` (the
    name of its folder), or a regular expression whose first group is found in the path, such as `/([a-z]+)_take`."""

    @model_validator(mode="after")
    def _check(self) -> ClipsConfig:
        if self.group_by not in ("file", "folder"):
            try:
                groups = re.compile(self.group_by).groups
            except re.error as error:
                raise ValueError(f"group_by must be file, folder or a regular expression: {error}") from None
            if not groups:
                raise ValueError(f"group_by needs a group in brackets that names the performer, got '{self.group_by}'")
        if self.frames % 4 != 1:
            raise ValueError(f"frames must be 4n + 1 (5, 9, ..., 81) for the Wan codec, got {self.frames}")
        if self.width % 16 or self.height % 16:
            raise ValueError(f"width and height must be multiples of 16, got {self.width} x {self.height}")
        return self


class PosesConfig(Config):
    """Settings of the stage `poses`, which finds a pose sequence in each clip."""

    backend: Literal["mediapipe", "ultralytics", "dwpose"] = "mediapipe"
    model: str | None = None
    """Weights or model folder of the backend. None takes the model that comes with the backend."""
    person: Literal["tracked", "largest"] = "tracked"
    """Of several people, `tracked` takes the one seen longest over the clip, `largest` the largest of each frame."""
    min_person_height: Fraction = 0.25
    """Smaller people are rejected (height of their body points, as a share of the picture's height)."""
    min_frames_found: Fraction = 0.8
    """Share of the frames in which the person must be found."""
    min_hand_confidence: Fraction = 0.5
    """A hand with a lower presence counts as not found."""


class ModelConfig(Config):
    """The animation model."""

    path: str
    """A diffusers pipeline folder, or a hub id such as `Wan-AI/Wan2.1-VACE-1.3B-diffusers`."""
    revision: str | None = None
    """Commit of a model on the hub."""
    dtype: DType = "bfloat16"
    quantization: Annotated[Quantization | None, LATER] = None
    """Hold the weights of the transformer's blocks in 8 bits, which halves them (extra [quantized]). It changes results
    beyond rounding. It holds for candidates, evaluation and `ipa animate`; the training has all bits. None: `dtype`."""

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.quantization is not None and self.dtype != "bfloat16":
            raise ValueError(f"quantization: {self.quantization} needs dtype: bfloat16, got {self.dtype}")
        return self


class DrawingConfig(Config):
    """Settings of the control video, which shows the pose sequence as a drawing."""

    profile: Literal["vace"] = "vace"
    """Each model draws in its own way. The field stays because it is in the keys of earlier results."""
    hand_detail: Literal["full", "palm", "none"] = "full"
    """`palm` draws only the wrist and the first joint of each finger, so the model has to invent the fingers."""
    face: bool = True


class EarlyConfig(Config):
    """Settings of early rejection: candidates whose previews have bad hands are not finished. A preview is the picture
    that the model predicts on the way from noise. `ipa score preview CONFIG` shows what these settings cost and save on
    a model."""

    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    """Noise levels t, falling, from 1 (noise) to 0; at each the previews of a clip are scored. Two levels with
    `keep: 0.5` bring eight candidates to four and then two. The number of steps before a level depends on `shift`."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of a clip's candidates that go on at each level, rounded up: those with the best previews."""
    least: Fraction = 0.0
    """A clip is given up at a level where its best preview has a lower score. 0: no rule."""

    @model_validator(mode="after")
    def _check(self) -> EarlyConfig:
        if not self.at or list(self.at) != sorted(set(self.at), reverse=True):
            raise ValueError(f"at must be falling noise levels, such as 0.9, 0.8, got {list(self.at)}")
        return self

    def kept(self, candidates: int) -> int:
        """Return how many of so many candidates go on at a level."""
        return max(1, ceil(round(candidates * self.keep, 6)))


class LoraFile(Config):
    """A LoRA that is added to the model, such as a step-distilled one. Its bytes and its weight enter keys."""

    path: str
    """A safetensors file, or a folder with `pytorch_lora_weights.safetensors`."""
    weight: float = 1.0


class CandidatesConfig(Config):
    """Settings of the stage `candidates`, which generates K videos of each clip."""

    model: ModelConfig
    per_clip: PositiveInt = 4
    """K, the number of candidates of a clip."""
    group: Annotated[PositiveInt | None, LATER] = None
    """Size of a seed group: its candidates are sampled as one batch and kept together. None: all candidates of a clip.
    `per_clip: 8` with `group: 4` takes the four candidates that a store has and generates four more."""
    seed: int = 0
    """Changes all seeds. Each follows from this, the clip's digest and the candidate's number within the clip."""
    drawing: DrawingConfig = DrawingConfig()
    steps: PositiveInt = 50
    scheduler: Literal["euler", "unipc"] = "unipc"
    shift: Positive = 16.0
    retarget: Annotated[bool, LATER] = False
    """Give the driving skeleton the bone lengths, size and place of the person in the reference image, where that is
    another person (`clips.references`). It holds for the evaluation too."""
    guidance_scale: Annotated[float, Field(ge=1)] = 5.0
    """Scale of the classifier-free guidance. 1 switches it off."""
    guidance_until: Annotated[Fraction, LATER] = 0.0
    """Noise level t at which the guidance goes off: steps at this level and below take one pass of the model instead of
    two. 0: all steps are guided. With shift 16, 32 of 50 steps lie above 0.9, with shift 5 only 18."""
    negative_prompt: str = ""
    loras: Annotated[tuple[LoraFile, ...], LATER] = ()
    """LoRAs that are added to the model that generates, such as a step-distilled one with 4 `steps` and
    `guidance_scale: 1`. The training doesn't see them, so the candidates are then off-policy."""
    early: Annotated[EarlyConfig | None, LATER] = None
    """Stop candidates whose previews are worse than those of their clip's others. All candidates of a clip are then one
    seed group, and more of them are all generated anew. None: all are finished."""

    @property
    def group_size(self) -> int:
        return self.group or self.per_clip

    @property
    def finished_per_clip(self) -> int:
        """Number of candidates of a clip that early rejection lets finish. It may give a clip up besides."""
        count = self.per_clip
        for _ in self.early.at if self.early is not None else ():
            count = self.early.kept(count) if self.early is not None else count
        return count

    @property
    def early_share(self) -> float:
        """Share of the passes of all candidates that is computed with early rejection when no clip is given up."""
        if self.early is None:
            return 1.0
        paid, begun, count = 0.0, 0, self.per_clip
        for level in self.early.at:
            paid, begun = paid + count * sum(self.passes[begun : self.steps_to(level)]), self.steps_to(level)
            count = self.early.kept(count)
        return (paid + count * sum(self.passes[begun:])) / (self.per_clip * sum(self.passes))

    def guided_at(self, t: float) -> bool:
        """Return whether a step at noise level t has guidance."""
        return self.guidance_scale > 1 and (self.guidance_until == 0 or t > self.guidance_until)

    @property
    def passes(self) -> list[int]:
        """Passes of the model in each step: two with guidance, else one."""
        return [2 if self.guided_at(t) else 1 for t in self.noise_levels]

    def steps_to(self, level: float) -> int:
        """Return after how many steps the noise level falls to ``level``: the preview there needs so many."""
        return min(self.steps, sum(t > level for t in self.noise_levels) + 1)

    @property
    def noise_levels(self) -> list[float]:
        """t of each step, as diffusers' schedulers (0.42) place them."""
        parts = [number / self.steps for number in range(self.steps)]
        if self.scheduler == "unipc":
            return [floor(1000 * self._shifted(0.999 * (1 - part))) / 1000 for part in parts]
        last = 1 - self._shifted(0.001)  # Its ends are shifted twice.
        return [self._shifted(1 - last * part * self.steps / max(1, self.steps - 1)) for part in parts]

    def _shifted(self, t: float) -> float:
        return self.shift * t / (1 + (self.shift - 1) * t)

    @property
    def seed_groups(self) -> int:
        """Number of seed groups of a clip."""
        return -(-self.per_clip // self.group_size)

    @model_validator(mode="after")
    def _check(self) -> CandidatesConfig:
        if self.group is not None and self.per_clip > self.group and self.per_clip % self.group:
            raise ValueError(
                f"per_clip must be a multiple of group, or less than it, got {self.per_clip} and {self.group}"
            )
        if self.early is not None and self.group not in (None, self.per_clip):
            raise ValueError(
                f"early compares all candidates of a clip, so they are one group; leave out group, got {self.group}"
            )
        return self


ScoreVersion = Literal[1, 2, 3]
NEWEST_SCORE: Final[ScoreVersion] = 3


class ScoresConfig(Config):
    """Settings of the stage `scores`. `scoring.quality` describes how the components become one score."""

    min_hand_size: Positive = 16.0
    """Pixels. Smaller driving hands are unscorable (landmark error: 7 % of the hand at 16 pixels, 14 % at 8)."""
    trusted_hand_size: Positive = 32.0
    """Pixels. Hands of this size or larger count fully, smaller ones proportionally less."""
    pck_radius: Positive = 0.2
    """Largest distance from the driving hand's point at which a point counts as correct, in hand sizes."""
    fingers: bool = True
    """Also judge the fingers by a small network of our own (`scoring.fingers`), besides the keypoints."""
    version: Annotated[ScoreVersion | None, LATER] = None
    """The version of the score. Scores of two versions don't compare. None: 3; a store that an older program made stays
    with 2, or with 1 if it has such scores. Another version scores the store's candidates anew, on the CPU."""
    model: str | None = None
    """Coefficients that `ipa lab score fit` wrote, for this version. None takes the packaged ones."""
    reward: str | None = None
    """A second opinion. `dwpose`: that pose backend's confidence of the hand points. `vlm`: a vision language model at
    `vlm_address`. Otherwise an entry point of `ipa.rewards`, or `module:attribute` (see `scoring.scorer.Reward`). The
    name is in the key, so a reward must change its name when it changes its answers."""
    reward_model: str | None = None
    """The model folder of `dwpose`, as in `poses.model`."""
    vlm_address: Annotated[str | None, LATER] = None
    """Address of an OpenAI-compatible server, such as `http://127.0.0.1:8000/v1`. Crops of hands are sent there. It is
    in no key: the same model elsewhere is the same judge. A key comes from the environment variable `IPA_VLM_KEY`."""
    vlm_model: Annotated[str | None, LATER] = None
    """The model's name at that server. It is in the key, so it must change when the model does."""
    reward_weight: Annotated[float, Field(ge=0)] = 2.0
    """Weight of the mean reward, in logits per unit."""
    good_hand: Fraction = 0.5
    """A hand in a frame counts as good from this score up (for the four cases of the yield report)."""

    @model_validator(mode="after")
    def _check(self) -> ScoresConfig:
        if self.reward != "vlm":
            return self
        if not self.vlm_address or not self.vlm_model:
            raise ValueError("reward: vlm needs vlm_address and vlm_model: the server, and the name of its model")
        if not re.fullmatch(r"https?://[^@?#\s]+", self.vlm_address):
            raise ValueError(
                "vlm_address must be http:// or https:// and an address without name, password or query; the key "
                "belongs into the environment variable IPA_VLM_KEY"
            )
        return self


class SelectionConfig(Config):
    """Settings of the stage `selection`, which keeps preferred samples. Reviews (`ipa review`) override its rules."""

    pick: Literal["best", "random", "worst"] = "best"
    """The candidates that come first where limits let only some through. `random` and `worst` are controls of an
    experiment: a gain that they also bring does not come from the preference. The other rules hold for them too."""
    rank_by: Literal["score", "confidence", "fingers"] = "score"
    """The measure whose highest value is best: the hand score, or one of its components. After ranking by one
    component, the other components are independent judges. Threshold and margin always refer to the score."""
    threshold: Fraction = 0.5
    """Least score of a kept candidate; with `calibration`, least share of people who would keep it."""
    calibration: Annotated[str | None, LATER] = None
    """File that `ipa score calibrate` wrote: the score that the share `threshold` of people keeps is the least score.
    Its bytes are in the key. None: `threshold` is a score."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """Least lead of a kept candidate over the median score of its clip's candidates. 0: no rule."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A kept candidate must be in this first share of all the run's candidates, in the order of `pick`. 1: no rule."""
    per_clip: PositiveInt = 1
    """Most candidates kept per clip, in the order of `pick`."""
    per_motion: PositiveInt | None = None
    """Most candidates kept per source video, over all its clips. None: no limit."""
    min_pose_distance: Annotated[float, Field(ge=0)] = 0.0
    """Least distance of a kept clip's driving motion from those of the clips kept before it, in body sizes. The
    person's position and size in the picture don't count (see `scoring.motion`). 0: no rule."""
    reviewers: Annotated[Literal["latest", "any", "majority", "all"], LATER] = "latest"
    """Makes one verdict of several people's reviews of a candidate. `latest`: the latest review stands. The other rules
    count the latest review of each person. `any`: one accept accepts, else one reject rejects. `all`: one reject
    rejects, else one accept accepts. `majority`: the more frequent one stands; a tie is no verdict. `unsure` and
    reviews that were taken back decide nothing. Without a verdict the other fields of this section decide."""


class ShardsConfig(Config):
    """Settings of the stage `shards`, which packs preferred samples into WebDataset shards."""

    samples_per_shard: PositiveInt = 64


class AlignmentConfig(Config):
    """Settings of the stage `finetune`, which trains a LoRA by Flow-IPA with HALO. The defaults follow the paper. A
    field exists for each point where the paper is ambiguous."""

    method: Literal["ipa", "sft", "dpo", "kto", "awm", "nft"] = "ipa"
    """`ipa` and `sft` learn from kept candidates alone, `sft` by the weighted flow-matching error (the baseline). The
    others learn from losing candidates of the same clips too (`ipa_core.alignment.methods`): `dpo` from pairs of a clip
    (Flow-DPO), `kto` by the side of the clip's mean, `awm` by advantages, `nft` by negative-aware fine-tuning."""
    beta: Positive = 600.0
    hand_weight: Annotated[float, Field(ge=0)] = 10.0
    """lambda in W = 1 + lambda * M. (The multiplier w of the public code is lambda + 1.)"""
    reduction: Literal["mean", "sum"] = "mean"
    """Reduces the weighted squared error over a sample's latent elements."""
    timesteps: Literal["uniform", "shifted"] = "uniform"
    """`uniform`: t ~ U(0, 1). `shifted`: that t, moved by `timestep_shift`."""
    timestep_shift: Positive = 16.0
    """With `shifted`, t becomes shift * t / (1 + (shift - 1) * t), as in sampling."""
    time_weight: Annotated[Literal["paper", "flat", "sampler"], LATER] = "paper"
    """Weight of a draw at time t. `paper`: (1 - t)^2. `flat`: every t weighs the same. `sampler`: t weighs as often as
    the sampler of `candidates` steps there. All have the same mean, so beta keeps its meaning. `sft` is always flat."""
    anchor: Annotated[float, Field(ge=0), LATER] = 0.0
    """Weight of the mean squared distance to the frozen model's velocity, over the whole picture. It needs the frozen
    model in every step (1.3 to 1.5 times the time), as `max_drift` and `nft` do."""
    max_drift: Annotated[Positive | None, LATER] = None
    """The training stops when the mean distance to the frozen model's velocity over the last eight steps, as a share of
    that velocity's length, reaches this. None: it takes all `steps`."""
    pairs: Annotated[Literal["margin", "strict"], LATER] = "margin"
    """Pairs of `dpo`: each kept candidate and the clip's last in the order of `selection.pick`. `margin`: their scores
    differ by at least `pair_margin`. `strict`: all hands of the first are good, none of the second (`good_hand`)."""
    pair_margin: Annotated[float, Field(ge=0), LATER] = 0.0
    noise: Annotated[Literal["fresh", "own"], LATER] = "fresh"
    """`own`: every draw of a sample has the noise that the sample was generated from (PNAPO, arXiv 2605.09433)."""
    mask_time: Literal["max", "mean", "nearest"] = "max"
    """Makes one hand mask of the pictures that one latent frame stands for."""
    latents: Literal["sampled", "reencoded", "driving"] = "sampled"
    """`sampled`: train on the candidate's final latents. `reencoded`: on its decoded video, encoded again. `driving`:
    on the driving clip instead of the candidate; with `sft` the base model is then trained longer on true videos."""
    rank: PositiveInt = 128
    alpha: PositiveInt = 128
    targets: Literal["self", "self_cross"] = "self_cross"
    """Attention layers whose q, k, v projections get a LoRA."""
    vace_blocks: bool = False
    """Put the LoRA into the control branch too. diffusers and ComfyUI load it there as well."""
    experts: Annotated[Literal["low", "high", "both"], LATER] = "low"
    """Of a model with two experts (Wan 2.2): those that get a LoRA. One alone draws t from its own range of noise. The
    loss gives the high noise hardly any weight, (1 - t)^2. Other models take no notice."""
    learning_rate: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    max_grad_norm: Positive = 1.0
    steps: PositiveInt = 1000
    batch_size: PositiveInt = 8
    """Samples per optimizer step, over all processes and accumulation steps."""
    accumulation: PositiveInt = 1
    """Number of parts in which a batch is computed."""
    gradient_checkpointing: bool = False
    dtype: DType = "bfloat16"
    seed: int = 0
    checkpoint_every: PositiveInt = 100
    """Steps. The field is part of the recipe that `resume` promises to repeat, so it is here. It is in no key."""
    preview_every: Annotated[int, Field(ge=0)] = 0
    """Steps between two sets of videos that show two held-out clips as the training goes on. 0: none. They change no
    result, so the field is in no key."""

    @model_validator(mode="after")
    def _check(self) -> AlignmentConfig:
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size must be a multiple of accumulation, got {self.batch_size} and {self.accumulation}"
            )
        if self.time_weight == "sampler" and self.timesteps == "shifted":
            raise ValueError("time_weight: sampler and timesteps: shifted both move t to noise; take one of the two")
        if self.method == "dpo" and self.batch_size // self.accumulation % 2:
            raise ValueError(
                "method: dpo takes both of a pair in one part of a batch: batch_size over accumulation must be even, "
                f"got {self.batch_size} and {self.accumulation}"
            )
        return self

    @property
    def learns_from_losers(self) -> bool:
        return self.method not in ("ipa", "sft")

    @property
    def needs_reference_velocity(self) -> bool:
        """Whether every step runs the frozen model, so that no error of it is computed ahead."""
        return self.method == "nft" or self.anchor > 0 or self.max_drift is not None

    @property
    def uses_reference_table(self) -> bool:
        return self.method != "sft" and not self.needs_reference_velocity


class ExtractorConfig(Config):
    """A TorchScript video feature extractor for FVD or FID-VID."""

    path: str
    sha256: str


class SamplerConfig(Config):
    """What the evaluation samples otherwise than `candidates`. None: as there."""

    steps: PositiveInt | None = None
    scheduler: Literal["euler", "unipc"] | None = None
    shift: Positive | None = None
    guidance_scale: Annotated[float | None, Field(ge=1)] = None
    guidance_until: Fraction | None = None
    loras: tuple[LoraFile, ...] | None = None
    """LoRAs that base and aligned model get, besides the aligned model's own. `[]`: none, whatever `candidates` has."""


class EvaluationConfig(Config):
    """Settings of the stage `evaluation`, which compares base and aligned model on held-out clips."""

    per_clip: PositiveInt = 2
    """Seeds per held-out clip, the same for both models."""
    max_clips: PositiveInt | None = None
    """Most held-out clips, chosen by a hash of their content. None takes all."""
    bootstrap: PositiveInt = 2000
    """Number of resamplings of the clips for the intervals."""
    fvd: ExtractorConfig | None = None
    fid_vid: ExtractorConfig | None = None
    sampler: Annotated[SamplerConfig, LATER] = SamplerConfig()
    """Judges the adapter as it will be deployed, for example with few steps and a step-distilled LoRA."""
    judge: Annotated[str | None, LATER] = None
    """Folder of the second judge, a hand network that you download (docs/second-judge.md). It looks at the evaluated
    videos beside the hand score, and never chooses. Its bytes are in the key. None: no second judge."""


class RoundsConfig(Config):
    """Settings that link a run to the next: the model that generates, and the rule for a new champion. They are in no
    key: with `on_policy` the champion's LoRA is an input of the candidates, and the rule reads finished results."""

    on_policy: bool = False
    """Generate the candidates with the champion of this base model, if there is one. Training still starts a fresh LoRA
    on the base model, which stays the frozen model, so rounds don't pile adapters up. A new champion counts as
    something new: scheduled runs go on without new videos until a challenger is refused."""
    min_clips: PositiveInt = 12
    """Held-out clips that a promotion needs. Chance alone wins 6 of 6 clips once in 64 times, 12 of 12 once in 4096."""
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Chance to ever promote an equal model, over all challengers of a base model: the k-th spends alpha / (k (k + 1)).
    Judging many challengers on the same clips would else promote one by luck. 1: no rule."""
    max_psnr_drop: Annotated[float, Field(ge=0)] = 0.5
    """dB that a new champion may lose against the model before it, over the whole picture."""
    max_ssim_drop: Annotated[float, Field(ge=0)] = 0.01
    max_sharpness_drop: Fraction = 0.1
    """Share of the hands' sharpness that a new champion may lose against the model before it: blur raises PSNR. 1: no
    rule."""


class Execution(Config):
    """Settings of the execution. They are in no key. They may change low bits: the first committed result stands."""

    store: str | None = None
    """Folder or URL (`s3://bucket/store`) of the store. None takes `IPA_HOME`, else `.ipa` in the working directory."""
    cache_gb: Positive = 100.0
    """Gigabytes of `~/.cache/ipa` that copies of a remote store's objects may take. The least used go first."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    """Compile the animation model's repeated blocks before it samples: some minutes once per process, then faster
    steps. Needs a C++ compiler, on a GPU Triton too; without them sampling goes on as usual."""
    workers: PositiveInt = Field(default_factory=lambda: max(1, min(8, os.cpu_count() or 1)))
    """Processes for decoding, poses and scores."""
    cluster: str | None = None
    """Address of a Dask scheduler (`tcp://host:8786`) or a Ray head (`ray://host:10001`) whose workers compute (extras
    [dask] and [ray]). None computes on this machine."""
    gpus: PositiveInt = 1
    """Processes that compute with the animation model at the same time, each on its own GPU."""
    gpus_per_clip: PositiveInt = 1
    """GPUs, of the `gpus`, that make each step of a clip together, where one is too slow. Each holds the whole
    transformer. Wan-VACE only, for what samples; trainings and their reference errors don't use it."""
    item_minutes: Positive = 120.0
    """An item that shows no progress for this long counts as hung: its process is ended and the item fails."""
    train_processes: PositiveInt = 1
    """Processes that train together, each on its own GPU. They share `alignment.batch_size`."""
    train_strategy: TrainStrategy = "ddp"
    """`ddp`: each training process holds the whole model. `fsdp2`: each a part, for models too large for one GPU."""
    hand_over: str | None = None
    """A deployment on a GPU work pool, such as `retrain/generate`. Its runs do the stages that need the model, and both
    sides must reach the store. None does these stages where the run is."""
    batch_minutes: Positive = 10.0
    """Work per Prefect task, by measured item time. A task has at most 64 items."""
    retention: Literal["all", "kept"] = "all"
    """`kept` drops latents and conditioning of candidates that selection did not keep, once a run has completed."""
    trackers: tuple[TrackerName, ...] = ()
    """Where a training is logged besides TensorBoard: `wandb`, `mlflow` (extra [track]). Nothing is sent unless one is
    named here; their own environment variables say where to (`WANDB_MODE`, `MLFLOW_TRACKING_URI`)."""
    max_failed: Fraction = 0.1
    """Share of a stage's items that may fail (by the machine's fault) before the run fails."""

    @model_validator(mode="before")
    @classmethod
    def _without_runner(cls, fields: Any) -> Any:
        """Drop `runner`, which older configs have. `gpus` and the address of `cluster` replaced it."""
        if not isinstance(fields, dict) or "runner" not in fields:
            return fields
        if fields["runner"] in ("dask", "ray") and not fields.get("cluster"):
            raise ValueError(
                f"runner: {fields['runner']} without a cluster is gone; start one and name its address in "
                "execution.cluster, or leave runner out: execution.workers and gpus are processes of this machine"
            )
        return {name: value for name, value in fields.items() if name != "runner"}

    @model_validator(mode="after")
    def _check(self) -> Execution:
        if self.cluster is not None and not self.cluster.startswith(("tcp://", "tls://", "ray://")):
            raise ValueError(f"cluster must be tcp://, tls:// (Dask) or ray:// and an address, got '{self.cluster}'")
        if self.gpus % self.gpus_per_clip:
            raise ValueError(f"gpus must be a multiple of gpus_per_clip, got {self.gpus} and {self.gpus_per_clip}")
        if self.gpus_per_clip > 1 and (self.compile or self.cluster is not None):
            other = "compile" if self.compile else "cluster"
            raise ValueError(f"gpus_per_clip can't be used together with {other}; leave one of them out")
        return self


class RunConfig(Config):
    """The complete config of one run."""

    name: str
    clips: ClipsConfig
    poses: PosesConfig = PosesConfig()
    candidates: CandidatesConfig
    scores: ScoresConfig = ScoresConfig()
    selection: SelectionConfig = SelectionConfig()
    shards: ShardsConfig = ShardsConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    rounds: RoundsConfig = RoundsConfig()
    execution: Execution = Execution()

    @property
    def evaluated(self) -> CandidatesConfig:
        """How the evaluation generates: `candidates`, with what `evaluation.sampler` changes."""
        changed = {name: value for name, value in self.evaluation.sampler if value is not None}
        return self.candidates.model_copy(update=changed)

    def _addresses(self) -> Iterator[tuple[str, str]]:
        """Names and values of the fields that may be URLs."""
        yield from (("clips.sources", source) for source in self.clips.sources)
        yield "clips.metadata", self.clips.metadata or ""
        yield "clips.references", self.clips.references or ""
        yield "execution.store", self.execution.store or ""

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        for name, address in self._addresses():
            host = address.partition("://")[2].partition("/")[0]
            secret = ":" in host and not address.startswith("http")  # No port. One of Amazon may hold a "/".
            if "@" in host or (secret and "@" in address):
                raise ValueError(
                    f"{name}: the address ...@{address.rpartition('@')[2]} holds a password, and configs lie in runs' "
                    "records; leave it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                )
        parts = self.alignment.accumulation * self.execution.train_processes
        if self.alignment.batch_size % parts:
            raise ValueError(
                "alignment.batch_size must be a multiple of alignment.accumulation times execution.train_processes, "
                f"got {self.alignment.batch_size}, {self.alignment.accumulation} and {self.execution.train_processes}"
            )
        if self.alignment.method == "dpo" and self.alignment.batch_size // parts % 2:
            raise ValueError(
                "method: dpo takes both of a pair in one process: alignment.batch_size over alignment.accumulation and "
                f"execution.train_processes must be even, got {self.alignment.batch_size // parts}"
            )
        if self.alignment.experts == "both" and self.execution.train_processes > 1:
            raise ValueError(
                "alignment.experts: both can't be trained by several processes, because their batches go to different "
                "experts; set execution.train_processes to 1, or train low and high one after the other"
            )
        if self.alignment.latents == "driving" and self.clips.references is not None:
            raise ValueError(
                "alignment.latents: driving would teach the person of the driving video for the picture of another "
                "(clips.references); take one of the two out"
            )
        if self.candidates.retarget and self.clips.references is None:
            raise ValueError(
                "candidates.retarget changes nothing where each clip animates its own person; name a folder with "
                "pictures of others in clips.references"
            )
        if self.alignment.preview_every and self.evaluated.loras:
            raise ValueError(
                "alignment.preview_every can't show the adapter with the LoRAs that the evaluation adds; set it to 0, "
                "or evaluation.sampler.loras to []"
            )
        if self.selection.rank_by == "fingers" and not self.scores.fingers:
            raise ValueError("selection.rank_by is fingers, which scores.fingers: false leaves unmeasured")
        return self
