"""Candidates of one clip: our sampler against diffusers' own pipeline, seed after seed, and in each of its settings.

Every row starts from the same noise, and its latents are compared with the pipeline's. Time has everything from the
drawn pose to the final latents: encoding too, which the pipeline does again for each seed. Operations are by formula
(ipa_core/models/wan_vace/cost.py); on a GPU their share of what a plain bfloat16 product reaches there stands beside.

    python benchmarks/generation.py
    python benchmarks/generation.py --geometry Wan2.1-VACE-1.3B-diffusers --frames 33 --height 480 --width 832 \
        --dtype bfloat16 --device cuda --compile

``--geometry`` other than ``demo`` takes a model of that shape with random weights: nothing is downloaded.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.ipa_step import device_name, save_untrained, synchronise  # noqa: E402
from ipa_core.config import CandidatesConfig, ModelConfig  # noqa: E402
from ipa_core.models.wan_vace.cost import NETWORKS, Network  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

    from ipa_core.models.wan_vace.model import WanVACEModel

DEMO = "demo"
PROMPT, NEGATIVE = "a person", "blurred"


def main() -> None:
    parser = argparse.ArgumentParser(description="Our sampler against diffusers' pipeline, and its own settings.")
    parser.add_argument("--geometry", choices=[DEMO, *NETWORKS], default=DEMO)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also with compiled blocks: some minutes more")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = ROOT / "models" / "demo"
        if options.geometry != DEMO:
            path = Path(folder) / options.geometry
            save_untrained(path, options.geometry, options.dtype, options.device)
        compare(Bench(options, path))


class Bench:
    """A loaded model and one clip of noise."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        import diffusers.utils.logging
        import numpy as np

        from ipa_core.models.wan_vace.model import WanVACEModel

        diffusers.utils.logging.set_verbosity_error()  # The pipeline takes clips of every length for wrong.
        self.options = options
        self.model: WanVACEModel = WanVACEModel.load(folder, dtype=options.dtype, device=options.device)
        size = (options.frames, options.height, options.width, 3)
        self.control = np.random.default_rng(0).integers(0, 256, size, np.uint8)
        self.seeds = list(range(options.seeds))
        self.config = CandidatesConfig(
            model=ModelConfig(path=str(folder), dtype=options.dtype),
            steps=options.steps,
            scheduler="euler",
            shift=3.0,
            guidance_scale=3.0,
            negative_prompt=NEGATIVE,
        )

    def pipeline(self) -> Tensor:
        """Let diffusers sample one seed after the other."""
        import torch
        from PIL import Image

        pipeline: Any = self.model.pipeline
        pipeline.set_progress_bar_config(disable=True)
        # Where every frame is kept the pipeline takes the number of frames for wrong and adds one.
        keeps_every_frame = pipeline.vae_scale_factor_temporal == 1
        found = []
        for seed in self.seeds:
            pipeline.scheduler = self.model.scheduler(self.config)
            found.append(
                pipeline(
                    video=[Image.fromarray(picture) for picture in self.control],
                    reference_images=[Image.fromarray(self.control[0])],
                    prompt=PROMPT,
                    negative_prompt=NEGATIVE,
                    height=self.options.height,
                    width=self.options.width,
                    num_frames=self.options.frames - keeps_every_frame,
                    num_inference_steps=self.config.steps,
                    guidance_scale=self.config.guidance_scale,
                    generator=torch.Generator().manual_seed(seed),
                    output_type="latent",
                ).frames
            )
        return torch.cat(found).float().cpu()

    def ours(self, group: int, together: bool = False) -> Tensor:
        """Sample groups of so many seeds, with both halves of the guidance one after the other or together."""
        import torch

        from ipa_core.generation import sampler
        from ipa_core.generation.candidates import encode_clip
        from ipa_core.generation.guidance import Guidance

        class Chosen(Guidance):
            def __init__(self, *about: Any) -> None:
                super().__init__(*about)
                self.together = together

        conditioning = encode_clip(self.model, self.control, self.control[0], PROMPT, self.config)
        groups = [self.seeds[first : first + group] for first in range(0, len(self.seeds), group)]
        with patch.object(sampler, "Guidance", Chosen):
            return torch.cat([sampler.sample(self.model, conditioning, one, self.config) for one in groups])

    def variants(self) -> list[tuple[str, Callable[[], Tensor]]]:
        kernel, many = self.model.how["attention"], len(self.seeds)
        found = [
            ("diffusers' pipeline", self.pipeline),
            ("ours, seed by seed", lambda: self.ours(1)),
            (f"ours, {many} at once", lambda: self.ours(many)),
            ("  guidance as one batch", lambda: self.ours(many, together=True)),
        ]
        if kernel != "native":
            found.insert(3, ("  PyTorch's attention", lambda: self._natively(many)))
        return found

    def _natively(self, group: int) -> Tensor:
        with patch.object(self.model, "_attention", "native"):
            return self.ours(group)

    def flops(self, latents: Tensor) -> float:
        """Return the operations of all steps of all seeds, by formula."""
        about = self.model.pipeline.transformer.config
        network = Network(
            layers=about.num_layers,
            control_layers=len(about.vace_layers),
            dim=about.num_attention_heads * about.attention_head_dim,
            ffn_dim=about.ffn_dim,
        )
        _, _, frames, height, width = latents.shape
        tokens = frames * height * width // (about.patch_size[0] * about.patch_size[1] * about.patch_size[2])
        each = sum(one.forward for one in network.passes(tokens))
        return 2 * self.config.steps * len(self.seeds) * each


@dataclass
class Row:
    name: str
    seconds: float
    latents: Tensor
    memory: float
    """Bytes on the GPU."""


def compare(bench: Bench) -> None:
    options = bench.options
    size = f"{options.frames} frames of {options.width} x {options.height}"
    print(
        f"{options.geometry}, {size}, {options.seeds} seeds, {options.steps} guided steps, {options.dtype}, "
        f"{device_name(options.device)}, attention: {bench.model.how['attention']}"
    )
    peak = product_rate() if options.device == "cuda" else None
    last = f"{'of ' + format(peak / 1e12, '.0f'):>8} {'memory':>9}" if peak else ""
    print(f"{'':26} {'seconds':>9} {'to diffusers':>13} {'largest difference':>19} {'TFLOP/s':>9}{last}", flush=True)
    (name, run), *others = bench.variants()
    first = measured(bench, name, run)
    show(first, first, bench, peak)
    for name, run in others:
        show(measured(bench, name, run), first, bench, peak)
    if options.compile:
        bench.model.compile_blocks()
        if "compiled" in bench.model.how:
            show(measured(bench, "  compiled blocks", lambda: bench.ours(len(bench.seeds))), first, bench, peak)
    if peak is None:
        print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def measured(bench: Bench, name: str, run: Callable[[], Tensor]) -> Row:
    """Run once to warm up, then take the median of the rounds."""
    import torch

    device = bench.options.device
    run()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(bench.options.rounds):
        synchronise(device)
        started = time.perf_counter()
        latents = run()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return Row(name, median(seconds), latents, torch.cuda.max_memory_allocated() if device == "cuda" else 0.0)


def show(row: Row, first: Row, bench: Bench, peak: float | None) -> None:
    rate = bench.flops(row.latents) / row.seconds
    difference = float((row.latents - first.latents).abs().max())
    last = f"{rate / peak:>8.0%} {row.memory / 2**30:>5.1f} GiB" if peak else ""
    print(
        f"{row.name:26} {row.seconds:9.2f} {first.seconds / row.seconds:12.2f}x {difference:19.1e} "
        f"{rate / 1e12:9.3g}{last}",
        flush=True,
    )


def product_rate() -> float:
    """Return the operations per second of a large bfloat16 product on this GPU."""
    import torch

    side = 8192
    one = torch.randn(side, side, device="cuda", dtype=torch.bfloat16)
    for _ in range(10):
        one @ one
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(50):
        one @ one
    torch.cuda.synchronize()
    return 50 * 2 * side**3 / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
