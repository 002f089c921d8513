"""Compile a transformer's repeated blocks (`execution.compile`), for sampling alone.

Training and its reference errors must agree to the last bit, so they compute as before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

log = logging.getLogger(__name__)


class CompiledBlocks:
    """The blocks of a transformer, one compiled function for all of a kind; used within :meth:`at_work`."""

    def __init__(self, transformers: Sequence[torch.nn.Module], kinds: Sequence[str]) -> None:
        """``kinds``: class names of the repeated blocks."""
        blocks = [block for one in transformers for block in one.modules() if type(block).__name__ in kinds]
        # diffusers compiles blocks in the same way (compile_repeated_blocks), for good.
        self._blocks: list[tuple[Any, Any]] = [(block, torch.compile(block._call_impl)) for block in blocks]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        for block, compiled in self._blocks:
            block._compiled_call_impl = compiled
        try:
            # A block that can't be compiled, as with a torn file in the compiler's cache, runs as it is.
            with torch._dynamo.config.patch(suppress_errors=True):
                yield
        finally:
            for block, _ in self._blocks:
                block._compiled_call_impl = None


def compiler_trouble(device: torch.device) -> str | None:
    """Compile something small. Return the reason why this machine can't, or None."""
    from torch._dynamo.exc import TorchDynamoException

    torch._dynamo.reset()
    try:
        torch.compile(lambda value: value * 2 + 1)(torch.ones(8, device=device))
    except (TorchDynamoException, RuntimeError, OSError, ImportError) as error:
        return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return None
