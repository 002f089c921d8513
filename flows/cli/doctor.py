"""`ipa doctor`: look at this machine and at a config's needs. It reads only."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from flows.cli.options import AsJson, Overrides, Videos, run_config
from flows.cli.tables import text_table
from flows.engine.stage import RunStopped
from ipa_core.config import ConfigError, RunConfig

if TYPE_CHECKING:
    from flows.engine.view import View
    from storage import Store

State = Literal["ok", "note", "problem"]
LIBRARIES: Final = {
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
    "libGL.so.1": "libgl1",
    "libglib-2.0.so.0": "libglib2.0-0",
}
"""System libraries that MediaPipe and OpenCV load, with their packages in Debian and Ubuntu."""
KERNELS: Final = {
    "flash_attn_interface": "FlashAttention 3",
    "flash_attn": "FlashAttention 2",
    "sageattention": "SageAttention",
}
"""Packages with attention kernels that diffusers can use, and their names for people."""
_GIB: Final = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the answer. advice: what to do, one sentence; empty unless it is a problem or a note."""

    name: str
    state: State
    about: str
    advice: str = ""


@dataclass(frozen=True)
class Gpu:
    """memory: bytes. compute: capability as a number, such as 9.0."""

    name: str
    memory: float
    free: float
    driver: str
    compute: float


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="A run config; its needs are looked at too.", show_default=False)
    ] = None,
    videos: Videos = None,
    set_: Overrides = None,
    json_: AsJson = False,
) -> None:
    """Say what this machine has, what a config needs, and what to do about each problem. Changes nothing."""
    settings = run_config(config, videos, set_) if config else None
    found = findings(settings)
    problems = sum(finding.state == "problem" for finding in found)
    if json_:
        print(json.dumps({"problems": problems, "findings": [asdict(finding) for finding in found]}))
    else:
        print(text_table("lll", ("", "state", "found"), [(one.name, one.state, one.about) for one in found]))
        for finding in found:
            if finding.advice:
                print(f"{finding.state}: {finding.name}: {finding.advice}")
    if problems:
        raise typer.Exit(1)


def findings(config: RunConfig | None) -> list[Finding]:
    """Look at everything; each check finds one thing or several."""
    gpus = gpus_here()
    found = [_machine(), _gpus(gpus, config), _kernels(gpus), *_versions(), _libraries(), _encoder()]
    store, about_store = _store(config)
    found += [*about_store, _server()]
    if config is not None:
        found += [*_needs(config, store), *_memory(config, gpus)]
    return found


def _machine() -> Finding:
    from flows.engine.machine import this_machine

    machine = this_machine()
    return Finding("machine", "ok", f"{machine.processor}, {machine.memory / _GIB:.0f} GiB")


def gpus_here() -> list[Gpu]:
    """Ask the driver, which starts no CUDA context. Return [] without a driver."""
    fields = "name,memory.total,memory.free,driver_version,compute_cap"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.split(", ") for line in done.stdout.splitlines()] if not done.returncode else []
    return [
        Gpu(name, 2**20 * float(memory), 2**20 * float(free), driver, float(compute))
        for name, memory, free, driver, compute in rows
    ]


def _gpus(gpus: Sequence[Gpu], config: RunConfig | None) -> Finding:
    about = ", ".join(
        f"{gpu.name} ({gpu.memory / _GIB:.0f} GiB, {gpu.free / _GIB:.0f} free, driver {gpu.driver})" for gpu in gpus
    )
    torch = version("torch")
    if gpus and torch.endswith("+cpu"):
        advice = "torch is built for the CPU alone; install the build for your CUDA version (pytorch.org, Get Started)"
        return Finding("GPUs", "problem", f"{about}; torch {torch}", advice)
    if config is not None:
        wanted = max(config.execution.gpus, config.execution.train_processes)
        old = [gpu.name for gpu in gpus if gpu.compute < 8]
        if config.execution.device == "cuda" and not gpus:
            return Finding("GPUs", "problem", "none", "set execution.device to auto, or mend the driver (`nvidia-smi`)")
        if config.execution.device != "cpu" and gpus and wanted > len(gpus):
            advice = f"execution.gpus and train_processes want {wanted}; set them to {len(gpus)} at most"
            return Finding("GPUs", "problem", about, advice)
        if old and config.candidates.model.dtype == "bfloat16":
            return Finding("GPUs", "problem", about, f"{old[0]} can't compute in bfloat16; set dtype to float32")
    return Finding("GPUs", "ok", about or "none: models run on the CPU, which is for small ones only")


def _kernels(gpus: Sequence[Gpu]) -> Finding:
    found = [name for package, name in KERNELS.items() if find_spec(package)]
    about = ", ".join([*found, "PyTorch's own"])
    if gpus and not found:
        advice = "FlashAttention 3 (for H100, H200) or 2 makes generation faster: see docs/models.md"
        return Finding("attention", "note", about, advice)
    return Finding("attention", "ok", about)


def _versions() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    from flows.engine.machine import this_machine

    versions = this_machine().versions
    yield Finding("versions", "ok", ", ".join(f"{name} {number}" for name, number in versions.items()))
    for text in requires("ipa-pipeline") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            installed = "not installed"
        if installed == "not installed" or not wanted.specifier.contains(installed, prereleases=True):
            advice = f"install it in this environment: pip install '{wanted.name}{wanted.specifier}'"
            yield Finding("versions", "problem", f"{wanted.name} {installed}", advice)


def _libraries() -> Finding:
    missing = [package for library, package in LIBRARIES.items() if not _loads(library)]
    if missing:
        advice = f"install what MediaPipe and OpenCV load: apt-get install {' '.join(missing)}"
        return Finding("libraries", "problem", f"{', '.join(missing)} missing", advice)
    return Finding("libraries", "ok", ", ".join(LIBRARIES))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _encoder() -> Finding:
    import av
    import av.codec

    if "libx264" not in av.codecs_available:
        advice = "the package av has no H.264 encoder; install its wheel: pip install --force-reinstall av"
        return Finding("ffmpeg", "problem", f"av {av.__version__}", advice)
    return Finding("ffmpeg", "ok", f"av {av.__version__} with H.264")


def _store(config: RunConfig | None) -> tuple[Store | None, list[Finding]]:
    from flows.engine.room import RESERVE, size_text
    from flows.engine.store import open_store
    from storage import StoreError
    from storage.folders import LocalFolder

    try:
        store = open_store(config.execution if config else None, make=False)
    except (StoreError, OSError) as error:
        return None, [Finding("store", "problem", "can't be opened", str(error))]
    about = f"{store.address}{'' if store.exists else ', which a run makes'}"
    if not isinstance(store.folder, LocalFolder):
        return store, [Finding("store", "ok", f"{about}, which can be read")]
    place = next(path for path in (store.folder.path, *store.folder.path.parents) if path.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        advice = f"{place} can't be written by this user; name another folder in IPA_HOME or execution.store"
        return store, [Finding("store", "problem", about, advice)]
    usage = shutil.disk_usage(place)
    room = f"{size_text(usage.free)} of {size_text(usage.total)} free"
    if usage.free < RESERVE:
        advice = f"a run stops below {size_text(RESERVE)}; make room, `ipa store gc` shows what can go"
        return store, [Finding("store", "ok", about), Finding("disk", "problem", room, advice)]
    return store, [Finding("store", "ok", f"{about}, can be written"), Finding("disk", "ok", room)]


def _server() -> Finding:
    none = Finding("server", "ok", "none is configured: each run starts its own")
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    if "PREFECT_API_URL" not in os.environ and not home.exists() and not Path("prefect.toml").exists():
        return none  # Importing Prefect would make its home.
    from flows.orchestration.server import check_configured, configured_address, is_configured

    if not is_configured():
        return none
    try:
        check_configured()
    except RunStopped as error:
        return Finding("server", "problem", f"{configured_address()} does not answer", str(error))
    return Finding("server", "ok", f"{configured_address()} answers")


def _needs(config: RunConfig, store: Store | None) -> Iterator[Finding]:
    """Ask each stage, as plans and runs do."""
    from flows.engine.components import components
    from flows.engine.inputs import RunInputs
    from flows.engine.store import open_store
    from flows.engine.view import View
    from flows.stages import STAGES

    if store is None:
        store = open_store(make=False)
    view = View(config, RunInputs(store, config, components(), keep=False))
    yield _asked("videos", lambda: f"{len(view.inputs.videos)} videos")
    weights = _asked("model", lambda: _weights(view, store))
    yield weights
    for stage in STAGES:
        finding = _asked(stage.name, lambda stage=stage: str(stage.check(view) or "its files are here"))  # type: ignore[misc]
        if finding.state == "problem" and finding.advice not in (weights.advice,):
            yield finding


def _asked(name: str, ask: Callable[[], str]) -> Finding:
    from storage import StoreError

    try:
        return Finding(name, "ok", ask())
    except (ConfigError, StoreError, OSError) as error:
        return Finding(name, "problem", "not as the config wants it", str(error))


def _weights(view: View, store: Store) -> str:
    from flows.engine.room import size_text

    folder = view.inputs.model_folder
    files = [path for path in sorted(folder.rglob("*.safetensors")) if path.is_file()]
    known = sum(store.digests.knows(path) for path in files)
    size = size_text(sum(path.stat().st_size for path in files))
    unread = f", {len(files) - known} of which the next run reads once for their digests" if known < len(files) else ""
    return f"{folder}, {size} in {len(files)} files{unread}"


def _memory(config: RunConfig, gpus: Sequence[Gpu]) -> Iterator[Finding]:
    from ipa_core.models import known_network

    known = known_network(config)
    if known is None:
        return
    network = known[1]
    one, group = (network.generation_bytes(config, seeds) for seeds in (1, config.candidates.group_size))
    training = network.training_bytes(config)
    about = (
        f"{_gib(one)} for one candidate at once, {_gib(group)} for a seed group, {_gib(training)} to train (by formula)"
    )
    if config.execution.device == "cpu" or not gpus:
        advice = f"{config.candidates.model.path} needs a GPU; this machine is good for `ipa plan`"
        yield Finding("GPU memory", "problem", about, advice)
        return
    from flows.engine.machine import this_machine

    memory = this_machine().memory
    if network.weights_bytes > memory:
        advice = f"loading needs {_gib(network.weights_bytes)} of main memory; take a machine with more"
        yield Finding("memory", "problem", _gib(memory), advice)
    smallest = min(gpu.memory for gpu in gpus)
    if network.generation_bytes(config, 2) - one > smallest:  # The activations of one, without any weights.
        advice = f"a GPU here has {_gib(smallest)}; take a larger one, smaller clips or a smaller model"
        yield Finding("GPU memory", "problem", about, advice)
    elif training > smallest:
        advice = f"a GPU here has {_gib(smallest)}; {_less_to_train(config)}"
        yield Finding("GPU memory", "problem", about, advice)
    elif one > smallest:
        advice = f"a GPU here has {_gib(smallest)}: blocks wait in main memory, which is slower"
        yield Finding("GPU memory", "note", about, advice)
    elif group > smallest:
        advice = f"a GPU here has {_gib(smallest)}: seed groups are sampled in parts, which is slower"
        yield Finding("GPU memory", "note", about, advice)
    else:
        yield Finding("GPU memory", "ok", about)


def _less_to_train(config: RunConfig) -> str:
    if not config.alignment.gradient_checkpointing:
        return "set alignment.gradient_checkpointing to true"
    if config.alignment.accumulation * config.execution.train_processes < config.alignment.batch_size:
        return "raise alignment.accumulation, up to one sample a part"
    return "train on several GPUs with execution.train_strategy fsdp2, or on smaller clips"


def _gib(size: float) -> str:
    return f"{size / _GIB:.0f} GiB"
