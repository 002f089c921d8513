import pytest
import safetensors.torch
import torch
from blake3 import blake3

from ipa_core.models.latents import latents_from_bytes, latents_to_bytes

LATENTS = torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2)


def test_bytes_give_back_the_latents() -> None:
    assert torch.equal(latents_from_bytes(latents_to_bytes(LATENTS)), LATENTS)


def test_lower_precision_is_stored_as_float32() -> None:
    assert latents_to_bytes(LATENTS.bfloat16()) == latents_to_bytes(LATENTS)


def test_the_format_is_fixed() -> None:
    assert blake3(latents_to_bytes(LATENTS)).hexdigest()[:16] == "a38e8dc438658735"


def test_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 2, 3, 2, 2\)"):
        latents_to_bytes(LATENTS[None])


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="no latents, but \\['noise'\\]"):
        latents_from_bytes(safetensors.torch.save({"noise": LATENTS}))
