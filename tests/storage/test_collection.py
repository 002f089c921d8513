"""What a collection finds and removes from given roots. `tests/flows/test_store_gc.py` has runs, champions, reviews."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import Action, ActionResult, Blob, Store
from storage.collection import Roots, mark, remove, temporaries, unmarked
from storage.folders import temporary_for
from storage.maintenance import verify

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def commit(store: Store, stage: str, data: bytes, *inputs: str) -> ActionResult:
    """A result with one output. It read other objects."""
    action = Action(stage, 1, {"it": data.decode()}, {f"input{number}": digest for number, digest in enumerate(inputs)})
    return store.actions.commit(
        ActionResult(action, "done", None, {}, {"it": Blob(store.objects.put(data), len(data))})
    )


def output(result: ActionResult) -> str:
    return result.outputs["it"].digest


def make_old(store: Store) -> None:
    for path in Path(store.address).rglob("*"):
        os.utime(path, (time.time() - 7200,) * 2)


def collected(store: Store, roots: Roots) -> list[tuple[str, int, int]]:
    found = unmarked(store, mark(store, roots))
    remove(store, found)
    return [(kind.kind, kind.count, kind.bytes) for kind in found]


def results(store: Store) -> set[str]:
    return {key for stage in store.actions.stages() for key in store.actions.keys(stage)}


def test_a_root_keeps_all_that_it_follows_from(store):
    source = store.objects.put(b"a video")
    clip = commit(store, "clips", b"clip", source)
    pose = commit(store, "poses", b"pose", output(clip))
    commit(store, "poses", b"the pose of another clip", store.objects.put(b"another clip"))
    make_old(store)
    collected(store, Roots(actions=frozenset([pose.key])))
    assert results(store) == {clip.key, pose.key}
    assert {digest for digest, _ in store.objects.all()} == {source, output(clip), output(pose)}


def test_a_named_object_keeps_the_result_that_made_it(store):
    lora = commit(store, "finetune", b"lora")
    make_old(store)
    collected(store, Roots(objects=frozenset([output(lora)])))
    assert results(store) == {lora.key}


def test_a_judged_object_keeps_the_results_that_read_it(store):
    candidate = commit(store, "candidates", b"video")
    score = commit(store, "scores", b"hands", output(candidate))
    make_old(store)
    collected(store, Roots(judged=frozenset([output(candidate)])))
    assert results(store) == {candidate.key, score.key}


def test_a_named_object_lets_the_results_that_read_it_go(store):
    lora = commit(store, "finetune", b"lora")
    commit(store, "evaluation", b"video", output(lora))
    make_old(store)
    collected(store, Roots(objects=frozenset([output(lora)])))
    assert results(store) == {lora.key}


def test_what_is_young_stays(store):
    result = commit(store, "poses", b"pose")
    [size] = [size for _, size in store.folder.sizes("actions")]
    old = store.objects.put(b"put again")
    make_old(store)
    store.objects.put(b"put again")
    young = commit(store, "clips", b"clip")
    assert collected(store, Roots()) == [("results", 1, size), ("objects", 1, len(b"pose"))]
    assert results(store) == {young.key}
    assert not store.objects.missing([old, output(young)])
    assert not store.objects.has(output(result))


def test_what_is_held_by_now_stays(store):
    result = commit(store, "poses", b"pose")
    make_old(store)
    found = unmarked(store, mark(store, Roots()))
    remove(store, found, held=lambda: Roots(actions=frozenset([result.key])))
    assert store.actions.get("poses", result.key) == result
    assert store.objects.has(output(result))


def test_what_has_become_young_since_it_was_found_stays(store):
    digest = store.objects.put(b"used again")
    make_old(store)
    found = unmarked(store, mark(store, Roots()))
    store.objects.put(b"used again")
    remove(store, found)
    assert store.objects.has(digest)


def test_half_written_files_of_killed_processes_go(store):
    left = temporary_for(store.objects.path(store.objects.put(b"whole")))
    left.write_bytes(b"half")
    make_old(store)
    fresh = temporary_for(left)
    fresh.write_bytes(b"being written")
    found = temporaries(store)
    remove(store, [found])
    assert (found.count, found.bytes) == (1, len(b"half"))
    assert (left.exists(), fresh.exists()) == (False, True)


def test_a_link_that_stays_frees_nothing(store, monkeypatch):
    monkeypatch.setattr("storage.objects.LINKED", 1)
    digest = store.objects.put(b"shard")
    store.objects.export(digest, "runs/1/shards/000000.tar", link=True)
    make_old(store)
    assert collected(store, Roots()) == [("results", 0, 0), ("objects", 1, 0)]
    assert store.folder.read("runs/1/shards/000000.tar") == b"shard"


_GRAPHS = st.lists(st.tuples(st.sets(st.integers(0, 8), max_size=3), st.booleans(), st.booleans()), max_size=9)
"""Of each result: the results whose outputs it reads (of those before it), and whether it and its output are roots."""


@settings(max_examples=15, deadline=None)
@given(_GRAPHS)
def test_whatever_the_store_roots_stay_whole_and_the_rest_goes(tmp_path_factory, graph):
    store = Store(tmp_path_factory.mktemp("store") / "store")
    made: list[ActionResult] = []
    needs: list[set[int]] = []
    for number, (reads, _, _) in enumerate(graph):
        reads = {one for one in reads if one < number}
        made.append(
            commit(
                store,
                "poses",
                b"%d" % number,
                *(output(made[one]) for one in reads),
                store.objects.put(b"s%d" % number),
            )
        )
        needs.append({number}.union(*(needs[one] for one in reads)))
    make_old(store)
    named = [number for number, (_, key, digest) in enumerate(graph) if key or digest]
    collected(
        store,
        Roots(
            actions=frozenset(made[n].key for n, (_, key, _) in enumerate(graph) if key),
            objects=frozenset(output(made[n]) for n, (_, _, digest) in enumerate(graph) if digest),
        ),
    )
    stays = set().union(*(needs[number] for number in named))
    assert results(store) == {made[number].key for number in stays}
    assert {size for _, size in store.objects.all()} <= {1, 2}
    assert len(list(store.objects.all())) == 2 * len(stays)
    assert verify(store).incomplete == ()


_KILLED = """
import os, signal, sys
from storage import Store
from storage.collection import Roots, mark, remove, unmarked
store, after = Store(sys.argv[1]), int(sys.argv[2])
def removed(count):
    if count == after:
        os.kill(os.getpid(), signal.SIGKILL)
remove(store, unmarked(store, mark(store, Roots(actions=frozenset(sys.argv[3:])))), removed=removed)
"""


@pytest.mark.parametrize("after", [1, 4, 7])
def test_after_a_kill_every_result_has_its_bytes_and_the_next_one_ends_it(store, after):
    kept = commit(store, "poses", b"kept")
    for number in range(5):
        commit(store, "poses", b"gone %d" % number, store.objects.put(b"clip %d" % number))
    make_old(store)
    command = [sys.executable, "-c", _KILLED, str(store.address), str(after), kept.key]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert len(results(store)) == max(1, 6 - after)
    assert verify(store).incomplete == ()
    collected(store, Roots(actions=frozenset([kept.key])))
    assert results(store) == {kept.key}
    assert {digest for digest, _ in store.objects.all()} == {output(kept)}


def test_a_collection_works_for_every_kind_of_store(address, monkeypatch):
    store = Store(address)
    kept, gone = commit(store, "poses", b"kept"), commit(store, "poses", b"gone")
    monkeypatch.setattr("storage.collection.SPARED_SECONDS", -7200.0)
    collected(store, Roots(actions=frozenset([kept.key])))
    assert results(store) == {kept.key}
    assert store.objects.missing([output(kept), output(gone)]) == {output(gone)}
