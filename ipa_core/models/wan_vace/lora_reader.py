"""Read LoRA files of Wan models, in the names of diffusers, ComfyUI, musubi-tuner (kohya), DiffSynth and PEFT.

A file is loaded whole, or refused: a LoRA of which a part is left out gives videos that nobody trained.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import safetensors.torch
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from torch import Tensor

from ipa_core.config import ConfigError
from ipa_core.models.animation import LORA_FILE
from ipa_core.models.wan_vace.lora import diffusers_lora

log = logging.getLogger(__name__)
FORMATS: Final = "diffusers, ComfyUI, musubi-tuner (kohya), DiffSynth or PEFT"
_PREFIXES: Final = ("transformer.", "diffusion_model.", "base_model.model.", "pipe.dit.", "lora_unet_")
_PART: Final = re.compile(r"(.+)\.(?:lora_(?:(A|down)|(B|up))(?:\.default)?\.weight|(alpha))")
_ORIGINAL: Final = (
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])$", r".\1"),
    (r"\.to_out\.0$", ".o"),
    (r"\.ffn\.net\.0\.proj$", ".ffn.0"),
    (r"\.ffn\.net\.2$", ".ffn.2"),
    (r"(vace_blocks\.\d+)\.proj_in$", r"\1.before_proj"),
    (r"(vace_blocks\.\d+)\.proj_out$", r"\1.after_proj"),
    (r"^condition_embedder\.time_embedder\.linear_1$", "time_embedding.0"),
    (r"^condition_embedder\.time_embedder\.linear_2$", "time_embedding.2"),
    (r"^condition_embedder\.text_embedder\.linear_1$", "text_embedding.0"),
    (r"^condition_embedder\.text_embedder\.linear_2$", "text_embedding.2"),
    (r"^condition_embedder\.time_proj$", "time_projection.1"),
    (r"^proj_out$", "head.head"),
)
"""From diffusers' name of a layer to that of the original Wan code."""


@dataclass
class _Layer:
    """A LoRA of one layer: up @ down * alpha / rank is added to its weight. down: [r, in], up: [out, r]."""

    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None


@dataclass
class _Found:
    layers: dict[str, _Layer] = field(default_factory=dict)
    """By diffusers' name of the layer."""
    unknown: list[str] = field(default_factory=list)
    """Names in the file that mean nothing in this model."""


def combined_loras(loras: Sequence[tuple[bytes, float]], model: torch.nn.Module) -> bytes:
    """Return several LoRA files, each with its weight, as one file that :func:`read_lora` takes.

    The sum of LoRAs is a LoRA, whose rank is the sum of theirs. Raises ``ConfigError`` as :func:`read_lora` does.
    """
    if [weight for _, weight in loras] == [1.0]:
        return read_lora(loras[0][0], model)
    together: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for data, weight in loras:
        layers, settings, experts = _read(data, model)
        scales = _scales(layers, settings)
        for name, layer in layers.items():
            assert layer.down is not None and layer.up is not None
            scaled = layer.up.float() * (weight * scales[name])
            together.setdefault(name, []).append((layer.down.float(), scaled))
    sums = {
        name: _Layer(down=torch.cat([down for down, _ in parts]), up=torch.cat([up for _, up in parts], dim=1))
        for name, parts in together.items()
    }
    return _written(sums, {}, "" if experts else "transformer.")


def read_lora(data: bytes, model: torch.nn.Module) -> bytes:
    """Return a LoRA file as the file that diffusers loads onto this transformer, with its scaling in the metadata.

    A file of diffusers with metadata comes back as it is. Where a file has no alpha, alpha is the rank: the convention
    of all these formats; a warning says so. Raises ``ConfigError`` for a file that can't be loaded whole.
    """
    layers, settings, experts = _read(data, model)
    if settings and all(name.startswith(("transformer.", "transformer_2.")) for name in _parsed(data)[0]):
        return data
    return _written(layers, _scales(layers, settings), "" if experts else "transformer.")


def _read(data: bytes, model: torch.nn.Module) -> tuple[dict[str, _Layer], Mapping[str, Any], bool]:
    """Return the layers, the adapter's settings, and whether the model has two experts. Raises ``ConfigError``."""
    tensors, settings = _parsed(data)
    linear = {name: tuple(part.weight.shape) for name, part in model.named_modules() if type(part) is torch.nn.Linear}
    found = _layers(tensors, linear)
    experts = any(map(_of_expert, linear))
    if found.unknown and experts and not any(map(_of_expert, found.unknown)):
        raise ConfigError(
            f"the LoRA says not to which of the two experts it belongs: its names, such as {found.unknown[0]}, begin "
            f"neither with transformer (high noise) nor with transformer_2 (low noise); take {LORA_FILE}, which has it"
        )
    if experts and not found.unknown and not _says_expert(tensors, settings):
        raise ConfigError(
            "the LoRA says not to which of the two experts it belongs: names that all begin with transformer stand in "
            f"files for either one, and for models with one transformer; take {LORA_FILE}, which has it"
        )
    if found.unknown:
        raise ConfigError(
            f"the LoRA has {len(found.unknown)} names that this model does not have, such as {found.unknown[0]}: it is "
            f"of another model, or in none of the formats {FORMATS}"
        )
    if not found.layers:
        raise ConfigError("the LoRA holds no weights")
    for name, layer in found.layers.items():
        _check(name, layer, linear[name])
    return found.layers, settings, experts


def adapter_of(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file as :func:`read_lora` returns it, and the arguments of its ``LoraConfig``."""
    tensors, settings = _parsed(data)
    return tensors, {name.removeprefix("transformer."): value for name, value in settings.items()}


def _of_expert(layer: str) -> bool:
    return layer.startswith(("transformer.", "transformer_2."))


def _says_expert(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> bool:
    """Return whether the names mean experts. diffusers' own files say transformer for each model and each expert; only
    the adapted layers in the settings tell such a file from one for the expert of this name."""
    if any(name.startswith("transformer_2.") for name in tensors):
        return True
    layers = settings.get("transformer.target_modules") or ()
    return bool(layers) and all(
        layer.startswith("transformer") for layer in ([layers] if isinstance(layers, str) else layers)
    )


def _parsed(data: bytes) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Return the tensors, and the adapter's settings where diffusers wrote them."""
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        about = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        settings = json.loads(about.get(LORA_ADAPTER_METADATA_KEY, "{}"))
    except (SafetensorError, ValueError, RecursionError):
        raise ConfigError(
            "the LoRA is no whole safetensors file; other files (.bin, .pt, .ckpt) are pickles, which may run code, "
            "and are never loaded: convert it"
        ) from None
    if not isinstance(settings, dict):
        raise ConfigError("the LoRA's metadata are of another form than diffusers writes; write the file again")
    return tensors, settings


def _layers(tensors: Mapping[str, Tensor], linear: Mapping[str, tuple[int, ...]]) -> _Found:
    names = _aliases(linear)
    found = _Found()
    for name, tensor in sorted(tensors.items()):
        match = _PART.fullmatch(name)
        # The name as it is comes first: a model with two experts has layers that begin with a prefix.
        layer = names.get(match[1], names.get(_bare(match[1]))) if match else None
        if match is None or layer is None:
            found.unknown.append(name)
            continue
        part = "down" if match[2] else "up" if match[3] else "alpha"
        entry = found.layers.setdefault(layer, _Layer())
        if getattr(entry, part) is not None:
            raise ConfigError(
                f"the LoRA has {layer} twice, in two kinds of names, such as {name}: take one of them out"
            )
        setattr(entry, part, _number(layer, tensor) if part == "alpha" else tensor)
    return found


def _number(layer: str, alpha: Tensor) -> float:
    if alpha.numel() != 1 or not alpha.float().isfinite().all():
        raise ConfigError(
            f"the LoRA's alpha of {layer} is no number: the file is damaged, or its training has diverged"
        )
    return float(alpha)


def _aliases(linear: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Return the layer by each of its names: diffusers', the original one, and both as kohya writes them."""
    found = {}
    for layer in linear:
        original = layer
        for pattern, replacement in _ORIGINAL:
            original = re.sub(pattern, replacement, original)
        for name in (layer, original):
            found[name] = found[name.replace(".", "_")] = layer
    return found


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _check(name: str, layer: _Layer, shape: tuple[int, ...]) -> None:
    if layer.down is None or layer.up is None:
        half = "down (lora_A)" if layer.down is None else "up (lora_B)"
        raise ConfigError(f"the LoRA lacks the {half} half of {name}: the file is not whole")
    down, up = tuple(layer.down.shape), tuple(layer.up.shape)
    if len(down) != 2 or len(up) != 2 or not down[0] or down[0] != up[1] or (up[0], down[1]) != shape:
        raise ConfigError(
            f"the LoRA of {name} has the shapes {up} and {down}, the layer here is {shape}: it is of a model of "
            "another size"
        )
    if not (layer.down.float().isfinite().all() and layer.up.float().isfinite().all()):
        raise ConfigError(f"the LoRA of {name} holds NaN or infinity: its training has diverged")


def _scales(layers: Mapping[str, _Layer], settings: Mapping[str, Any]) -> dict[str, float]:
    """Return each layer's alpha / rank. Where a file has no alpha, alpha is the rank; a warning says so."""
    about = {name.removeprefix("transformer."): value for name, value in settings.items()}
    if about.get("use_dora") or about.get("use_rslora"):
        raise ConfigError("the LoRA is a DoRA or rank-stabilised, which can't be added to others; use it alone")
    usual, pattern = about.get("lora_alpha"), about.get("alpha_pattern") or {}
    scales = {}
    for name, layer in layers.items():
        assert layer.down is not None
        alpha = layer.alpha if layer.alpha is not None else pattern.get(get_pattern_key(list(pattern), name), usual)
        scales[name] = 1.0 if alpha is None else alpha / layer.down.shape[0]
    if usual is None and any(layer.alpha is None for layer in layers.values()):
        log.warning("the LoRA has no alpha; it is used at full strength (alpha = rank)")
    return scales


def _written(layers: Mapping[str, _Layer], scales: Mapping[str, float], prefix: str) -> bytes:
    """Write the file with each scale in ``up``, so that alpha is the rank everywhere."""
    state: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for name, layer in layers.items():
        assert layer.down is not None and layer.up is not None
        ranks[name] = layer.down.shape[0]
        state[f"{name}.lora_A.weight"] = layer.down
        scale = scales.get(name, 1.0)
        state[f"{name}.lora_B.weight"] = (layer.up if scale == 1 else layer.up.float() * scale).contiguous()
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {name: other for name, other in ranks.items() if other != rank}
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=sorted(ranks), rank_pattern=others, alpha_pattern=dict(others)
    )
    return diffusers_lora(state, config, prefix)
