"""Parts that only a store behind a URL has: a server, its answers, and machines that share it."""

import multiprocessing
import os
import pickle
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest

from storage import Action, ActionResult, Blob, ObjectStore, Store, StoreError
from storage.collection import Roots
from storage.damage import damages
from storage.digest import digest_bytes
from storage.folders import open_folder
from storage.maintenance import stat
from storage.remote import RemoteFolder
from tests.storage.test_collection import collected

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def cache_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def requests(monkeypatch):
    """The names of the operations that go to the server from now on."""
    from s3fs import S3FileSystem

    seen = []
    call = S3FileSystem._call_s3

    async def counted(self, method, *arguments, **options):
        seen.append(method)
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    return seen


def commit(store, number, data=b"bytes"):
    action = Action("poses", 1, {"number": number}, {})
    blob = Blob(store.objects.put(data), len(data))
    return store.actions.commit(ActionResult(action, "done", None, {"by": data.decode()}, {"pose": blob}))


def write_exclusively(address, data, meet):
    meet.wait(60)
    return open_folder(address).write("name", data, replace=False)


def test_of_two_processes_that_create_a_file_one_does(bucket):
    with SPAWN.Manager() as manager:
        meet = manager.Barrier(2)
        with ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
            created = list(pool.map(write_exclusively, [bucket] * 2, [b"one", b"two"], [meet] * 2))
    assert sorted(created) == [False, True]
    assert open_folder(bucket).read("name") == (b"one" if created[0] else b"two")


def test_the_first_committed_result_stands(bucket):
    first = commit(Store(bucket), 1, b"first")
    assert commit(Store(bucket), 1, b"second") == first


@pytest.mark.parametrize("condition", ["If-None-Match", ""])
def test_a_file_that_is_there_is_known_by_any_servers_answer(bucket, monkeypatch, condition):
    from moto.s3 import responses

    # Some servers don't say which condition did not hold.
    monkeypatch.setattr(
        responses, "PreconditionFailed", lambda _, kind=responses.PreconditionFailed: kind(failed_condition=condition)
    )
    folder = open_folder(bucket)
    assert folder.write("name", b"one", replace=False)
    assert not folder.write("name", b"two", replace=False)
    assert folder.read("name") == b"one"


def test_a_file_that_another_is_writing_is_waited_for(bucket, monkeypatch):
    from botocore.exceptions import ClientError
    from s3fs import S3FileSystem

    answers = [409, 409]
    pipe = S3FileSystem._pipe_file

    async def conflicting(self, *arguments, **options):
        if answers:
            error = OSError("conflict")
            error.__cause__ = ClientError({"ResponseMetadata": {"HTTPStatusCode": answers.pop()}}, "PutObject")
            raise error
        return await pipe(self, *arguments, **options)

    monkeypatch.setattr(S3FileSystem, "_pipe_file", conflicting)
    assert open_folder(bucket).write("name", b"one", replace=False)


def test_a_look_up_of_many_is_a_listing_and_a_bundle(bucket, requests):
    store = Store(bucket)
    keys = [commit(store, number).key for number in range(40)]
    requests.clear()
    assert set(store.actions.lookup("poses", [*keys, digest_bytes(b"absent")])) == set(keys)
    # The first one asks for each, and writes the bundle.
    assert Counter(requests) == {"list_objects_v2": 1, "get_object": 41, "put_object": 1}
    commit(store, 40)
    requests.clear()
    assert set(store.actions.lookup("poses", keys)) == set(keys)
    assert Counter(requests) == {"list_objects_v2": 1, "get_object": 1}
    requests.clear()
    store.actions.lookup("poses", keys[:3])
    assert requests == ["get_object"] * 3


@pytest.mark.parametrize("damage", ["lost", "truncated", "garbage"])
def test_a_bundle_only_saves_time(bucket, damage):
    store = Store(bucket)
    keys = [commit(store, number).key for number in range(40)]
    store.actions.lookup("poses", keys)
    name = "bundles/actions/poses.zip"
    data = store.folder.read(name)
    if damage == "lost":
        store.folder.delete(name)
    else:
        store.folder.write(name, data[:-40] if damage == "truncated" else b"PK garbage")
        assert [found.name for found in damages(store)] == [name]
    assert set(store.actions.lookup("poses", keys)) == set(keys)
    assert store.folder.read(name) == data


def test_a_bundle_holds_no_result_that_was_replaced_or_forgotten(bucket):
    store = Store(bucket)
    results = [commit(store, number) for number in range(40)]
    keys = [result.key for result in results]
    store.actions.lookup("poses", keys)
    store.actions.forget("poses", keys[0])
    store.actions.forget("poses", keys[1])
    again = commit(store, 1, b"other bytes")
    found = store.actions.lookup("poses", keys)
    assert keys[0] not in found
    assert found[keys[1]] == again != results[1]


def test_a_large_file_goes_up_and_down_in_parts(bucket, tmp_path, requests):
    data = os.urandom(1024) * 40 * 1024
    (tmp_path / "large").write_bytes(data)
    store = Store(bucket)
    requests.clear()
    digest = store.objects.put_file(tmp_path / "large")
    assert (requests.count("upload_part"), requests.count("put_object")) == (3, 0)
    assert store.objects.path(digest).read_bytes() == data


def test_the_least_used_copies_go_when_they_are_too_many(bucket, tmp_path):
    objects = ObjectStore(bucket, cache_gb=25e-9)
    digests = [objects.put(b"%010d" % number) for number in range(4)]
    for age, digest in zip((7200, 9000, 3700), digests[:3], strict=True):
        os.utime(objects.path(digest), (time.time() - age, 1))
    objects.path(digests[3])
    assert [copy(tmp_path, digest).exists() for digest in digests] == [False, False, True, True]
    assert objects.path(digests[1]).read_bytes() == b"%010d" % 1


def copy(folder, digest):
    return folder / "cache" / "ipa" / "objects" / digest[:2] / digest[2:]


def test_an_answer_that_was_lost_is_no_other_writer(bucket, monkeypatch):
    """The server has written the file, and the second try finds it there."""
    from s3fs import S3FileSystem

    pipe = S3FileSystem._pipe_file

    async def twice(self, path, data, **options):
        await pipe(self, path, data, **options)
        return await pipe(self, path, data, **options)

    monkeypatch.setattr(S3FileSystem, "_pipe_file", twice)
    assert open_folder(bucket).write("name", b"one", replace=False)


def test_a_server_that_fails_is_not_taken_for_an_empty_store(bucket, monkeypatch):
    from s3fs import S3FileSystem

    store = Store(bucket)
    key = commit(store, 1).key

    async def denied(self, *arguments, **options):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(S3FileSystem, "_call_s3", denied)
    with pytest.raises(StoreError, match=f"can't read {bucket}/actions/poses: Access Denied"):
        store.actions.lookup("poses", [key])


def test_no_bucket_is_one_sentence(s3_server):
    with pytest.raises(
        StoreError, match=r"^can't list s3://no-such-bucket/store: The specified bucket does not exist$"
    ):
        Store("s3://no-such-bucket/store")


def test_no_server_is_one_sentence(bucket, monkeypatch):
    from botocore.exceptions import EndpointConnectionError
    from s3fs import S3FileSystem

    async def unreachable(self, *arguments, **options):
        raise EndpointConnectionError(endpoint_url="http://nowhere")

    monkeypatch.setattr(S3FileSystem, "_call_s3", unreachable)
    with pytest.raises(StoreError, match=r"can't read s3://.*: Could not connect to the endpoint URL"):
        Store(bucket)


@pytest.mark.parametrize("url", ["s3://", "s3:///"])
def test_a_url_without_a_bucket_is_refused(url):
    with pytest.raises(StoreError, match="names no bucket: write s3://bucket/folder"):
        open_folder(url)


def test_an_unknown_protocol_is_one_sentence():
    with pytest.raises(StoreError, match=r"can't read nonsense://a/ipa-store.json: Protocol not known: nonsense"):
        Store("nonsense://a")


def test_an_empty_folder_that_a_console_made_becomes_a_store(bucket):
    import fsspec

    fsspec.filesystem("s3").pipe_file(f"{bucket}/store/", b"")
    assert stat(Store(f"{bucket}/store")).objects == 0


def test_folders_are_listed_without_what_is_in_them(bucket, requests):
    folder = open_folder(bucket)
    for name in ("runs/b/run.json", "runs/a/lora/x", "runs/a/y", "runs/file", "other/z"):
        folder.write(name, b"x")
    requests.clear()
    assert (folder.folders("runs"), folder.folders("none"), folder.folders()) == (["a", "b"], [], ["other", "runs"])
    assert "list_objects_v2" in requests and len(requests) <= 4


def test_a_copy_for_people_is_made_by_the_server(bucket, requests):
    store = Store(bucket)
    digest = store.objects.put(b"weights")
    requests.clear()
    store.objects.export(digest, "runs/1/lora/weights", link=True)
    assert "get_object" not in requests
    assert store.folder.read("runs/1/lora/weights") == b"weights"


def make_old(monkeypatch):
    """Let two hours pass."""
    from storage import collection, remote

    for module in (collection, remote):
        monkeypatch.setattr(module, "time", Later)


class Later:
    @staticmethod
    def time():
        import time

        return time.time() + 7200


def test_gc_drops_old_objects_that_nothing_names(bucket, monkeypatch):
    store = Store(bucket)
    result = commit(store, 1, b"referenced")
    unreferenced = store.objects.put(b"unreferenced")
    roots = Roots(actions=frozenset([result.key]))
    assert collected(store, roots) == [("results", 0, 0), ("objects", 0, 0)]
    make_old(monkeypatch)
    assert collected(store, roots) == [("results", 0, 0), ("objects", 1, len(b"unreferenced"))]
    assert not store.objects.has(unreferenced)
    assert store.objects.has(result.outputs["pose"].digest)


def test_an_old_object_that_is_put_again_becomes_new(bucket, monkeypatch, requests):
    store = Store(bucket)
    store.objects.put(b"bytes")
    requests.clear()
    store.objects.put(b"bytes")
    assert requests == ["head_object"]
    make_old(monkeypatch)
    store.objects.put(b"bytes")
    assert requests[-1] == "put_object"


def test_a_checkpoint_is_found_by_another_machine(bucket):
    for step in (1, 2, 3):
        Store(bucket).checkpoints.save("run", step, b"state %d" % step)
    assert Store(bucket).checkpoints.load("run") == (3, b"state 3")
    assert len(list(open_folder(bucket).names("checkpoints"))) == 2


def read_in_child(folder):
    return folder.read("name")


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_folder_works_in_a_child_process(bucket, method):
    folder = open_folder(bucket)
    folder.write("name", b"bytes")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(read_in_child, folder).result(timeout=60) == b"bytes"


def test_no_credentials_are_passed_on(bucket):
    store = Store(bucket)
    commit(store, 1)
    passed = pickle.dumps(store) + pickle.dumps(store.folder) + pickle.dumps(store.objects)
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in passed
    assert vars(store.folder) == {"url": bucket}


def test_digests_of_urls_are_shared_and_those_of_files_are_not(bucket, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    os.utime(tmp_path / "file", (1, 1))
    store = Store(bucket)
    store.digests.remember_url("s3://videos/a.mp4", "1 etag", digest_bytes(b"a"))
    store.digests.file(tmp_path / "file")
    store.digests.save()
    there = RemoteFolder(bucket)
    assert Store(bucket).digests.url("s3://videos/a.mp4", "1 etag") == digest_bytes(b"a")
    assert Store(bucket).digests.url("s3://videos/a.mp4", "1 other") is None
    assert there.read("files.json") is None
    assert (tmp_path / "cache" / "ipa" / "files.json").exists()
