import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import CorruptObject, MissingObject, ObjectStore
from storage.digest import digest_bytes

ABSENT = digest_bytes(b"never put")


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(data=st.binary(max_size=300))
def test_what_was_put_is_got(address, data):
    objects = ObjectStore(address)
    digest = objects.put(data)
    assert digest == digest_bytes(data)
    assert objects.get(digest) == data == objects.path(digest).read_bytes()
    assert objects.size(digest) == len(data)


def test_an_object_lies_under_its_digest(tmp_path):
    digest = ObjectStore(tmp_path).put(b"bytes")
    assert (tmp_path / "objects" / digest[:2] / digest[2:]).read_bytes() == b"bytes"


@pytest.mark.parametrize("data", [b"", b"a file"])
def test_a_file_is_stored_as_its_bytes(address, tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    objects = ObjectStore(address)
    assert objects.get(objects.put_file(tmp_path / "file")) == data


def test_putting_twice_keeps_one_object(address):
    objects = ObjectStore(address)
    assert objects.put(b"x") == objects.put(b"x")
    assert list(objects.all()) == [(digest_bytes(b"x"), 1)]


def test_putting_what_is_there_writes_nothing(tmp_path):
    objects = ObjectStore(tmp_path)
    path = objects.path(objects.put(b"x"))
    before = path.stat().st_ino
    objects.put(b"x")
    assert path.stat().st_ino == before


def test_putting_mends_an_object_that_was_cut_short(tmp_path):
    objects = ObjectStore(tmp_path)
    digest = objects.put(b"whole")
    (tmp_path / "objects" / digest[:2] / digest[2:]).write_bytes(b"who")
    objects.put(b"whole")
    assert objects.get(digest) == b"whole"


def test_absent_objects_are_said_to_be_missing(address):
    objects = ObjectStore(address)
    assert not objects.has(ABSENT)
    objects.delete(ABSENT)
    for ask in (objects.get, objects.path, objects.size, objects.check):
        with pytest.raises(MissingObject, match=ABSENT) as raised:
            ask(ABSENT)
        assert raised.value.digest == ABSENT


@pytest.mark.parametrize("same_folder", [True, False], ids=["many in a folder", "few in each"])
def test_missing_names_what_is_absent(address, same_folder):
    objects = ObjectStore(address)
    present = {objects.put(b"%d" % number) for number in range(20)}
    absent = {digest_bytes(b"no %d" % number) for number in range(20)}
    if same_folder:
        first = sorted(present)[0][:2]
        absent |= {first + digest[2:] for digest in absent}
    assert objects.missing([*present, *absent]) == absent


def test_deleting_removes(address):
    objects = ObjectStore(address)
    digest = objects.put(b"x")
    objects.path(digest)
    objects.delete(digest)
    assert not objects.has(digest)
    assert list(objects.all()) == []


@pytest.mark.parametrize("ask", ["get", "path", "check"])
def test_damaged_bytes_are_never_used(tmp_path, ask):
    objects = ObjectStore(tmp_path)
    digest = objects.put(b"some bytes")
    damage(tmp_path / "objects" / digest[:2] / digest[2:])
    with pytest.raises(CorruptObject, match=digest) as raised:
        getattr(objects, ask)(digest)
    assert raised.value.digest == digest
    assert not objects.has(digest)
    assert objects.quarantined() == [digest]
    objects.put(b"some bytes")
    assert objects.get(digest) == b"some bytes"


def test_damage_after_the_first_opening_is_seen(tmp_path):
    objects = ObjectStore(tmp_path)
    digest = objects.put(b"some bytes")
    damage(objects.path(digest))
    with pytest.raises(CorruptObject):
        objects.path(digest)


def test_a_damaged_remote_object_is_never_used(address):
    objects = ObjectStore(address)
    digest = objects.put(b"some bytes")
    objects._folder.write(f"objects/{digest[:2]}/{digest[2:]}", b"same bytes")
    with pytest.raises(CorruptObject):
        objects.get(digest)
    assert objects.quarantined() == [digest]
    assert objects.missing([digest]) == {digest}


def test_a_damaged_local_copy_of_a_remote_object_is_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    objects = ObjectStore("memory://copies")
    digest = objects.put(b"some bytes")
    damage(objects.path(digest))
    assert objects.path(digest).read_bytes() == b"some bytes"


@pytest.mark.parametrize("text", ["", "../../etc/passwd", "0" * 63, "F" * 64])
def test_only_digests_become_paths(address, text):
    objects = ObjectStore(address)
    for ask in (
        objects.get,
        objects.path,
        objects.has,
        objects.size,
        objects.delete,
        lambda text: objects.missing([text]),
    ):
        with pytest.raises(ValueError, match="a digest is 64"):
            ask(text)


@pytest.mark.parametrize("kind", [MissingObject, CorruptObject])
def test_the_errors_cross_processes(kind):
    copy = pickle.loads(pickle.dumps(kind(ABSENT)))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert copy.digest == ABSENT
    assert str(copy) == str(kind(ABSENT))


def test_a_file_url_is_a_local_folder(tmp_path):
    digest = ObjectStore(f"file://{tmp_path}").put(b"x")
    assert ObjectStore(tmp_path).get(digest) == b"x"
