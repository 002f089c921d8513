"""Commands that only read make nothing where there is no store: they say where it would be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.test_cli import DEMO, call

Capture = pytest.CaptureFixture[str]
COMMANDS = (
    ("status",),
    ("status", "last"),
    ("status", "--json"),
    ("report",),
    ("yield",),
    ("yield", "--json"),
    ("models",),
    ("models", "--json"),
    ("models", "promote", "abc", "--reason", "good"),
    ("models", "rollback", "--reason", "bad"),
    ("models", "export", "abc", "lora"),
    ("review",),
    ("review", "20260101-000000-0000"),
    ("review", "export", "--to", "reviews.csv"),
    ("store", "stat"),
    ("store", "verify"),
    ("store", "gc"),
    ("store", "gc", "--delete"),
    ("score", "reliability"),
)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.delenv("IPA_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_names_the_place_and_makes_nothing(
    command: tuple[str, ...], empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    code, out, err = call(monkeypatch, capsys, *command)
    sentence = f"ipa: there is no store at {empty}/.ipa; `ipa run` makes one, IPA_HOME names another\n"
    assert (code, out, err) == (1, "", sentence)
    assert list(empty.iterdir()) == []


def test_a_plan_says_that_a_run_makes_the_store(empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    code, out, _ = call(monkeypatch, capsys, "plan", str(DEMO))
    assert (code, f"note: there is no store at {empty}/.ipa yet; a run makes it" in out) == (0, True)
    assert list(empty.iterdir()) == []


def test_an_empty_folder_stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("IPA_HOME", str(tmp_path))
    code, _, err = call(monkeypatch, capsys, "status")
    assert (code, f"there is no store at {tmp_path};" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []
