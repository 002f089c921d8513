import json
import logging
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import (
    Action,
    ActionCache,
    ActionResult,
    Blob,
    CorruptObject,
    MissingObject,
    ObjectStore,
    Store,
    StoreError,
)
from storage.actions import GENERATION, mend_marker
from storage.digest import digest_bytes, json_bytes
from tests.storage.test_digest import JSON, TEXT

VIDEO = digest_bytes(b"video")
CONFIGS = st.dictionaries(TEXT, JSON, max_size=4)


def action(**changes) -> Action:
    fields = {"stage": "poses", "version": 1, "config": {"backend": "mediapipe"}, "inputs": {"video": VIDEO}}
    return Action(**fields | changes)


def done(address, number: int = 0, data: bytes = b"pose") -> ActionResult:
    """A result whose output is in the store."""
    blob = Blob(ObjectStore(address).put(data), len(data))
    return ActionResult(action(config={"number": number}), "done", None, {"frames": 17}, {"pose": blob}, {"torch": "2"})


def action_file(address, result: ActionResult):
    return address / "actions" / result.action.stage / result.key[:2] / f"{result.key}.json"


def write_changed(address, result: ActionResult, change: dict) -> bytes:
    """Write a result as a version would that has other fields."""
    head = b'{"key":"' + result.key.encode() + b'","result":'
    data = head + json_bytes(json.loads(result.to_json()) | change)
    whole = data + b',"blake3":"' + digest_bytes(data).encode() + b'"}\n'
    action_file(address, result).write_bytes(whole)
    return whole


class TestAction:
    def test_a_fixed_action_has_a_fixed_key(self):
        """A change of this key makes every store in the world start anew."""
        fixed = Action(
            "candidates", 3, {"shift": 5.0, "steps": 50, "prompt": "Tänzer", "seeds": [1, 2]}, {"pose": VIDEO}
        )
        assert fixed.key == "efceb60a0a70dfb28eb8417677b05ee130b9edfd2fcbc0e4b18d76c33ac45ed5"

    @settings(max_examples=40, deadline=None)
    @given(CONFIGS)
    def test_the_order_of_mappings_plays_no_part(self, config):
        backwards = action(config=dict(reversed(config.items())), inputs={"b": VIDEO, "a": VIDEO})
        assert backwards.key == action(config=config, inputs={"a": VIDEO, "b": VIDEO}).key

    @pytest.mark.parametrize(
        "changes",
        [
            {"stage": "scores"},
            {"version": 2},
            {"config": {"backend": "dwpose"}},
            {"config": {"backend": "mediapipe", "model": None}},
            {"inputs": {"video": digest_bytes(b"other")}},
            {"inputs": {"clip": VIDEO}},
        ],
    )
    def test_every_field_is_in_the_key(self, changes):
        assert action(**changes).key != action().key

    def test_the_key_is_of_what_was_given_at_first(self):
        config = {"layers": [1]}
        made = action(config=config)
        config["layers"].append(2)
        assert made.key == action(config={"layers": [1]}).key

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"inputs": {"video": "clip.mp4"}}, "input 'video' of stage poses must be 64"),
            ({"config": {"beta": float("nan")}}, r"config of stage poses\.beta is nan"),
            ({"config": {"model": object()}}, r"config of stage poses\.model is a object"),
            ({"stage": "../poses"}, "a stage's name is"),
            ({"version": True}, "version of stage poses must be a whole number"),
        ],
    )
    def test_what_has_no_key_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            action(**changes)


class TestActionResult:
    @settings(max_examples=40, deadline=None)
    @given(CONFIGS, CONFIGS, CONFIGS)
    def test_it_is_read_back_as_it_was(self, tmp_path_factory, config, record, provenance):
        address = tmp_path_factory.mktemp("store")
        pose = Blob(ObjectStore(address).put(b"pose"), 4)
        result = ActionResult(action(config=config), "done", None, record, {"pose": pose}, provenance)
        ActionCache(address).commit(result)
        assert ActionCache(address).get("poses", result.key) == result

    def test_a_rejection_has_a_reason(self):
        with pytest.raises(ValueError, match="a reason belongs to 'rejected' alone"):
            ActionResult(action(), "rejected", None, {})
        with pytest.raises(ValueError, match="a reason belongs to 'rejected' alone"):
            ActionResult(action(), "done", "no person", {})

    def test_the_record_is_json(self):
        with pytest.raises(ValueError, match=r"record\.score is inf"):
            ActionResult(action(), "done", None, {"score": float("inf")})


class TestActionCache:
    def test_a_committed_result_is_found(self, address):
        result = done(address)
        assert ActionCache(address).commit(result) == result
        assert ActionCache(address).get("poses", result.key) == result

    def test_a_rejection_is_found(self, address):
        rejected = ActionResult(action(), "rejected", "no person", {})
        ActionCache(address).commit(rejected)
        assert ActionCache(address).get("poses", rejected.key) == rejected

    def test_look_up_finds_those_that_are_there(self, address):
        cache = ActionCache(address)
        results = {result.key: cache.commit(result) for result in (done(address, number) for number in range(5))}
        assert cache.lookup("poses", [*results, digest_bytes(b"absent")]) == results
        assert {result.key: result for result in cache.all("poses")} == results
        assert cache.lookup("scores", results) == {}
        assert cache.stages() == ["poses"]

    def test_the_first_commit_stands(self, address):
        first, second = done(address, data=b"first"), done(address, data=b"second")
        ActionCache(address).commit(first)
        assert ActionCache(address).commit(second) == first
        assert ActionCache(address).get("poses", first.key) == first

    def test_a_result_that_lost_its_bytes_gives_way(self, address):
        first, second = done(address, data=b"first"), done(address, data=b"second")
        ActionCache(address).commit(first)
        ObjectStore(address).delete(first.outputs["pose"].digest)
        assert ActionCache(address).commit(second) == second
        assert ActionCache(address).get("poses", first.key) == second

    def test_what_is_forgotten_can_be_committed_anew(self, address):
        first, second = done(address, data=b"first"), done(address, data=b"second")
        cache = ActionCache(address)
        cache.commit(first)
        cache.forget("poses", first.key)
        assert cache.get("poses", first.key) is None
        assert cache.commit(second) == second
        cache.forget("poses", digest_bytes(b"absent"))

    def test_objects_come_before_the_result(self, address):
        result = done(address)
        ObjectStore(address).delete(result.outputs["pose"].digest)
        with pytest.raises(MissingObject):
            ActionCache(address).commit(result)
        assert ActionCache(address).get("poses", result.key) is None

    def test_an_object_that_was_cut_short_is_not_committed(self, tmp_path):
        result = done(tmp_path)
        digest = result.outputs["pose"].digest
        (tmp_path / "objects" / digest[:2] / digest[2:]).write_bytes(b"po")
        with pytest.raises(CorruptObject):
            ActionCache(tmp_path).commit(result)

    @pytest.mark.parametrize("damage", ["empty", "truncated", "one bit", "of another action"])
    def test_a_damaged_file_counts_as_absent_until_the_next_commit(self, tmp_path, caplog, damage):
        cache, result, other = ActionCache(tmp_path), done(tmp_path), done(tmp_path, 1)
        cache.commit(result)
        cache.commit(other)
        path = action_file(tmp_path, result)
        whole = path.read_bytes()
        position = whole.index(b'"frames":17') + len('"frames":1')
        path.write_bytes(
            {
                "empty": b"",
                "truncated": whole[:-20],
                "one bit": whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :],
                "of another action": action_file(tmp_path, other).read_bytes(),
            }[damage]
        )
        with caplog.at_level(logging.WARNING):
            assert cache.get("poses", result.key) is None
            assert cache.lookup("poses", [result.key]) == {}
        assert f"action {result.key} of stage poses is damaged" in caplog.text
        assert cache.commit(result) == result
        assert cache.get("poses", result.key) == result

    def test_fields_of_a_newer_version_are_left_unread(self, tmp_path):
        result = ActionCache(tmp_path).commit(done(tmp_path))
        write_changed(
            tmp_path, result, {"signed_by": "anna", "outputs": {"pose": list(vars(result.outputs["pose"]).values())}}
        )
        assert ActionCache(tmp_path).get("poses", result.key) == result

    @pytest.mark.parametrize("change", [{"outputs": ["pose"]}, {"outcome": "half done"}])
    def test_a_result_of_another_form_is_refused_and_stays(self, tmp_path, change):
        result = ActionCache(tmp_path).commit(done(tmp_path))
        before = write_changed(tmp_path, result, change)
        with pytest.raises(StoreError, match=f"can't read the result of action {result.key} of stage poses; install"):
            ActionCache(tmp_path).commit(result)
        assert action_file(tmp_path, result).read_bytes() == before

    def test_the_file_is_json_that_holds_the_whole_action(self, tmp_path):
        result = ActionCache(tmp_path).commit(done(tmp_path))
        about = json.loads(action_file(tmp_path, result).read_text())
        assert about["result"]["action"] == {
            "stage": "poses",
            "version": 1,
            "config": {"number": 0},
            "inputs": {"video": VIDEO},
        }

    def test_it_works_where_the_file_system_has_no_hard_links(self, tmp_path, monkeypatch):
        def no_links(self, target):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("pathlib.Path.hardlink_to", no_links)
        first, second = done(tmp_path, data=b"first"), done(tmp_path, data=b"second")
        assert ActionCache(tmp_path).commit(first) == first
        assert ActionCache(tmp_path).commit(second) == first

    def test_only_keys_and_stages_become_paths(self, tmp_path):
        with pytest.raises(ValueError, match="an action key is 64"):
            ActionCache(tmp_path).get("poses", "../../x")
        with pytest.raises(ValueError, match="a stage's name is"):
            ActionCache(tmp_path).get("../objects", VIDEO)


class TestStore:
    def test_a_worker_opens_the_same_store(self, address):
        store = Store(address)
        result = store.actions.commit(done(address))
        copy = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
        assert copy.address == store.address
        assert copy.actions.get("poses", result.key) == result

    def test_a_relative_address_holds_in_another_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        store = Store("store")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert (tmp_path / "store" / "objects" / store.objects.put(b"x")[:2]).exists()

    def test_a_store_is_opened_again(self, address):
        digest = Store(address).objects.put(b"x")
        assert Store(address).objects.get(digest) == b"x"

    def test_somebody_elses_folder_is_left_alone(self, tmp_path):
        (tmp_path / "holiday.mp4").write_bytes(b"x")
        with pytest.raises(StoreError, match=r"not empty and not a store \(it holds holiday.mp4\)"):
            Store(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]

    def test_a_newer_format_is_refused(self, tmp_path):
        (tmp_path / "ipa-store.json").write_text('{"format":2}')
        with pytest.raises(StoreError, match="is a store of format 2, and this version reads format 1; install the"):
            Store(tmp_path)

    def test_a_damaged_format_is_said_with_its_remedy(self, tmp_path):
        (tmp_path / "ipa-store.json").write_text('{"form')
        with pytest.raises(StoreError, match=r"ipa-store\.json is damaged; `ipa store repair` writes it again"):
            Store(tmp_path)

    def test_what_a_newer_version_says_beside_the_format_is_left_unread(self, tmp_path):
        (tmp_path / "ipa-store.json").write_text('{"format":1,"written_by":"0.9"}')
        assert Store(tmp_path).exists

    @pytest.mark.parametrize("left", [None, b'{"form', b'{"format":1}'])
    def test_a_store_knows_its_generation_whatever_becomes_of_its_marker(self, address, left):
        folder = Store(address).folder
        Store(address).actions.commit(done(address))
        if left is None:
            folder.delete("ipa-store.json")
        else:
            folder.write("ipa-store.json", left)
        mend_marker(address)
        assert Store(address).generation == GENERATION

    def test_a_store_that_an_older_version_made_is_of_generation_1(self, tmp_path):
        (tmp_path / "ipa-store.json").write_text('{"format":1}')
        assert Store(tmp_path).generation == 1

    def test_nothing_is_made_where_a_store_is_only_looked_for(self, address):
        store = Store(address, make=False)
        assert (store.exists, list(store.actions.stages()), store.folder.read("ipa-store.json")) == (False, [], None)
        Store(address)
        assert Store(address, make=False).exists

    def test_a_stage_of_a_newer_version_is_one_sentence(self, tmp_path):
        store = Store(tmp_path)
        store.folder.write("actions/Poses3D/ab/cd.json", b"{}")
        with pytest.raises(StoreError, match=r"actions/Poses3D is no stage of this version; install the version"):
            store.actions.stages()

    def test_the_stat_cache_lies_in_the_store(self, tmp_path):
        from tests.storage.test_digest import write_old

        store = Store(tmp_path / "store")
        store.digests.file(write_old(tmp_path / "video.mp4", b"x"))
        store.digests.save()
        assert "video.mp4" in (tmp_path / "store" / "files.json").read_text()
