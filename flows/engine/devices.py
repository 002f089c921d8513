"""Choose the GPU of a process: one process, one GPU, also when several runs share a machine.

A process of a training on several GPUs takes the GPU of its rank, as its launcher (`LOCAL_RANK`) expects. A process
that sees exactly one GPU takes that one, because Ray, Dask's CUDA workers and container schedulers assign it. Any other
process claims the first free GPU by a lock on a file named after the GPU. The kernel frees the lock when the process
ends, even if it is killed.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from flows.engine.stage import RunStopped
from ipa_core.config import Execution

_mutex = threading.Lock()
_claimed: tuple[int, str] | None = None
"""Descriptor of the lock file, and torch's name of the GPU that this process holds."""


def claim_device(execution: Execution, visible: Sequence[str] | None = None) -> str:
    """Return torch's name of this process's device: ``cpu`` or ``cuda:<n>``. Every call returns the same.

    ``visible`` holds the physical names of the GPUs that torch sees, in its order (default: :func:`visible_devices`).
    Raises :class:`RunStopped` when the config asks for a GPU and none is visible, and when others hold them all.
    """
    if execution.device == "cpu":
        return "cpu"
    with _mutex:
        if _claimed is not None:
            return _claimed[1]
        names = visible_devices() if visible is None else visible
        if not names and execution.device == "auto":
            return "cpu"
        if not names:
            chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
            raise RunStopped(
                f"execution.device is cuda, but this process sees no GPU (CUDA_VISIBLE_DEVICES: {chosen}); check "
                "`nvidia-smi`, or set execution.device to auto"
            )
        rank = os.environ.get("LOCAL_RANK")
        if rank is not None:
            return f"cuda:{rank}"
        return "cuda:0" if len(names) == 1 else _claim_one(names)


def release_device() -> None:
    """Release this process's GPU. The next :func:`claim_device` may return a different one."""
    global _claimed
    with _mutex:
        if _claimed is not None:
            os.close(_claimed[0])
            _claimed = None


def visible_devices() -> tuple[str, ...]:
    """Return physical names (index or UUID) of the GPUs that torch sees, in its order. Start no CUDA context."""
    import torch

    count = torch.cuda.device_count()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in chosen.split(",")] if chosen else [str(index) for index in range(count)]
    return tuple(names[:count])


def _claim_one(names: Sequence[str]) -> str:
    global _claimed
    holders = []
    for index, name in enumerate(names):
        path = _lock_folder() / f"gpu-{name.replace('/', '_')}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holders.append(os.read(descriptor, 20).decode())
            os.close(descriptor)
            continue
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        _claimed = descriptor, f"cuda:{index}"
        return _claimed[1]
    raise RunStopped(
        f"none of the {len(names)} GPUs is free: processes {', '.join(holders)} hold one each; wait for them, or lower "
        "execution.gpus"
    )


def _lock_folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) / "ipa" if runtime else Path(tempfile.gettempdir()) / f"ipa-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _forget_in_child() -> None:
    """Close a forked child's copy of the lock, which could outlive the parent. The parent keeps its own."""
    global _claimed, _mutex
    _mutex = threading.Lock()
    if _claimed is not None:
        os.close(_claimed[0])
        _claimed = None


os.register_at_fork(after_in_child=_forget_in_child)
