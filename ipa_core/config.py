"""What a run computes (the stages' configs) and how (:class:`Execution`).

Every field of a stage's config can change the result, so it enters the action key of the stages that use it. No
field of :class:`Execution` ever does.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
DType = Literal["float32", "bfloat16"]
TrainStrategy = Literal["ddp", "fsdp2"]


LATER: Final = "later"
"""Marks a field that was added when stores were in use: ``Annotated[float | None, LATER] = None``. At its default,
which must be what was done before, it is left out of every key."""


def is_later(field: FieldInfo) -> bool:
    return LATER in field.metadata


class ConfigError(Exception):
    """A config that can't be used; the message says which field, what was read, and what it should be."""


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ClipsConfig(Config):
    """Driving videos -> clips."""

    sources: tuple[str, ...]
    """Video files, folders (read recursively) or globs, also as URLs (`s3://bucket/videos/`). Paths never enter a key:
    their bytes do."""
    metadata: str | None = None
    """CSV or Parquet table (or its URL) with a column `file` (name or path as under sources) and any of `prompt`,
    `group`, `split` (`train` or `held_out`, of the whole group)."""
    prompt: str = ""
    """For videos without a prompt of their own."""
    frames: PositiveInt = 81
    """F, pictures per clip."""
    fps: Positive = 16.0
    """Pictures per second; sources are resampled by their time stamps."""
    width: PositiveInt = 832
    height: PositiveInt = 480
    min_source_fps: Positive = 8.0
    """Videos with fewer pictures per second are rejected: their hands jump."""
    max_windows: PositiveInt | None = None
    """Windows taken from one video, from the start; None takes all."""
    cut_threshold: Positive = 0.3
    """Two pictures belong to different shots when their colour histograms differ by more (Hellinger distance)."""
    crop: Literal["person", "center"] = "person"
    """`person`: the rectangle of the target's aspect around the person of the window; falls back to `center`."""
    crop_margin: Annotated[float, Field(ge=0, le=2)] = 0.15
    """Added around the person, as a share of the person's height."""
    reference: Literal["random", "first"] = "random"
    """Which frame of the clip is the reference image; `random` (the paper) follows from the source's digest."""
    held_out: Fraction = 0.2
    """Share of the groups that are kept for evaluation, by hash of the group; of those whose split no table says."""

    @model_validator(mode="after")
    def _check(self) -> ClipsConfig:
        if self.frames % 4 != 1:
            raise ValueError(f"frames must be 4n + 1 (5, 9, ..., 81) for the Wan codec, got {self.frames}")
        if self.width % 16 or self.height % 16:
            raise ValueError(f"width and height must be multiples of 16, got {self.width} x {self.height}")
        return self


class PosesConfig(Config):
    """Clips -> pose sequences."""

    backend: Literal["mediapipe", "ultralytics", "dwpose"] = "mediapipe"
    model: str | None = None
    """Weights or model folder of the backend; None takes the ones that come with it."""
    person: Literal["tracked", "largest"] = "tracked"
    """Of several people: the one seen longest over the clip, or the largest of each frame."""
    min_person_height: Fraction = 0.25
    """Smaller people (height of their body points over the picture's height) are rejected."""
    min_frames_found: Fraction = 0.8
    """Share of the frames in which the person must be found."""
    min_hand_confidence: Fraction = 0.5
    """A hand below this presence counts as not found."""


class ModelConfig(Config):
    """The animation model."""

    path: str
    """A diffusers pipeline folder, or a hub id such as `Wan-AI/Wan2.1-VACE-1.3B-diffusers`."""
    revision: str | None = None
    """Commit of a hub model."""
    dtype: DType = "bfloat16"


class DrawingConfig(Config):
    """How a pose sequence is drawn as the control video."""

    profile: Literal["vace"] = "vace"
    """The only one that a model knows. It stays a field because it is in the keys of what was made already."""
    hand_detail: Literal["full", "palm", "none"] = "full"
    """`palm` draws the wrist and the first finger joints only: the model has to invent the fingers."""
    face: bool = True


class CandidatesConfig(Config):
    """Clips and poses -> K generated videos per clip."""

    model: ModelConfig
    per_clip: PositiveInt = 4
    """K, candidates of a clip."""
    group: Annotated[PositiveInt | None, LATER] = None
    """Candidates that are sampled as one batch and kept together; None: all of a clip. `per_clip: 8` with `group: 4`
    takes the four that a store has and generates four more."""
    seed: int = 0
    """Shifts all seeds; each follows from this, the clip's digest and its number in the group."""
    drawing: DrawingConfig = DrawingConfig()
    steps: PositiveInt = 50
    scheduler: Literal["euler", "unipc"] = "unipc"
    shift: Positive = 16.0
    guidance_scale: Annotated[float, Field(ge=1)] = 5.0
    """Classifier-free guidance; 1 switches it off."""
    negative_prompt: str = ""

    @property
    def group_size(self) -> int:
        return self.group or self.per_clip

    @property
    def seed_groups(self) -> int:
        """Seed groups of a clip."""
        return -(-self.per_clip // self.group_size)

    @model_validator(mode="after")
    def _check(self) -> CandidatesConfig:
        if self.group is not None and self.per_clip > self.group and self.per_clip % self.group:
            raise ValueError(
                f"per_clip must be a multiple of group, or less than it, got {self.per_clip} and {self.group}"
            )
        return self


class ScoresConfig(Config):
    """Candidates -> hand scores; see scoring.quality for how the components become one score."""

    min_hand_size: Positive = 16.0
    """Pixels; smaller driving hands are unscorable (facts: landmark error 7 % of the hand at 16, 14 % at 8)."""
    trusted_hand_size: Positive = 32.0
    """Pixels; hands from this size up count fully, smaller ones proportionally less."""
    pck_radius: Positive = 0.2
    """In hand sizes."""
    fingers: bool = True
    """Look at the fingers with a small network of our own (scoring.fingers), besides the keypoints."""
    model: str | None = None
    """Coefficients that `ipa lab score fit` wrote; None takes the packaged ones."""
    reward: str | None = None
    """A second opinion. `dwpose`: that pose backend's confidence of the hand points; otherwise an entry point of the
    group `ipa.rewards`, or `module:attribute` (see scoring.scorer.Reward), which must change its name when it changes
    its answers: the name is in the key."""
    reward_model: str | None = None
    """The model folder of `dwpose`, as poses.model would name it."""
    reward_weight: Annotated[float, Field(ge=0)] = 2.0
    """Of its mean, in logits per unit."""
    good_hand: Fraction = 0.5
    """A hand in a frame counts as good from this score up (for the four cases of the yield report)."""


class SelectionConfig(Config):
    """Hand scores -> preferred samples. What people decide by hand (`ipa review`) comes before all of it."""

    pick: Literal["best", "random", "worst"] = "best"
    """Who comes first where limits let only some through. `random` and `worst` are the controls of an experiment: what
    training on them gains as well is no merit of the preference. The other rules hold for them too."""
    rank_by: Literal["score", "confidence", "fingers"] = "score"
    """Whose highest value is best: the hand score, or one of its components, so that the others are no judges in their
    own cause. Threshold and margin are of the score all the same."""
    threshold: Fraction = 0.5
    """Least score of a kept candidate."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """How far a kept candidate must lie above the median of its clip's candidates; 0 asks for no comparison."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A kept candidate must be in this first share of all candidates of the run, in the order of `pick`; 1 asks for no
    comparison."""
    per_clip: PositiveInt = 1
    """Kept per clip at most, in the order of `pick`."""
    per_motion: PositiveInt | None = None
    """Kept per source video at most, over all its clips; None asks for no limit."""
    min_pose_distance: Annotated[float, Field(ge=0)] = 0.0
    """Least distance of a kept clip's driving motion from those of better kept clips, in body sizes whatever the place
    and size of the person (see scoring.motion); 0 asks for no comparison."""


class ShardsConfig(Config):
    """Preferred samples -> WebDataset shards."""

    samples_per_shard: PositiveInt = 64


class AlignmentConfig(Config):
    """Shards -> LoRA by Flow-IPA with HALO. The paper's ambiguities are fields; defaults follow it where it says."""

    method: Literal["ipa", "sft"] = "ipa"
    """`sft` trains on the same samples by the weighted flow-matching error alone (the baseline)."""
    beta: Positive = 600.0
    hand_weight: Annotated[float, Field(ge=0)] = 10.0
    """lambda in W = 1 + lambda * M. (The public code's multiplier w is lambda + 1.)"""
    reduction: Literal["mean", "sum"] = "mean"
    """Of the weighted squared error over a sample's latent elements."""
    timesteps: Literal["uniform", "shifted"] = "uniform"
    """t ~ U(0, 1), or that moved by `timestep_shift`."""
    timestep_shift: Positive = 16.0
    """With `shifted`: t becomes shift * t / (1 + (shift - 1) * t), as in sampling."""
    mask_time: Literal["max", "mean", "nearest"] = "max"
    """How the frames of one latent frame share their hand mask."""
    latents: Literal["sampled", "reencoded", "driving"] = "sampled"
    """Train on the candidate's final latents, on its decoded video encoded again, or on the driving clip in its place:
    with `sft` that is the base model trained longer on true videos."""
    rank: PositiveInt = 128
    alpha: PositiveInt = 128
    targets: Literal["self", "self_cross"] = "self_cross"
    """Attention whose q, k, v projections get a LoRA."""
    vace_blocks: bool = False
    """Also in the control branch. ComfyUI loads the main blocks only."""
    learning_rate: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    max_grad_norm: Positive = 1.0
    steps: PositiveInt = 1000
    batch_size: PositiveInt = 8
    """Samples per optimizer step, over all processes and accumulation steps."""
    accumulation: PositiveInt = 1
    """Parts in which a batch is computed."""
    gradient_checkpointing: bool = False
    dtype: DType = "bfloat16"
    seed: int = 0
    checkpoint_every: PositiveInt = 100
    """Steps. In the config because it is part of the recipe that `resume` promises to repeat; not in the key."""

    @model_validator(mode="after")
    def _check(self) -> AlignmentConfig:
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size must be a multiple of accumulation, got {self.batch_size} and {self.accumulation}"
            )
        return self


class ExtractorConfig(Config):
    """A TorchScript video feature extractor for FVD or FID-VID."""

    path: str
    sha256: str


class EvaluationConfig(Config):
    """Base against aligned model on held-out clips."""

    per_clip: PositiveInt = 2
    """Seeds per held-out clip; the same for both models."""
    max_clips: PositiveInt | None = None
    """Held-out clips at most, chosen by a hash of their content; None: all."""
    bootstrap: PositiveInt = 2000
    """Resamples of the clips for the intervals."""
    fvd: ExtractorConfig | None = None
    fid_vid: ExtractorConfig | None = None


class RoundsConfig(Config):
    """From one run to the next: who generates, and when an adapter becomes champion. In no key: with `on_policy` the
    champion's LoRA is an input of the candidates, and the rule is applied to what was evaluated."""

    on_policy: bool = False
    """Generate the candidates with the champion of this base model, where there is one. Training still starts a fresh
    LoRA on the base model, which stays the reference: rounds don't pile adapters up. A new champion is something new,
    so scheduled runs go on without new videos until a challenger is refused."""
    min_clips: PositiveInt = 6
    """Held-out clips that a promotion needs. Chance alone wins 5 of 5 clips once in 32 times, 6 of 6 once in 64."""
    max_psnr_drop: Annotated[float, Field(ge=0)] = 0.5
    """dB that a new champion may lose against the one before over the whole picture."""
    max_ssim_drop: Annotated[float, Field(ge=0)] = 0.01


class Execution(Config):
    """How a run is computed. Never in a key; may change low bits: the first committed result stands."""

    store: str | None = None
    """Folder or URL (`s3://bucket/store`) of the store; None takes `IPA_HOME`, else `.ipa` in the working directory."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: PositiveInt = Field(default_factory=lambda: max(1, min(8, os.cpu_count() or 1)))
    """Processes for decoding, poses and scores."""
    cluster: str | None = None
    """Address of a Dask scheduler (`tcp://host:8786`) or a Ray head (`ray://host:10001`) whose workers compute (extras
    [dask] and [ray]); None: this machine."""
    gpus: PositiveInt = 1
    """Processes that compute with the animation model at the same time, each on a GPU of its own."""
    item_minutes: Positive = 120.0
    """An item that shows no progress for so long counts as hung: its process is ended and the item fails."""
    train_processes: PositiveInt = 1
    """Processes that train together, a GPU each; `alignment.batch_size` is shared among them."""
    train_strategy: TrainStrategy = "ddp"
    """What several hold of the model. `ddp`: each the whole; `fsdp2`: each a part, for models too large for one GPU."""
    hand_over: str | None = None
    """A deployment on a GPU work pool, such as `retrain/generate`, whose runs do the stages that need the model; the
    store must be one that both sides reach. None does them where the run is."""
    batch_minutes: Positive = 10.0
    """Work per Prefect task, by measured item time; 64 items at most."""
    retention: Literal["all", "kept"] = "all"
    """`kept` drops latents and conditioning of candidates that selection did not keep, once a run has completed."""
    max_failed: Fraction = 0.1
    """Share of a stage's items that may fail (by the machine's fault) before the run fails."""

    @model_validator(mode="before")
    @classmethod
    def _without_runner(cls, fields: Any) -> Any:
        """`runner` was an option until `gpus` and the address of `cluster` came to say the same; older configs have
        it."""
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
        return self


class RunConfig(Config):
    """One run, complete."""

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

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        parts = self.alignment.accumulation * self.execution.train_processes
        if self.alignment.batch_size % parts:
            raise ValueError(
                "alignment.batch_size must be a multiple of alignment.accumulation times execution.train_processes, "
                f"got {self.alignment.batch_size}, {self.alignment.accumulation} and {self.execution.train_processes}"
            )
        if self.selection.rank_by == "fingers" and not self.scores.fingers:
            raise ValueError("selection.rank_by is fingers, which scores.fingers: false leaves unmeasured")
        return self


Kind = TypeVar("Kind", bound=Config)


def read_config(path: Path, kind: type[Kind]) -> Kind:
    """A YAML file as it stands. Raises :class:`ConfigError` with the fields that are wrong."""
    try:
        return kind.model_validate(yaml.safe_load(path.read_text()) or {})
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {path}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise ConfigError(f"{path} can't be used: " + "; ".join(lines)) from None


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML run config and apply ``a.b=VALUE`` overrides (VALUE is YAML).

    Relative paths in the file are meant from the file's folder, relative paths in overrides from the working directory.
    Raises :class:`ConfigError`.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {path}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no mapping of stages; see configs/demo.yaml for a complete one")
    _resolve_paths(tree, path.resolve().parent)
    for override in overrides or []:
        name, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set wants FIELD=VALUE, got '{override}'")
        changed: dict[str, Any] = {}
        _put(changed, name.split("."), yaml.safe_load(text), override)
        _resolve_paths(changed, Path.cwd())
        tree = _merge(tree, changed)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        lines = [
            # What is wrong between two stages has no place of its own, and would show the whole file.
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']} (got {problem['input']!r})"
            if problem["loc"]
            else problem["msg"]
            for problem in error.errors()
        ]
        raise ConfigError(f"{path} can't be used: " + "; ".join(lines)) from None


_PATHS = (
    ("clips", "sources"),
    ("clips", "metadata"),
    ("poses", "model"),
    ("candidates", "model", "path"),
    ("scores", "model"),
    ("scores", "reward_model"),
    ("evaluation", "fvd", "path"),
    ("evaluation", "fid_vid", "path"),
    ("execution", "store"),
)


def _resolve_paths(tree: dict[str, Any], base: Path) -> None:
    for *parents, last in _PATHS:
        node: Any = tree
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get(last) is not None:
            value = node[last]
            if "model" in parents and _is_hub_id(value, base):
                continue
            node[last] = [_from(base, item) for item in value] if isinstance(value, list) else _from(base, value)


def _is_hub_id(value: Any, base: Path) -> bool:
    """``owner/name`` that is no folder here."""
    return (
        isinstance(value, str)
        and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value) is not None
        and not (base / value).exists()
    )


def _from(base: Path, value: Any) -> Any:
    """Absolute path of a relative one; a URL stays as it is."""
    if not isinstance(value, str) or "://" in value:
        return value
    return os.path.normpath(base / Path(value).expanduser())


def _put(tree: dict[str, Any], names: list[str], value: Any, override: str) -> None:
    *parents, last = names
    if not all(names):
        raise ConfigError(f"--set wants FIELD=VALUE with dots between names, got '{override}'")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[last] = value


def _merge(base: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changed.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merge(merged[name], value) if both else value
    return merged
