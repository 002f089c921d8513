"""The log of the registry, and the state that its events give."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from storage import StoreError
from storage.digest import digest_bytes
from storage.log import NumberedLog
from storage.registry import Decided, Lineage, Registered, Registry, State

AT = "2026-01-01T00:00:00+00:00"


def digest(name: str) -> str:
    return digest_bytes(name.encode())


def registered(
    name: str,
    *,
    model: str = "base",
    run: str = "run",
    generator: str | None = None,
    trained_on: tuple[str, ...] = (),
    held_out: tuple[str, ...] = (),
    files: dict[str, str] | None = None,
) -> Registered:
    return Registered(
        at=AT,
        run=run,
        adapter=digest(name),
        files=files or {},
        lineage=Lineage(
            model=digest(model),
            generator=generator and digest(generator),
            scores=digest("scores"),
            samples=digest("samples"),
            shards={"000000.tar": digest("shard")},
            selection=digest("selection"),
            finetune=digest("finetune"),
            config={"name": "test", "beta": 1.0},
        ),
        metrics={"psnr": 20.0},
        trained_on=trained_on,
        held_out=held_out,
    )


def with_adapters(address: Path | str, *names: str) -> Registry:
    registry = Registry(address)
    for name in names:
        registry.append(lambda state, name=name: registered(name))
    return registry


def test_an_empty_store_has_no_champion(address) -> None:
    state = Registry(address).state()
    assert (state.events, state.champion(digest("base"))) == ((), None)


def test_events_come_back_as_they_were_written(address) -> None:
    registry = with_adapters(address, "a")
    decided = registry.promote(digest("a"), "me", "looks right", AT)
    assert Registry(address).state().events == (registered("a"), decided)


def test_promote_and_roll_back_by_hand(address) -> None:
    registry = with_adapters(address, "a", "b")
    registry.promote(digest("a"), "me", "first", AT)
    registry.promote(digest("b"), "me", "better", AT)
    back = registry.roll_back(digest("b"), "me", "worse after all", AT)
    state = registry.state()
    assert (back.against, state.champion(digest("base"))) == (digest("a"), digest("a"))
    assert (state.role(digest("a")), state.role(digest("b"))) == ("champion", "former")


def test_the_first_champion_is_rolled_back_to_the_base_model(address) -> None:
    registry = with_adapters(address, "a")
    registry.promote(digest("a"), "me", "first", AT)
    assert registry.roll_back(digest("a"), "me", "no", AT).against is None
    assert registry.state().champions == ()


def test_base_models_have_champions_of_their_own(address) -> None:
    registry = with_adapters(address, "a")
    registry.append(lambda state: registered("z", model="other base"))
    registry.promote(digest("a"), "me", "first", AT)
    registry.promote(digest("z"), "me", "first", AT)
    state = registry.state()
    assert [state.champion(digest(model)) for model in ("base", "other base")] == [digest("a"), digest("z")]


def test_a_champion_cannot_be_promoted(address) -> None:
    registry = with_adapters(address, "a")
    registry.promote(digest("a"), "me", "first", AT)
    with pytest.raises(StoreError, match=f"{digest('a')[:12]} is the champion already"):
        registry.promote(digest("a"), "me", "again", AT)


def test_only_a_champion_is_rolled_back(address) -> None:
    registry = with_adapters(address, "a")
    with pytest.raises(StoreError, match=r"is not champion \(it is challenger\)"):
        registry.roll_back(digest("a"), "me", "no", AT)


def test_whoever_comes_second_decides_again_on_what_the_first_wrote(address) -> None:
    registry = with_adapters(address, "a", "b")
    seen: list[str | None] = []

    def decide(state: State) -> Decided:
        seen.append(state.champion(digest("base")))
        if len(seen) == 1:
            Registry(address).promote(digest("a"), "another run", "faster", AT)
        return Decided(kind="promoted", at=AT, adapter=digest("b"), against=seen[-1], by="the rule", reason="slower")

    event = registry.append(decide)
    assert seen == [None, digest("a")]
    assert isinstance(event, Decided) and event.against == digest("a")


def test_no_event_is_lost_when_many_write_at_once(tmp_path) -> None:
    names = [f"adapter {number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: with_adapters(tmp_path, name), names))
    assert set(Registry(tmp_path).state().adapters) == {digest(name) for name in names}


def test_of_many_that_promote_at_once_each_is_against_the_one_before(tmp_path) -> None:
    names = [f"adapter {number}" for number in range(12)]
    with_adapters(tmp_path, *names)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: Registry(tmp_path).promote(digest(name), "me", "race", AT), names))
    decisions = Registry(tmp_path).state().decisions
    assert [one.against for one in decisions] == [None, *(one.adapter for one in decisions[:-1])]


def test_a_damaged_event_is_named(tmp_path) -> None:
    registry = with_adapters(tmp_path, "a", "b")
    path = tmp_path / "registry" / "000001.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"psnr":20.0', b'"psnr":29.0'))
    with pytest.raises(StoreError, match=r"registry/000001\.json is damaged"):
        registry.state()


def test_a_missing_event_is_named(tmp_path) -> None:
    registry = with_adapters(tmp_path, "a", "b")
    (tmp_path / "registry" / "000001.json").unlink()
    with pytest.raises(StoreError, match=r"registry/000001\.json is missing"):
        registry.state()


def test_the_registry_names_the_objects_and_results_of_every_adapter() -> None:
    state = State((registered("a"), registered("b", generator="a", files={"lora.safetensors": digest("lora")})))
    assert state.objects() == {digest(name) for name in ("lora", "a", "scores", "samples", "shard")}
    assert state.actions() == {digest("selection"), digest("finetune")}


def test_a_champions_runs_are_those_of_its_line_of_generators(tmp_path) -> None:
    registry = Registry(tmp_path)
    for name, generator in (("a", None), ("b", "a"), ("c", "b"), ("other", None)):
        registry.append(lambda state, name=name, by=generator: registered(name, run=f"run {name}", generator=by))
    registry.promote(digest("b"), "anna", "by hand", AT)
    assert registry.state().champions_runs() == {"run a", "run b"}


def test_an_event_of_a_newer_version_is_told_from_a_damaged_one(tmp_path) -> None:
    class Newer(Registered):
        licence: str = "ours"

    log = NumberedLog(tmp_path, "registry", "event", TypeAdapter(Newer), "")
    log.create(1, Newer(**dict(registered("a"))))
    with pytest.raises(StoreError, match=r"this version can't read .*registry/000001\.json; install the version of"):
        Registry(tmp_path).state()


def test_an_adapter_is_found_by_the_beginning_of_its_digest() -> None:
    state = State((registered("a"), registered("b")))
    assert state.find(digest("a")[:8]) == digest("a")


@pytest.mark.parametrize(("name", "sentence"), [("xyz", "there is no adapter 'xyz'"), ("", "there is no adapter ''")])
def test_an_unknown_adapter_is_said_with_the_known(name: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=f"{sentence}; registered are: {digest('a')[:12]}"):
        State((registered("a"),)).find(name)


def test_an_ambiguous_beginning_is_said() -> None:
    names = [f"adapter {number}" for number in range(17)]
    first = [digest(name)[0] for name in names]
    twice = next(letter for letter in first if first.count(letter) > 1)
    with pytest.raises(StoreError, match=f"'{twice}' names {first.count(twice)} adapters; they are"):
        State(tuple(registered(name) for name in names)).find(twice)


def test_people_are_known_with_the_run_that_held_them_out_first() -> None:
    events = (registered("a", run="one", held_out=("anna",)), registered("b", run="two", held_out=("anna", "ben")))
    assert State(events).held_out() == {"anna": "one", "ben": "two"}


def test_an_adapter_has_seen_what_its_generators_have() -> None:
    events = (
        registered("a", run="one", trained_on=("anna",)),
        registered("b", run="two", trained_on=("ben",), generator="a"),
        registered("c", run="three", trained_on=("carl",)),
    )
    assert State(events).trained_on(digest("b")) == {"anna": "one", "ben": "two"}


def test_registering_again_adds_people_only() -> None:
    state = State((registered("a", held_out=("anna", "ben")),))
    assert state.knows(registered("a", run="later", held_out=("ben",)))
    assert not state.knows(registered("a", run="later", held_out=("carl",)))
    assert not state.knows(registered("b", held_out=("anna",)))


def test_a_promoted_adapter_keeps_its_opponent() -> None:
    def promoted(name: str, against: str | None) -> Decided:
        before = against and digest(against)
        return Decided(kind="promoted", at=AT, adapter=digest(name), against=before, by="the rule", reason="wins")

    adapters = (registered("a"), registered("b"), registered("c"))
    state = State((*adapters, promoted("a", None), promoted("b", "a")))
    opponents = [state.opponent(digest(name), digest("base")) for name in "abc"]
    assert opponents == [None, digest("a"), digest("b")]


MOVES = st.lists(st.tuples(st.sampled_from(["promote", "refuse", "roll back"]), st.sampled_from("abcd")), max_size=30)


@given(MOVES)
def test_the_fold_is_a_stack_of_champions(moves: list[tuple[str, str]]) -> None:
    events: list[Registered | Decided] = [registered(name) for name in "abcd"]
    stack: list[str] = []
    for move, name in moves:
        against = digest(stack[-1]) if stack else None
        if move == "promote" and name not in stack[-1:]:
            events.append(_decided("promoted", name, against))
            stack.append(name)
        elif move == "refuse" and name not in stack:
            events.append(_decided("refused", name, against))
        elif move == "roll back" and stack:
            gone = stack.pop()
            events.append(_decided("rolled_back", gone, digest(stack[-1]) if stack else None))
        state = State(tuple(events))
        assert state.champion(digest("base")) == (digest(stack[-1]) if stack else None)
        assert [one for one in "abcd" if state.role(digest(one)) == "champion"] == stack[-1:]


def _decided(kind, name: str, against: str | None) -> Decided:
    return Decided(kind=kind, at=AT, adapter=digest(name), against=against, by="me", reason="because")
