"""Flow matching of the small transformer, from scratch, on exactly the inputs that WanVACEPipeline feeds at inference.

t = 1 is noise: z_t = (1 - t) clean + t noise, target noise - clean. Every draw follows from (seed, step), so a resumed
run repeats the uninterrupted one.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, nn
from transformers import ByT5Tokenizer, UMT5EncoderModel

from ipa_core.people.dataset import Progress
from ipa_core.people.performers import PROMPT
from ipa_core.pretraining.codec import PATCH, LinearCodec
from ipa_core.pretraining.config import FlowTrainingConfig
from ipa_core.pretraining.encoded import EncodedSet

PROMPT_LENGTH = 512
"""WanVACEPipeline's `max_sequence_length`. Shorter prompts are padded with zeros, and attention sees these."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Embeddings of the sentence that all clips have, and of the empty sentence.

    embeddings: ``[2, L, D]``. After each sentence, one padding token stands for all of them. bias: ``[2, L]``, added to
    the attention logits: the log of the number of tokens that a token stands for.
    """

    embeddings: Tensor
    bias: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """clean: normalised latents ``[B, z, 1 + T, h, w]``, reference image first. conditioning:
    ``[B, 2 z + 64, 1 + T, h, w]``, as in the pipeline. weight: ``[B, 1, 1 + T, h, w]``. prompt: ``[B]``, index into
    Prompts."""

    clean: Tensor
    conditioning: Tensor
    weight: Tensor
    prompt: Tensor


def embed_prompts(tokenizer: ByT5Tokenizer, text_encoder: UMT5EncoderModel) -> Prompts:
    """Embed as ``WanVACEPipeline.encode_prompt`` does, with its hundreds of equal padding tokens folded into one."""
    encoded = []
    for sentence in (PROMPT, ""):
        tokens = tokenizer(sentence, return_tensors="pt")
        with torch.no_grad():
            encoded.append(text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state[0])
    longest = max(map(len, encoded))
    embeddings = torch.zeros(len(encoded), longest + 1, encoded[0].shape[1])
    bias = torch.full((len(encoded), longest + 1), -math.inf)
    for row, tokens in enumerate(encoded):
        embeddings[row, : len(tokens)] = tokens
        bias[row, : len(tokens)] = 0.0
        bias[row, len(tokens)] = math.log(PROMPT_LENGTH - len(tokens))
    return Prompts(embeddings, bias)


class FoldedPadding(WanAttnProcessor):
    """Cross-attention whose keys stand for several equal tokens (see :class:`Prompts`)."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    @property
    def bias(self) -> Tensor | None:
        """Added to the logits, ``[B, 1, 1, L]``. Each thread has its own."""
        return getattr(self._local, "bias", None)

    @bias.setter
    def bias(self, bias: Tensor | None) -> None:
        self._local.bias = bias

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        return super().__call__(attn, hidden_states, encoder_hidden_states, self.bias, rotary_emb)


class TrainingBatches:
    """Draws batches from encoded clips, on the clips' device. Batch ``step`` is a function of (seed, step)."""

    def __init__(self, clips: EncodedSet, codec: LinearCodec, config: FlowTrainingConfig, seed: int) -> None:
        self._clips, self._codec, self._config, self._seed = clips, codec, config, seed
        self._person = clips.person.cpu().numpy()
        self._by_person = np.argsort(self._person, kind="stable")
        self._sorted = self._person[self._by_person]

    def __call__(self, step: int) -> Batch:
        clips, config = self._clips, self._config
        rng = np.random.default_rng([self._seed, step])
        batch, frames = config.batch_size, clips.clean.shape[2]
        clip = rng.integers(len(self._person), size=batch)
        first, last = (np.searchsorted(self._sorted, self._person[clip], side) for side in ("left", "right"))
        source = np.where(
            rng.uniform(size=batch) < config.same_clip_reference, clip, self._by_person[rng.integers(first, last)]
        )
        shown = rng.integers(frames, size=batch)
        variant = (rng.uniform(size=batch) >= config.palm_share).astype(int)
        # Gestures also run backwards. Mirror images would need a mirrored light, so there are none.
        backwards = rng.uniform(size=(batch, 1)) < 0.5
        times = np.where(backwards, np.arange(frames)[::-1], np.arange(frames))
        prompt = (rng.uniform(size=batch) < config.prompt_dropout).astype(int)

        each, source_, shown_, variant_, times_, prompt_ = (
            torch.from_numpy(index).to(clips.clean.device)
            for index in (clip[:, None], source, shown, variant[:, None], times, prompt)
        )
        reference = clips.clean[source_, :, shown_].float()[:, :, None]
        clean = clips.clean[each, :, times_].float().transpose(1, 2)
        control = clips.controls[each, variant_, :, times_].float().transpose(1, 2)
        hand = clips.hands[each, times_].float()[:, None]
        weight = torch.cat([torch.full_like(hand[:, :, :1], 0.2), 1 + config.hand_weight * hand], dim=2)
        return Batch(
            clean=torch.cat([reference, clean], dim=2),
            conditioning=vace_conditioning(control, reference, self._codec),
            weight=weight,
            prompt=prompt_,
        )


def vace_conditioning(control: Tensor, reference: Tensor, codec: LinearCodec) -> Tensor:
    """Return the pipeline's ``control_hidden_states`` for a mask of ones: ``[B, 2 z + 64, 1 + T, h, w]``.

    control: latents ``[B, z, T, h, w]`` of the drawings. reference: ``[B, z, 1, h, w]``. The inactive half is the code
    of an all-grey picture. The reference frame has its latents there, zeros in the reactive half, and a mask of zeros.
    """
    grey = -codec.mean.to(control).view(1, -1, 1, 1, 1).expand_as(control)
    batch, _, frames, height, width = control.shape
    mask = control.new_ones(batch, PATCH**2, frames, height, width)
    first = torch.cat([reference, torch.zeros_like(reference), torch.zeros_like(mask[:, :, :1])], dim=1)
    return torch.cat([first, torch.cat([grey, control, mask], dim=1)], dim=2)


class FlowLoss(nn.Module):
    """The weighted mean squared velocity error of a transformer on a batch."""

    embeddings: Tensor
    bias: Tensor

    def __init__(self, transformer: Any, prompts: Prompts) -> None:
        super().__init__()
        self.transformer = transformer
        self.register_buffer("embeddings", prompts.embeddings)
        self.register_buffer("bias", prompts.bias)
        self._folded = FoldedPadding()
        for block in (*transformer.blocks, *transformer.vace_blocks):
            block.attn2.set_processor(self._folded)

    def forward(
        self, clean: Tensor, conditioning: Tensor, weight: Tensor, prompt: Tensor, time: Tensor, noise: Tensor
    ) -> Tensor:
        """Return a scalar for the parts of a :class:`Batch`, time ``[B]`` in (0, 1) and noise like ``clean``."""
        self._folded.bias = self.bias[prompt][:, None, None, :]
        velocity = self.transformer(
            hidden_states=torch.lerp(clean, noise, time.view(-1, 1, 1, 1, 1)),
            timestep=1000 * time,
            encoder_hidden_states=self.embeddings[prompt],
            control_hidden_states=conditioning,
            return_dict=False,
        )[0]
        error = (velocity.float() - (noise - clean)) ** 2
        return (weight * error).mean() / weight.mean()


def train_flow(
    transformer: Any,
    batches: TrainingBatches,
    prompts: Prompts,
    config: FlowTrainingConfig,
    checkpoint: Path,
    *,
    seed: int,
    device: str = "cpu",
    workers: int,
    progress: Progress | None = None,
) -> None:
    """Train a WanVACETransformer3DModel in place. In the end it holds the averaged weights.

    ``batches`` must be on ``device``. Writes ``checkpoint`` every ``checkpoint_every`` steps and at the end, and starts
    from it if it exists. workers: threads that each take an equal part of a batch. Two give the same sums in whatever
    order they finish. On a busy CPU they are faster than two threads that share every matrix product.
    """
    loss_of: Any = FlowLoss(transformer, prompts).to(device).train()
    names, parameters = zip(*transformer.named_parameters(), strict=True)
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    start = _restore(checkpoint, names, parameters, average, optimizer)
    if device != "cpu":
        # Such a small model takes far longer to launch than to compute, so its kernels are recorded once and replayed.
        # The gradients are then the recording's own buffers, so each step must have one backward pass.
        loss_of = torch.cuda.make_graphed_callables(
            loss_of, _inputs(batches(start), config, seed, start), allow_unused_input=True
        )
    running: Tensor | None = None
    threads = max(1, torch.get_num_threads() // workers)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))

    def part_backward(part: tuple[Tensor, ...]) -> Tensor:
        loss = loss_of(*part) / workers
        loss.backward()
        return loss.detach()

    for step in range(start, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config)
        inputs = _inputs(batches(step), config, seed, step)
        optimizer.zero_grad()
        parts = zip(*(whole.chunk(workers) for whole in inputs), strict=True)
        loss = torch.stack(list(pool.map(part_backward, parts))).sum()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        keep = min(config.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - keep)
        running = loss if running is None else 0.98 * running + 0.02 * loss
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _save(checkpoint, names, parameters, average, optimizer, step + 1)
        if progress and step % 10 == 9:
            progress(f"flow step {step + 1} of {config.steps}, loss {running.item():.4f}", (step + 1) / config.steps)
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    for block in (*transformer.blocks, *transformer.vace_blocks):
        block.attn2.set_processor(WanAttnProcessor())
    pool.shutdown()
    transformer.to("cpu").eval()


def _rate(step: int, config: FlowTrainingConfig) -> float:
    left = (config.steps - step) / max(1.0, config.decay * config.steps)
    return min(1.0, (step + 1) / config.warmup_steps) * max(0.02, min(1.0, left))


def _inputs(batch: Batch, config: FlowTrainingConfig, seed: int, step: int) -> tuple[Tensor, ...]:
    device = batch.clean.device
    generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
    time = torch.sigmoid(0.3 + 1.2 * torch.randn(config.batch_size, generator=generator, device=device))
    noise = torch.randn(batch.clean.shape, generator=generator, device=device)
    return batch.clean, batch.conditioning, batch.weight, batch.prompt, time, noise


def _save(
    path: Path,
    names: tuple[str, ...],
    parameters: tuple[nn.Parameter, ...],
    average: list[Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
) -> None:
    tensors = {"step": torch.tensor(step)}
    for name, parameter, mean in zip(names, parameters, average, strict=True):
        state = optimizer.state[parameter]
        tensors[f"weight/{name}"] = parameter.detach().contiguous()
        tensors[f"average/{name}"] = mean.contiguous()
        tensors[f"first/{name}"] = state["exp_avg"].contiguous()
        tensors[f"second/{name}"] = state["exp_avg_sq"].contiguous()
    partial = path.with_suffix(".partial")
    safetensors.torch.save_file(tensors, partial)
    partial.replace(path)


def _restore(
    path: Path,
    names: tuple[str, ...],
    parameters: tuple[nn.Parameter, ...],
    average: list[Tensor],
    optimizer: torch.optim.Optimizer,
) -> int:
    """Load the checkpoint and return the step to go on with; 0 if there is no checkpoint."""
    if not path.exists():
        return 0
    tensors = safetensors.torch.load_file(path)
    step = int(tensors["step"])
    with torch.no_grad():
        for name, parameter, mean in zip(names, parameters, average, strict=True):
            parameter.copy_(tensors[f"weight/{name}"])
            mean.copy_(tensors[f"average/{name}"])
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": tensors[f"first/{name}"].to(parameter.device),
                "exp_avg_sq": tensors[f"second/{name}"].to(parameter.device),
            }
    return step
