"""Bad arguments and bad configs: one sentence on stderr, exit code not 0, no traceback."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
import yaml

from flows.cli import main
from ipa_core.config import ConfigError
from ipa_core.config_file import load_config
from storage import Store
from tests.fakes import fake_config

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["ipa", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


@pytest.mark.parametrize("name", ["demo", "wan-vace-1.3b", "wan-vace-14b", "wan-animate-14b"])
def test_the_committed_configs_are_valid(name: str) -> None:
    assert load_config(DEMO.with_name(f"{name}.yaml")).name == name


def test_overrides_are_yaml_and_their_paths_mean_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(DEMO, ["clips.sources=[videos/]", "alignment.beta=20"])
    assert (config.clips.sources, config.alignment.beta) == ((str(tmp_path / "videos"),), 20)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("alignment.beta=-1", "alignment.beta: must be greater than 0 (got -1)"),
        ("alignment.betta=1", "alignment.betta: unknown; did you mean alignment.beta?"),
        ("clips.beta=1", "clips.beta: unknown; did you mean alignment.beta?"),
        ("betta=1", "can't be used: betta: unknown"),
        ("clips.prompt=[1, 2]", "clips.prompt: must be a valid string"),
        ("selection.pick=" + 300 * "x", "(got '" + 59 * "x" + "...)"),
        ("clips.frames=6", "frames must be 4n + 1"),
        ("clips.sources=[1", "--set clips.sources=[1: the value is not YAML"),
        ("nonsense", "--set wants FIELD=VALUE, got 'nonsense'"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_read(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(DEMO, [override])
    assert sentence in str(error.value)


def test_one_value_is_taken_for_a_list() -> None:
    assert load_config(DEMO, ["clips.sources=s3://a/b"]).clips.sources == ("s3://a/b",)


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; name a config, which is a YAML file"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--driving", "nowhere.mp4", "--output", "a.mp4"), 2, "'nowhere.mp4' does not exist"),
        (("--output", "a.avi"), 2, "only mp4 can be written"),
        (("--output", "a.mp4", "--lora", "."), 1, "--lora .: there is no pytorch_lora_weights.safetensors"),
    ],
)
def test_animate_says_what_is_wrong_with_its_files(
    options: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").touch()
    driving = () if "--driving" in options else ("--driving", "a.png")
    found, _, err = call(monkeypatch, capsys, "animate", "--reference", "a.png", *driving, *options)
    assert (found, said in " ".join(err.replace("│", " ").split())) == (code, True)


def test_videos_on_the_command_line_are_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(monkeypatch, capsys, "plan", str(DEMO), str(tmp_path / "a"), str(tmp_path / "b"))
    assert (code, f"there is no video at '{tmp_path / 'a'}'" in err) == (1, True)


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(monkeypatch, capsys, "--version")
    assert (code, out.strip()) == (0, importlib.metadata.version("ipa-pipeline"))


def test_a_missing_config_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(monkeypatch, capsys, "plan", "nowhere.yaml")
    assert (code, out, err) == (1, "", "ipa: there is no config file nowhere.yaml; `ipa init` writes one\n")


def test_sources_without_videos_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(fake_config(tmp_path).model_dump(mode="json")))
    code, _, err = call(monkeypatch, capsys, "plan", str(tmp_path / "run.yaml"))
    assert code == 1
    assert err.startswith("ipa: clips.sources: there is no video at") and err.count("\n") == 1


def test_an_unknown_stage_lists_the_known(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(monkeypatch, capsys, "run", str(DEMO), "--refresh", "training")
    assert code == 2
    assert "clips, poses, candidates" in " ".join(err.replace("│", " ").split())


def test_store_stat_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IPA_HOME", str(Store(tmp_path / "store").address))
    code, out, _ = call(monkeypatch, capsys, "store", "stat", "--json")
    assert code == 0
    assert json.loads(out)["objects"] == 0
