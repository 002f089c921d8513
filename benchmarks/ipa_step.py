"""What a step of IPA costs against one of plain supervised LoRA training (SFT), with the reference's error computed in
the step (online) or ahead (table), with and without gradient checkpointing: seconds and peak memory.

Every variant trains in a process of its own, in turn, several times round, so that what else the machine does falls on
all of them alike. A ratio is the median of the rounds' ratios, with the smallest and the largest: where they are far
apart the machine was busy. Samples are noise of the right shape: time does not depend on them.

    python benchmarks/ipa_step.py
    python benchmarks/ipa_step.py --geometry Wan2.1-VACE-1.3B-diffusers --frames 33 --height 480 --width 832 \
        --dtype bfloat16 --device cuda --batch-size 1 --steps 3 --rounds 1

``--geometry`` takes a model of that shape with random weights, on which time and memory don't depend either: nothing is
downloaded. The operations a second that it then prints are those of `ipa plan`'s formula
(ipa_core/models/wan_vace/cost.py).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from ipa_core.config import AlignmentConfig, ClipsConfig  # noqa: E402
from ipa_core.config_file import load_config  # noqa: E402
from ipa_core.models.wan_vace.cost import NETWORKS  # noqa: E402

VARIANTS = ("sft", "ipa online", "ipa table")
WARM_UP = 2
"""Steps of a process that are not counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Step time and peak memory of IPA, online and by table, against SFT.")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "demo")
    parser.add_argument("--geometry", choices=NETWORKS, help="a model of this shape, untrained, in place of --model")
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.geometry:
            options.model = Path(folder) / options.geometry
            save_untrained(options.model, options.geometry, options.dtype, options.device)
        compare(options)


def compare(options: argparse.Namespace) -> None:
    size = f"{options.frames} frames of {options.width} x {options.height}"
    print(
        f"{options.model.name}, {size}, batch of {options.batch_size}, {options.dtype}, {device_name(options.device)}"
    )
    print(f"{'':12} {'checkpointing':>14} {'step':>9} {'to SFT':>20} {'peak memory':>12} {'TFLOP/s':>8}")
    for checkpointing in (False, True):
        seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        peak = dict.fromkeys(VARIANTS, 0.0)
        for _ in range(options.rounds):
            for variant in VARIANTS:
                found = apart(options.model, variant, checkpointing)
                seconds[variant].append(median(found["seconds"]))
                peak[variant] = max(peak[variant], found["peak"])
        for variant in VARIANTS:
            step = median(seconds[variant])
            ratios = sorted(took / sft for took, sft in zip(seconds[variant], seconds["sft"], strict=True))
            to_sft = f"{median(ratios):.2f}x ({ratios[0]:.2f}-{ratios[-1]:.2f})"
            print(
                f"{variant:12} {'yes' if checkpointing else 'no':>14} {step:8.3f}s {to_sft:>20} "
                f"{peak[variant] / 2**20:8.0f} MiB {rate(options, variant, checkpointing, step):>8}",
                flush=True,
            )


def rate(options: argparse.Namespace, variant: str, checkpointing: bool, seconds: float) -> str:
    """Operations a second by formula, 1e12; a dash for a model whose sizes it doesn't know."""
    if not options.geometry:
        return "-"
    network = NETWORKS[options.geometry]
    clips = ClipsConfig(sources=["noise"], frames=options.frames, height=options.height, width=options.width)
    alignment = AlignmentConfig(gradient_checkpointing=checkpointing)
    config = load_config(ROOT / "configs" / "wan-vace-1.3b.yaml").model_copy(
        update={"clips": clips, "alignment": alignment}
    )
    flops = network.sample_flops(config)
    if variant == "ipa online":
        flops += network.forward_flops(config)
    return f"{options.batch_size * flops / seconds / 1e12:.0f}"


def save_untrained(folder: Path, geometry: str, dtype: str, device: str) -> None:
    """Save a Wan-VACE pipeline of this shape with random weights; in place of the large text encoder one of a layer,
    whose output has the same width: training doesn't run it."""
    import torch
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanVACEPipeline, WanVACETransformer3DModel
    from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

    network = NETWORKS[geometry]
    text: Any = UMT5Config(vocab_size=384, d_model=4096, d_kv=64, d_ff=1024, num_heads=8)
    text.num_layers = 1
    with torch.device(device):
        torch.manual_seed(0)
        pipeline: Any = WanVACEPipeline(
            tokenizer=ByT5Tokenizer(),
            text_encoder=UMT5EncoderModel(text),
            vae=AutoencoderKLWan(),
            transformer=WanVACETransformer3DModel(
                num_attention_heads=network.dim // 128,
                ffn_dim=network.ffn_dim,
                num_layers=network.layers,
                vace_layers=list(range(0, network.layers, network.layers // network.control_layers)),
            ).to(getattr(torch, dtype)),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    pipeline.save_pretrained(folder)


def apart(model: Path, variant: str, checkpointing: bool) -> dict[str, Any]:
    """Measure one variant in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--model", str(model), "--variant", variant]
    command += ["--checkpointing"] if checkpointing else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """seconds: of each timed step; peak: bytes, of the process, or on the GPU of what torch allocated."""
    import numpy as np
    import torch

    from ipa_core.alignment.data import TrainingSample, prepare
    from ipa_core.alignment.reference import ReferenceTable, reference_errors
    from ipa_core.alignment.trainer import train
    from ipa_core.alignment.visits import epochs_of_run
    from ipa_core.models.wan_vace.model import WanVACEModel
    from ipa_core.records import PoseSequence

    size = (options.frames, options.height, options.width)
    model = WanVACEModel.load(options.model, dtype=options.dtype, device=options.device, text_encoder=True)
    rng = np.random.default_rng(0)
    control = rng.integers(0, 256, (*size, 3), np.uint8)
    conditioning = model.encode_conditioning(control, control[0], "a person", None).to(torch.device("cpu"))
    hands = np.zeros((options.frames, 133, 2), np.float32)
    hands[:, 91:] = rng.uniform(0, min(size[1:]), (options.frames, 42, 2))
    pose = PoseSequence(hands, (hands[..., 0] > 0).astype(np.float32), options.width, options.height, "model", "noise")

    class Samples(list[TrainingSample]):
        @property
        def digests(self) -> list[str]:
            return [one.digest for one in self]

    def sample(digest: str) -> TrainingSample:
        generator = torch.Generator().manual_seed(int(digest, 16))
        latents = torch.randn(model.latent_shape(conditioning), generator=generator)
        return TrainingSample(digest, digest, latents, conditioning, pose, b"")

    samples = Samples(sample(f"{number:064x}") for number in range(options.batch_size))
    config = AlignmentConfig(
        method="sft" if options.variant == "sft" else "ipa",
        steps=options.steps + WARM_UP,
        batch_size=options.batch_size,
        dtype=options.dtype,
        gradient_checkpointing=options.checkpointing,
        checkpoint_every=options.steps + WARM_UP,
    )
    table = None
    if options.variant == "ipa table":
        table = ReferenceTable(
            samples={
                one.digest: (reference_errors(model, prepare(one, model, config), range(epochs), config),)
                for one, epochs in zip(samples, epochs_of_run(config, samples.digests), strict=True)
            }
        )
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trained = train(
        model, samples, config, checkpoints=Nowhere(), on_step=lambda log: synchronise(options.device), references=table
    )
    on_gpu = options.device == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": [log.seconds for log in trained.history[WARM_UP:]], "peak": peak}


class Nowhere:
    """A checkpoint slot that keeps nothing."""

    def load(self) -> bytes | None:
        return None

    def save(self, step: int, data: bytes) -> None: ...


def synchronise(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def device_name(device: str) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU with {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
