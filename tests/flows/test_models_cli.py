"""`ipa models`: the table, decisions by hand, and what is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipa_core.records import Ruling
from storage import Store
from storage.registry import Decided, Registry
from tests.flows.test_cli import call
from tests.storage.test_registry import AT, digest, registered

Capture = pytest.CaptureFixture[str]
A, B = digest("a"), digest("b")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Adapter `a` is champion by the rule, `b` was refused."""
    store = Store(tmp_path / "store")
    monkeypatch.setenv("IPA_HOME", str(store.address))
    lora = store.objects.put(b"the LoRA's bytes")
    registry = Registry(store.address)
    for name, kind, against in (("a", "promoted", None), ("b", "refused", A)):
        entry = registered(name, run=f"run {name}", files={"pytorch_lora_weights.safetensors": lora})
        registry.append(lambda state, entry=entry: entry)
        event = Decided(
            kind=kind,  # type: ignore[arg-type]
            at=AT,
            adapter=digest(name),
            against=against,
            by="the rule",
            reason="wins 88% of 24 pairs",
            run=f"run {name}",
            evidence=digest(f"evidence {name}"),
            ruling=Ruling(
                promote=kind == "promoted",
                reason="wins 88% of 24 pairs",
                clips=12,
                pairs=24,
                win_rate=0.88,
                win_rate_low=0.71,
                win_rate_high=1.0,
                psnr_difference=0.1,
                ssim_difference=-0.002,
            ),
        )
        registry.append(lambda state, event=event: event)
    return store


def test_the_table_shows_the_second_judge_where_it_judged(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    name = "second judge (never chooses)"
    _, before, _ = call(monkeypatch, capsys, "models")
    entry = registered("c").model_copy(update={"metrics": {"second_judge": 0.625}})
    Registry(store.address).append(lambda state: entry)
    _, after, _ = call(monkeypatch, capsys, "models")
    assert name not in before and name in after
    assert "0.625" in after.splitlines()[1]


def test_the_table_shows_roles_numbers_and_reasons(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    code, out, _ = call(monkeypatch, capsys, "models")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [row[:2] for row in rows[1:]] == [[B[:12], "challenger"], [A[:12], "champion"]]
    assert "88% (71% to 100%)" in out and "+0.10" in out and "-0.002" in out
    assert "promoted by the rule, 2026-01-01T00:00: wins 88% of 24 pairs" in out


def test_the_table_as_json(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    _, out, _ = call(monkeypatch, capsys, "models", "--json")
    newest = json.loads(out)[0]
    assert (newest["adapter"], newest["role"], newest["ruling"]["win_rate"]) == (B, "challenger", 0.88)
    assert newest["decided"]["against"] == A


def test_an_empty_store_says_how_adapters_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("IPA_HOME", str(Store(tmp_path / "empty").address))
    code, out, _ = call(monkeypatch, capsys, "models")
    assert (code, out) == (0, "no adapter is registered yet: a run registers its own after evaluation\n")


def test_promote_by_hand_keeps_who_and_why(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("LOGNAME", "anna")
    code, out, _ = call(monkeypatch, capsys, "models", "promote", B[:8], "--reason", "fingers are right")
    last = Registry(store.address).state().decisions[-1]
    assert (code, out) == (0, f"{B[:12]} is champion, before: {A[:12]}\n")
    assert (last.kind, last.adapter, last.by, last.reason) == ("promoted", B, "anna", "fingers are right")


def test_roll_back_to_the_champion_before(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    call(monkeypatch, capsys, "models", "promote", B, "--reason", "try it")
    code, out, _ = call(monkeypatch, capsys, "models", "rollback", "--reason", "six fingers")
    assert (code, out) == (0, f"{B[:12]} is rolled back, champion: {A[:12]}\n")
    assert Registry(store.address).state().champions == (A,)


def test_export_writes_the_lora_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    code, _, _ = call(monkeypatch, capsys, "models", "export", A[:8], str(tmp_path / "out"))
    assert code == 0
    assert (tmp_path / "out" / "pytorch_lora_weights.safetensors").read_bytes() == b"the LoRA's bytes"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("promote", A, "--reason", "again"), f"{A[:12]} is the champion already"),
        (("promote", "zzz", "--reason", "why not"), "there is no adapter 'zzz'; registered are: "),
        (("promote", B, "--reason", " "), "--reason is empty"),
        (("rollback", B, "--reason", "no"), f"{B[:12]} is not champion (it is challenger)"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture, arguments: tuple[str, ...], sentence: str
) -> None:
    before = Registry(store.address).state().events
    code, out, err = call(monkeypatch, capsys, "models", *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"ipa: {sentence}")
    assert Registry(store.address).state().events == before


@pytest.mark.parametrize("command", [("promote", B), ("rollback",)])
def test_a_decision_by_hand_wants_a_reason(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: tuple[str, ...]
) -> None:
    code, _, err = call(monkeypatch, capsys, "models", *command)
    assert code == 2
    assert "--reason" in err


def test_without_a_champion_there_is_nothing_to_roll_back(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    call(monkeypatch, capsys, "models", "rollback", "--reason", "no")
    _, _, err = call(monkeypatch, capsys, "models", "rollback", "--reason", "no")
    assert err == "ipa: there is no champion to roll back\n"


def test_of_several_champions_one_is_named(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    registry = Registry(store.address)
    registry.append(lambda state: registered("z", model="other base"))
    registry.promote(digest("z"), "me", "first", AT)
    _, _, err = call(monkeypatch, capsys, "models", "rollback", "--reason", "no")
    assert err == f"ipa: name the champion to roll back: {A[:12]}, {digest('z')[:12]}\n"
