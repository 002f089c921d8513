"""What a wheel holds: the code, what the commands find by themselves, and the types."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ("bench", "configs", "demo", "models/demo")
PACKAGES = ("flows", "ipa_core", "storage")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built in a folder of its own, because a build leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, *DATA, "deployments"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(folder / "source")]
    subprocess.run(command, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("ipa_pipeline-*.whl")))


def digests(wheel: zipfile.ZipFile, folder: str) -> dict[str, str]:
    start = f"flows/project/{folder}/"
    return {
        name.removeprefix(start): hashlib.sha256(wheel.read(name)).hexdigest()
        for name in wheel.namelist()
        if name.startswith(start) and not name.endswith("/")
    }


@pytest.mark.parametrize("folder", DATA)
def test_the_data_are_those_of_the_checkout(wheel: zipfile.ZipFile, folder: str) -> None:
    here = {
        path.relative_to(ROOT / folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    assert digests(wheel, folder) == here


def test_every_module_and_what_it_reads_is_in(wheel: zipfile.ZipFile) -> None:
    """Everything in the folders of the packages: templates, page, weights of the hand score, marks of types."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    known = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert {"storage/py.typed", "ipa_core/reporting/page.css.j2", "flows/review/page.js"} <= known
    assert known - set(wheel.namelist()) == set()


def test_nothing_else_is_in(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} == {
        *PACKAGES,
        next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name),
    }


def test_the_installed_command_finds_its_data(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from flows.cli.options import DEMO; "
        "from ipa_core.config_file import load_config; print(load_config(DEMO).candidates.model.path)"
    )
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "site" / "flows" / "project" / "models" / "demo")
