"""The machine that computes and the versions of the code, in words."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import ipa_core
from flows.engine.stage import Place
from ipa_core.config import Execution

_LIBRARIES: Final = ("torch", "diffusers", "peft", "mediapipe", "opencv-python", "av")
_NVIDIA: Final = Path("/proc/driver/nvidia/gpus")
"""The driver's list of GPUs. Reading it needs no torch, which takes seconds to load, and no memory of a GPU."""


@dataclass(frozen=True)
class Machine:
    """The machine of the process that runs the flow."""

    host: str
    processor: str
    """With the number of its cores."""
    memory: int
    """Bytes."""
    gpus: tuple[str, ...]
    versions: dict[str, str]
    commit: str | None
    """Commit of the code, with `-dirty` if files differ from it; None if the installation is no git checkout."""

    def sentence(self) -> str:
        found = [f"{self.gpus.count(name)} x {name}" for name in dict.fromkeys(self.gpus)]
        return f"{self.processor}, {self.memory / 2**30:.0f} GiB, {', '.join(found) or 'no GPU'}"


def this_machine() -> Machine:
    installed = {name: version(name) for name in ("ipa-pipeline", "prefect")}
    libraries = {name: value for name, value in provenance().items() if name != "machine"}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(socket.gethostname(), processor(), memory, gpus(), installed | libraries, commit())


def processor() -> str:
    """Return the processor and its cores, in words."""
    cpuinfo = Path("/proc/cpuinfo")  # Has the processor's name, on Linux; Python's platform does not.
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor() or platform.machine()}"


def gpus() -> tuple[str, ...]:
    """Return the names of the GPUs that torch can use in this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen in ("", "-1") or version("torch").endswith("+cpu"):
        return ()
    files = sorted(_NVIDIA.glob("*/information"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return tuple(names[: len(chosen.split(",")) if chosen else None])


def device_of(place: Place, execution: Execution) -> str:
    """Return the name of the GPU that computes an item of that place here, or `cpu`."""
    if place in ("cpu", "here") or execution.device == "cpu":
        return "cpu"
    return next(iter(gpus()), "cpu")


def commit() -> str | None:
    root = Path(ipa_core.__file__).parents[1]
    if not (root / ".git").exists():  # An installed package may lie in the checkout of something else.
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def provenance() -> dict[str, Any]:
    """Return the versions that are in no key but may change low bits of an output."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "machine": platform.machine(), **libraries}
