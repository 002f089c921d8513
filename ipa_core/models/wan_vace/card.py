"""The model card of a trained LoRA."""

from __future__ import annotations

from ipa_core.config import AlignmentConfig

_METHODS = {
    "ipa": "Implicit Preference Alignment with hand-aware local optimisation (arXiv 2605.07545)",
    "sft": "supervised fine-tuning by the hand-weighted flow-matching error, the baseline of Implicit Preference "
    "Alignment (arXiv 2605.07545)",
    "dpo": "Flow-DPO (arXiv 2501.13918) on pairs of candidates of one clip, weighted on the hands",
    "kto": "unpaired preference alignment (after KTO, arXiv 2605.04653), weighted on the hands",
    "awm": "advantage-weighted matching (arXiv 2509.25050), weighted on the hands",
    "nft": "negative-aware fine-tuning (DiffusionNFT, arXiv 2509.16117), weighted on the hands",
}

_VIDEOS = {
    "candidates": "preferred videos, chosen for their hands from what this model, or an adapter of it, had generated",
    "losers too": "videos, the preferred ones and others of the same clips, chosen for their hands from what this\n"
    "model, or an adapter of it, had generated",
    "driving": "driving videos, the baseline of a base model trained longer",
}

_CARD = """\
---
base_model: {base_model}
library_name: diffusers
pipeline_tag: image-to-video
tags:
- lora
- {tag}
- human-image-animation
---
# LoRA for {base_model}: better hands

Trained on {samples} {videos}, by
{method}: {steps} steps of {batch_size}, rank {rank}, alpha {alpha}.

| file | for |
|---|---|
| `pytorch_lora_weights.safetensors` | diffusers |
| `comfyui_lora.safetensors` | ComfyUI |

```python
from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained("{base_model}")
pipeline.load_lora_weights("path/to/this/folder", weight_name="pytorch_lora_weights.safetensors")
```

{experts}## Configuration

```json
{config}
```
"""


_EXPERTS = """\
The base model has two experts, and each adapted expert has the two files above for itself, with `_high_noise` or
`_low_noise` in their names. `load_lora_weights` wants `load_into_transformer_2=True` for the low noise, and ComfyUI
loads each file behind the model of the same noise.

"""


def model_card(
    config: AlignmentConfig, base_model: str, samples: int, *, pipeline: str = "WanVACEPipeline", tag: str = "wan-vace"
) -> str:
    """Return Markdown with the head that the Hugging Face hub reads. ``base_model``: a hub id or a name, not a path."""
    videos = "losers too" if config.learns_from_losers else "candidates"
    return _CARD.format(
        base_model=base_model,
        pipeline=pipeline,
        tag=tag,
        samples=samples,
        videos=_VIDEOS["driving" if config.latents == "driving" else videos],
        method=_METHODS[config.method],
        steps=config.steps,
        batch_size=config.batch_size,
        rank=config.rank,
        alpha=config.alpha,
        experts=_EXPERTS if "Wan2.2-VACE" in base_model else "",
        config=config.model_dump_json(indent=2, exclude={"experts"} if "Wan2.2-VACE" not in base_model else None),
    )
