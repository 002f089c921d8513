"""The first hour: `ipa init`, `ipa schema`, what every command has, and how fast help is there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from flows.cli.app import command_tree
from flows.cli.start import config_schema
from ipa_core.config_file import load_config
from tests.fakes import write_videos
from tests.flows.test_cli import call

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
RUNS = ("demo", "bench", "wan-vace-1.3b", "wan-vace-14b", "wan-animate-14b")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def errors(tree: Any) -> list[str]:
    return [error.json_path for error in jsonschema.Draft202012Validator(config_schema()).iter_errors(tree)]


def test_the_config_for_own_footage_is_wans_for_the_videos_beside_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(monkeypatch, capsys, "init")
    assert (code, out) == (0, "ipa.yaml\n")
    found = load_config(Path("ipa.yaml"))
    assert (found.name, found.clips.sources) == (here.name, (str(here / "videos"),))
    wan = load_config(CONFIGS / "wan-vace-1.3b.yaml", [f"name={here.name}", f"clips.sources={here}/videos"])
    assert found == wan


@pytest.mark.parametrize(("where", "sources"), [("dance", ["."]), ("dance/run.yaml", ["."]), (".", ["videos"])])
def test_it_plans_the_videos_that_are_there(
    where: str, sources: list[str], here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_videos(here / "dance", 3)
    shutil.copytree(here / "dance", here / "videos")
    _, out, _ = call(monkeypatch, capsys, "init", where)
    assert yaml.safe_load(Path(out.strip()).read_text())["clips"]["sources"] == sources
    code, out, _ = call(monkeypatch, capsys, "plan", out.strip(), "--json")
    assert (code, json.loads(out)["stages"][0]["items"]) == (0, 3)


def test_init_replaces_nothing(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("ipa.yaml").write_text("mine")
    code, out, err = call(monkeypatch, capsys, "init")
    assert (code, out, err) == (
        1,
        "",
        "ipa: ipa.yaml is there already: name another file, such as `ipa init ipa-2.yaml`\n",
    )
    assert [path.name for path in here.iterdir()] == ["ipa.yaml"] and Path("ipa.yaml").read_text() == "mine"


def test_the_first_line_of_the_config_names_the_schema_beside_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, capsys, "init", "dance.yaml")
    word, _, name = Path("dance.yaml").read_text().splitlines()[0].partition("=")
    assert word == "# yaml-language-server: $schema"
    assert json.loads((here / name).read_text()) == config_schema()


def test_the_schema_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(call(monkeypatch, capsys, "schema")[1]) == config_schema()


@pytest.mark.parametrize("name", RUNS)
def test_the_schema_holds_for_the_committed_configs(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(config_schema())
    assert errors(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())) == []


@pytest.mark.parametrize(
    ("section", "field", "value", "wrong"),
    [
        ("clips", "sources", "/data/dance", []),  # one value stands for a list
        ("clips", "sources", 3, ["$.clips.sources"]),
        ("clips", "fps", 0, ["$.clips.fps"]),
        ("alignment", "betta", 1, ["$.alignment"]),
        ("selection", "pick", "beste", ["$.selection.pick"]),
    ],
)
def test_the_schema_finds_what_a_config_refuses(section: str, field: str, value: object, wrong: list[str]) -> None:
    tree = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    tree[section][field] = value
    assert errors(tree) == wrong


def test_the_schema_explains_fields_and_depends_on_no_machine() -> None:
    parts = config_schema()["$defs"]
    assert parts["ClipsConfig"]["properties"]["sources"]["description"].startswith("Video files, folders")
    assert "default" not in parts["Execution"]["properties"]["workers"]
    assert "default" not in config_schema()["properties"]["execution"]


def commands(command: Any, name: str = "ipa") -> dict[str, Any]:
    found = {name: command}
    for part, inner in getattr(command, "commands", {}).items():
        found |= commands(inner, f"{name} {part}")
    return found


def test_every_command_has_the_two_switches() -> None:
    found = commands(command_tree())
    assert "ipa lab score fit" in found
    for name, command in found.items():
        assert {"-v", "-q"} <= {option for param in command.params for option in param.opts}, name


@pytest.mark.parametrize(
    ("switches", "told"),
    [("", ["warning", "progress"]), ("verbose", ["info", "warning", "progress"]), ("quiet", []), ("quiet verbose", [])],
)
def test_what_the_switches_let_through(switches: str, told: list[str]) -> None:
    lines = [
        "import logging; from flows.cli import talk; talk.set_up()",
        *(f"talk.{switch}()" for switch in switches.split()),
        "log = logging.getLogger('flows.training'); log.info('info'); log.warning('warning')",
        "from flows.engine.progress import Progress; Progress().line('progress')",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert (done.stderr.split(), done.stdout) == (told, "")


def test_help_names_the_exit_codes_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "prefect", "mediapipe", "diffusers", "scipy", "cv2", "av", "pyarrow")
    check = (
        "import sys; sys.argv = ['ipa', '--help']\nfrom flows.cli import main\ntry:\n  main()\nfinally:\n"
        f"  print('loaded', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "loaded []" in done.stdout
    assert "0 done, 1 failed, 2 wrong options" in " ".join(done.stdout.split())


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -o default -F"), ("zsh", "compdef")])
def test_a_shell_gets_its_completion(shell: str, sign: str) -> None:
    """As the shell asks: by the variable that its set-up line calls the command with."""
    environment = {"_IPA_COMPLETE": f"source_{shell}", "PATH": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows.cli"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True)
    assert sign in done.stdout and "_IPA_COMPLETE" in done.stdout


def test_a_command_is_completed() -> None:
    environment = {
        "_IPA_COMPLETE": "complete_bash",
        "COMP_WORDS": "ipa sto",
        "COMP_CWORD": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "flows.cli"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True)
    assert done.stdout.split() == ["store"]
