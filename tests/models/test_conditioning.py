from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from blake3 import blake3

from ipa_core.models.conditioning import Conditioning
from ipa_core.models.latents import latents_to_bytes


def conditioning(dtype: torch.dtype = torch.float32) -> Conditioning:
    generator = torch.Generator().manual_seed(0)
    control, reference, prompt, negative = (
        torch.randn(shape, generator=generator) for shape in ((1, 20, 4, 2, 2), (1, 8, 1, 2, 2), (1, 5, 6), (1, 5, 6))
    )
    return Conditioning(
        shared={"control": control.to(dtype)},
        guided={"prompt_embeds": prompt.to(dtype)},
        unguided={"prompt_embeds": negative.to(dtype)},
        reference_latents=reference,
        frames=9,
        height=16,
        width=16,
    )


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(stream, other[name]) for name, stream in one.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bytes_give_back_every_field(dtype: torch.dtype) -> None:
    given = conditioning(dtype)

    again = Conditioning.from_bytes(given.to_bytes())

    assert given.unguided is not None and again.unguided is not None
    assert (
        same(again.shared, given.shared) and same(again.guided, given.guided) and same(again.unguided, given.unguided)
    )
    assert torch.equal(again.reference_latents, given.reference_latents)
    assert (again.frames, again.height, again.width) == (9, 16, 16)


def test_bytes_without_guidance_give_back_the_streams() -> None:
    given = replace(conditioning(), unguided=None)

    again = Conditioning.from_bytes(given.to_bytes())

    assert again.unguided is None
    assert same(again.streams(), given.streams())
    assert again.to_bytes() == given.to_bytes()


def test_streams_of_the_two_passes() -> None:
    given = conditioning()

    assert same(given.streams(), {**given.shared, **given.guided})
    assert same(given.streams(guided=False), {**given.shared, **(given.unguided or {})})
    with pytest.raises(ValueError, match="encoded without one"):
        replace(given, unguided=None).streams(guided=False)


def test_bytes_do_not_depend_on_the_memory_layout() -> None:
    strided = conditioning().shared["control"].transpose(1, 2).contiguous().transpose(1, 2)

    assert replace(conditioning(), shared={"control": strided}).to_bytes() == conditioning().to_bytes()


def test_the_format_is_fixed() -> None:
    given = Conditioning(
        {"control": torch.zeros(1, 3, 2, 1, 1)},
        {"prompt_embeds": torch.ones(1, 2, 2)},
        None,
        torch.ones(1, 1, 1, 1, 1),
        5,
        16,
        32,
    )
    guided = replace(given, unguided={"prompt_embeds": torch.zeros(1, 2, 2)})

    assert blake3(given.to_bytes()).hexdigest()[:16] == "9f2a64d1674ab1e8"
    assert blake3(guided.to_bytes()).hexdigest()[:16] == "fa532f6c9cdff87e"


@pytest.mark.parametrize("name", ["reference_latents", "negative_prompt", "prompt_embeds"])
def test_a_name_that_can_not_be_stored_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"can't be called {name}"):
        replace(conditioning(), shared={name: torch.zeros(1)})


def test_unguided_streams_of_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \['prompt_embeds'\] and \['words'\]"):
        replace(conditioning(), unguided={"words": torch.zeros(1)})


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="no conditioning"):
        Conditioning.from_bytes(latents_to_bytes(torch.zeros(1, 1, 1, 1)))
