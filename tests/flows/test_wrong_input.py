"""Wrong input of every command: one sentence that names what is wrong, where, and what to do; no traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import write_videos
from tests.flows.test_cli import DEMO, call

ROOT = DEMO.parents[1]
SWEEP = DEMO.with_name("paper-ablation.yaml")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a bit of everything that is not what a command wants."""
    for name in ("folder", "models"):
        (tmp_path / name).mkdir()
    texts = {"empty.yaml": "", "list.yaml": "- a", "broken.yaml": "a: [b", "text.yaml": "words", "nul.yaml": "a\0"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "sections.yaml").write_text("name: a\nclips: 3\ncandidates: {model: {path: x}}")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "table.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    write_videos(tmp_path / "videos", 1)
    (tmp_path / "videos").rename(tmp_path / "dance")
    (tmp_path / "me.png").write_bytes((DEMO.parents[1] / "demo" / "reference.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


CONFIGS = {
    "nowhere.yaml": "there is no config file nowhere.yaml; `ipa init` writes one",
    "folder": "folder is a folder; name a config, which is a YAML file; `ipa init` writes one",
    "empty.yaml": "empty.yaml holds no config, which begins with fields such as `name:`; `ipa init` writes one",
    "list.yaml": "list.yaml holds no config, which begins with fields such as `name:`; `ipa init` writes one",
    "text.yaml": "text.yaml holds no config, which begins with fields such as `name:`; `ipa init` writes one",
    "broken.yaml": "broken.yaml is not YAML: expected ',' or ']', but got '<stream end>' (line 1, column 6)",
    "nul.yaml": "nul.yaml is not YAML: unacceptable character",
    "binary": "binary holds no text; name a config, which is a YAML file",
    "me.png/run.yaml": "the config me.png/run.yaml can't be read: Not a directory",
    "sections.yaml": "sections.yaml can't be used: clips: must be a section, with fields below it (got 3)",
}


@pytest.mark.parametrize(("config", "sentence"), CONFIGS.items())
@pytest.mark.usefixtures("here")
def test_a_config_that_is_none(
    config: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(monkeypatch, capsys, "plan", config)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"ipa: {sentence}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_config_that_may_not_be_read(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "list.yaml").chmod(0)
    _, _, err = call(monkeypatch, capsys, "plan", "list.yaml")
    assert err == "ipa: the config list.yaml can't be read: Permission denied\n"


FOLDER_OF_MODEL = "set candidates.model.path to a folder with model_index.json, or to a hub id such as Wan-AI/"
ANIMATE = "animate --reference me.png --driving dance/video-0000.mp4"
COMMANDS = {
    # Stages and runs
    "run DEMO --from x": (2, "Invalid value for '--from': x: the stages are clips, poses, candidates"),
    "run DEMO --only x": (2, "Invalid value for '--only': x: the stages are clips, poses, candidates"),
    "run DEMO --only poses --from clips": (2, "--only can't be combined with --from or --to"),
    "run DEMO --from poses --to clips": (1, "ipa: --from poses comes after --to clips"),
    "run DEMO --set candidates.model.path=folder": (1, "folder is no diffusers pipeline folder: it has no model_index"),
    "run DEMO --set candidates.model.path=me.png": (1, f"me.png' is a file; {FOLDER_OF_MODEL}"),
    "run DEMO --set candidates.model.path=./models/x": (1, f"models/x' is not there; {FOLDER_OF_MODEL}"),
    "run DEMO --set candidates.model.path=/models": (1, f"the model folder '/models' is not there; {FOLDER_OF_MODEL}"),
    "run DEMO --set candidates.model.path=models/x": (1, f"models/x' is not there; {FOLDER_OF_MODEL}"),
    "run DEMO --set candidates.model.path=no/one": (1, "the model no/one is not on this machine: get it with `hf down"),
    "score reliability nowhere": (1, "ipa: there is no run nowhere; `ipa status` lists the last ones"),
    "models promote x --reason y": (1, "ipa: there is no adapter 'x'; registered are: none"),
    "plan DEMO --set execution.store=me.png": (1, "me.png/ipa-store.json: Not a directory"),
    "plan DEMO --set clips.metadata=table.csv": (1, "clips.metadata: /"),
    # Places that can't be written
    "demo --workdir me.png": (1, "ipa: --workdir me.png can't be written: File exists; name another place"),
    "init me.png": (1, "ipa: me.png is no folder and does not end in .yaml: name a folder, or a file such as ipa.yaml"),
    "init me.png/x": (1, "ipa: the config me.png/x/ipa.yaml can't be written: Not a directory; name another place"),
    f"sweep {SWEEP} --output me.png": (1, "ipa: --output me.png can't be written: File exists; name another place"),
    f"{ANIMATE} --output me.png/a.mp4": (1, "ipa: --output me.png/a.mp4 can't be written: File exists; name another"),
    # Files of the wrong kind
    f"{ANIMATE} --output a.avi": (2, "--output a.avi: only mp4 can be written; end its name in .mp4"),
    f"{ANIMATE} --output folder": (2, "Invalid value for '--output': file 'folder' is a directory"),
    f"{ANIMATE} --output a.mp4 --lora folder": (1, "--lora folder: there is no pytorch_lora_weights.safetensors; name"),
    f"{ANIMATE} --output a.mp4 --lora me.png": (
        1,
        "ipa: --lora me.png: me.png holds no LoRA; name a LoRA folder, such",
    ),
    f"{ANIMATE} --output a.mp4 --model no: 'where": (1, f"no: where' is not there; {FOLDER_OF_MODEL}"),
    f"{ANIMATE} --output a.mp4 --config folder": (1, "ipa: folder is a folder; name a config, which is a YAML file"),
    "animate --reference binary --driving me.png --output a.mp4": (
        1,
        "--reference binary is no picture; name a PNG or",
    ),
    "animate --reference me.png --driving binary --output a.mp4": (
        1,
        "--driving binary can't be used: not a video; na",
    ),
    "animate --reference me.png --driving folder --output a.mp4": (2, "'--driving': file 'folder' is a directory"),
    "bench folder": (1, "folder is no diffusers pipeline folder: it has no model_index.json"),
    "bench me.png": (1, f"me.png' is a file; {FOLDER_OF_MODEL}"),
    "bench --lora nowhere": (1, "ipa: --lora nowhere: there is no nowhere; name a LoRA folder, such as a run's `lora`"),
    "bench --picture a.jpg": (1, "ipa: --picture shows what an adapter changes: name one with --lora"),
    "sweep DEMO --output folder": (1, "is a config of another kind: run, arms must be there, clips, poses, candidates"),
    f"run {SWEEP}": (1, "is a config of another kind: clips, candidates must be there, about, run, seeds, arms"),
    "sweep list.yaml --output folder": (1, "ipa: list.yaml holds no config"),
    "lab pretrain list.yaml --output folder": (1, "ipa: list.yaml holds no config"),
}


@pytest.mark.parametrize(("command", "expected"), COMMANDS.items())
def test_a_wrong_argument_is_one_sentence(
    command: str,
    expected: tuple[int, str],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = shlex.split(command.replace("no: 'where", "'no: where'"))
    before = set(here.rglob("*"))
    code, out, err = call(monkeypatch, capsys, *(str(DEMO) if word == "DEMO" else word for word in words))
    found = " ".join(err.replace("│", " ").split())
    assert (code, out, expected[1] in found) == (expected[0], "", True), found
    assert found.isprintable(), "the bytes of a wrong file are no text for a terminal"
    made = {path for path in set(here.rglob("*")) - before if ".ipa" not in path.parts}
    assert made <= {here / ".ipa"}, "a wrong command leaves nothing behind"


@pytest.mark.parametrize(("backend", "package"), [("dwpose", "rtmlib"), ("ultralytics", "ultralytics")])
@pytest.mark.usefixtures("here")
def test_a_backend_whose_extra_is_missing(
    backend: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flows.engine.components.find_spec", lambda name: None if name == package else object())
    command = f"{ANIMATE} --output a.mp4 --set poses.backend={backend}"
    code, out, err = call(monkeypatch, capsys, *command.split())
    sentence = f"ipa: the {backend} backend needs the extra [{backend}]: pip install 'ipa-pipeline[{backend}]'\n"
    assert (code, out, err) == (1, "", sentence)


@pytest.mark.parametrize("module", ["anny", "numba"])
@pytest.mark.parametrize("command", ["synth --output a", "score fit", "score train"])
@pytest.mark.usefixtures("here")
def test_lab_names_the_extra_that_is_missing(
    module: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else object())
    code, out, err = call(monkeypatch, capsys, "lab", *command.split())
    sentence = "ipa: rendering people needs the extra [synthetic]: pip install 'ipa-pipeline[synthetic]'\n"
    assert (code, out, err) == (1, "", sentence)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "nonsense"])
def test_a_server_that_does_not_answer_is_named(address: str, here: Path) -> None:
    environment = {**os.environ, "PREFECT_API_URL": address, "PREFECT_HOME": str(here), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows.cli", "serve"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"ipa: no Prefect server answers at {address} (")
