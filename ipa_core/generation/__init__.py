"""Generate a clip's candidates with an animation model. Names that need torch load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING

from ipa_core.generation.seeds import candidate_seed

if TYPE_CHECKING:
    from ipa_core.generation.generator import Generated, animate, encode_clip, generate
    from ipa_core.generation.sampler import sample

__all__ = ["Generated", "animate", "candidate_seed", "encode_clip", "generate", "sample"]

_WITH_TORCH = {
    "Generated": "generator",
    "animate": "generator",
    "encode_clip": "generator",
    "generate": "generator",
    "sample": "sampler",
}


def __getattr__(name: str) -> object:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
