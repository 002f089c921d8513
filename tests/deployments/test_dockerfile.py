"""The image's recipe, read by parsers: what it copies is there, secrets are not, and it does not run as root."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
IGNORED = [
    line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.strip() and not line.startswith("#")
]


@pytest.fixture(scope="module")
def parser() -> DockerfileParser:
    with (ROOT / "deployments" / "Dockerfile").open("rb") as file:
        return DockerfileParser(fileobj=file, cache_content=True, env_replace=False)


def steps(parser: DockerfileParser, instruction: str) -> list[str]:
    return [step["value"] for step in parser.structure if step["instruction"] == instruction]


def test_what_it_copies_is_in_the_build_context(parser: DockerfileParser) -> None:
    context = exclude_paths(str(ROOT), IGNORED)
    copied = [source for step in steps(parser, "COPY") for source in shlex.split(step)[:-1]]
    assert "flows" in copied
    folders = {parent.as_posix() for path in context for parent in (Path(path), *Path(path).parents)}
    assert [source for source in copied if source not in folders] == []


def test_neither_secrets_nor_results_are_in_the_build_context(tmp_path: Path) -> None:
    for name in ("deployments/.env", ".ipa/objects/ab", ".venv/bin/python", ".git/config", "flows/cli.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = {path for path in exclude_paths(str(tmp_path), IGNORED) if (tmp_path / path).is_file()}
    assert files == {"flows/cli.py"}


def test_it_ends_as_a_user_without_rights(parser: DockerfileParser) -> None:
    user = steps(parser, "USER")[-1]
    assert user not in ("root", "0")
    assert f"--create-home {user}" in " ".join(steps(parser, "RUN"))


def test_it_installs_the_system_libraries_of_the_setup(parser: DockerfileParser) -> None:
    [command] = [step for step in steps(parser, "RUN") if "apt-get install" in step]
    installed = re.search(r"--no-install-recommends (.*?) &&", " ".join(command.split()))
    wanted = re.search(r'^apt_packages="(.*)"$', (ROOT / "deployments" / "setup.sh").read_text(), re.MULTILINE)
    assert installed and wanted
    assert installed[1].split() == wanted[1].split()


def test_its_python_is_the_one_that_the_constraints_were_tried_with(parser: DockerfileParser) -> None:
    tried = re.search(r"Python (\d+\.\d+)", (ROOT / "constraints.txt").read_text().splitlines()[0])
    assert tried
    assert re.fullmatch(rf"python:{re.escape(tried[1])}\.\d+-slim-\w+", parser.baseimage)


def test_dependencies_come_from_the_constraints_with_s3(parser: DockerfileParser) -> None:
    installs = [step for step in steps(parser, "RUN") if "pip install" in step]
    assert [step for step in installs if "-c constraints.txt" not in step and "--no-deps" not in step] == []
    assert "EXTRAS=s3" in steps(parser, "ARG")


def test_it_reports_to_nobody(parser: DockerfileParser) -> None:
    environment = dict(pair.split("=", 1) for step in steps(parser, "ENV") for pair in shlex.split(step))
    assert environment["DO_NOT_TRACK"] == environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
