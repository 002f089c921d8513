from dataclasses import fields, replace

import pytest
import torch
from blake3 import blake3

from ipa_core.models import Conditioning, latents_to_bytes


def conditioning(dtype: torch.dtype = torch.float32) -> Conditioning:
    generator = torch.Generator().manual_seed(0)
    control, reference, prompt, negative = (
        torch.randn(shape, generator=generator) for shape in ((1, 20, 4, 2, 2), (1, 8, 1, 2, 2), (1, 5, 6), (1, 5, 6))
    )
    return Conditioning(control.to(dtype), reference, prompt.to(dtype), negative.to(dtype), 9, 16, 16)


@pytest.mark.parametrize(
    "given",
    [conditioning(), conditioning(torch.bfloat16), replace(conditioning(), negative_prompt_embeds=None)],
    ids=["float32", "bfloat16", "without guidance"],
)
def test_bytes_give_back_every_field(given: Conditioning) -> None:
    again = Conditioning.from_bytes(given.to_bytes())

    for field in fields(Conditioning):
        before, after = getattr(given, field.name), getattr(again, field.name)
        same = torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after
        assert same, field.name


def test_bytes_do_not_depend_on_the_memory_layout() -> None:
    control = conditioning().control
    strided = control.transpose(1, 2).contiguous().transpose(1, 2)

    assert replace(conditioning(), control=strided).to_bytes() == conditioning().to_bytes()


def test_the_format_is_fixed() -> None:
    given = Conditioning(torch.zeros(1, 3, 2, 1, 1), torch.ones(1, 1, 1, 1, 1), torch.ones(1, 2, 2), None, 5, 16, 32)

    assert blake3(given.to_bytes()).hexdigest()[:16] == "9f2a64d1674ab1e8"


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="no conditioning"):
        Conditioning.from_bytes(latents_to_bytes(torch.zeros(1, 1, 1, 1)))
