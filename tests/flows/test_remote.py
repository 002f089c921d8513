"""A run whose store and driving videos lie in a bucket."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from fastapi.testclient import TestClient

from flows.engine.inputs import RunInputs
from flows.engine.plan import plan_run
from flows.engine.run_folder import RunFolder, last_items, runs
from flows.engine.stage import RunStopped, blob
from flows.engine.store import open_store
from flows.engine.summary import RunSummary
from flows.engine.walk import Scope
from flows.review.app import review_app
from flows.review.queue import open_queue
from flows.review.session import Session
from flows.stages import STAGES
from flows.stages.finetune import LORA
from ipa_core.config import RunConfig
from storage import Store
from storage.digest import digest_bytes
from storage.reviews import Reviews
from tests.fakes import FAKES, fake_config, write_video
from tests.flows.conftest import VIDEOS, Done, run_fake, whole_run
from tests.flows.test_cli import call


def s3() -> Any:
    return fsspec.filesystem("s3", use_listings_cache=False)


@pytest.fixture(autouse=True)
def cache_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@dataclass(frozen=True)
class Finished:
    """A run that has ended, with the videos of `finished` and its store in a bucket. Not to be changed."""

    bucket: str
    summary: RunSummary
    left_behind: tuple[str, ...]
    """What it wrote into its working directory."""


@pytest.fixture(scope="module")
def done(finished: Path, s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    bucket = f"s3://finished-{uuid4().hex}"
    s3().mkdir(bucket)
    s3().put(f"{finished}/videos/", f"{bucket}/videos/", recursive=True)
    folder = tmp_path_factory.mktemp("working directory")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        summary = whole_run(config_of(finished, bucket))
    return Finished(bucket, summary, tuple(path.name for path in folder.iterdir()))


def config_of(finished: Path, bucket: str, **changes: object) -> RunConfig:
    places = {"clips__sources": [f"{bucket}/videos/"], "execution__store": f"{bucket}/store"}
    return fake_config(finished, **places, **changes)


@pytest.fixture
def own(done: Finished, bucket: str) -> str:
    """A copy of the bucket that a test may change."""
    paths = s3().find(done.bucket)
    place = bucket.removeprefix("s3://")
    s3().copy(paths, [f"{place}/{path.partition('/')[2]}" for path in paths])
    return bucket


def keys(done: Done) -> dict[str, list[str]]:
    return {stage: sorted(entry.item.action.key for entry in entries) for stage, entries in done.results.items()}


def put_video(bucket: str, folder: Path, name: str, number: int) -> None:
    write_video(folder / "new.mp4", number)
    s3().put_file(str(folder / "new.mp4"), f"{bucket}/videos/{name}")


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that this process, which looks for new ones, fetches from now on."""
    from s3fs import S3FileSystem

    seen: list[str] = []
    call_server = S3FileSystem._call_s3

    async def counted(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        if method == "get_object" and options["Key"].startswith("videos/"):
            seen.append(options["Key"].removeprefix("videos/"))
        return await call_server(self, method, *arguments, **options)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    return seen


def test_a_local_store_and_its_videos_can_move_into_a_bucket(finished: Path, bucket: str) -> None:
    for folder in ("videos", "store"):
        s3().put(f"{finished}/{folder}/", f"{bucket}/{folder}/", recursive=True)
    there, here = run_fake(config_of(finished, bucket)), run_fake(fake_config(finished))
    assert there.computed() == {}
    assert keys(there) == keys(here)
    assert [entry.item.name for entry in there.results["clips"]] == [entry.item.name for entry in here.results["clips"]]


def test_a_clip_has_the_key_that_it_has_in_local_folders(done: Finished, finished: Path) -> None:
    there, here = (
        run_fake(config, Scope(last="clips")) for config in (config_of(finished, done.bucket), fake_config(finished))
    )
    assert there.computed() == here.computed() == {}
    assert keys(there) == keys(here)


def test_only_a_new_video_is_computed_and_fetched(
    own: str, finished: Path, tmp_path: Path, downloads: list[str]
) -> None:
    assert run_fake(config_of(finished, own)).computed() == {}
    downloads.clear()  # The URLs of the copy were new.
    put_video(own, tmp_path, "new.mp4", 99)
    ended = run_fake(config_of(finished, own), Scope(last="poses"))
    assert ended.computed() == {"clips": 1, "poses": 1}
    assert set(downloads) == {"new.mp4"}


def test_a_replaced_video_is_known_by_its_new_bytes(own: str, finished: Path, tmp_path: Path) -> None:
    before = run_fake(config_of(finished, own), Scope(last="clips"))
    put_video(own, tmp_path, "video-0003.mp4", 77)
    after = run_fake(config_of(finished, own), Scope(last="clips"))
    assert after.computed() == {"clips": 1}
    assert len(set(keys(after)["clips"]) & set(keys(before)["clips"])) == VIDEOS - 1


def test_a_video_that_is_replaced_in_the_middle_of_a_run_fails(
    bucket: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_video(bucket, tmp_path, "a.mp4", 1)
    digest_all = RunInputs._behind_url

    def then_replace(self: RunInputs, video: Any) -> str:
        digest = digest_all(self, video)
        put_video(bucket, tmp_path, "a.mp4", 2)
        return digest

    monkeypatch.setattr(RunInputs, "_behind_url", then_replace)
    with pytest.raises(RunStopped, match=r"a.mp4 has changed since this run began"):
        run_fake(config_of(finished, bucket), Scope(last="clips"))


def test_damage_in_the_bucket_is_found_and_made_good(own: str, finished: Path) -> None:
    before = run_fake(config_of(finished, own))
    digest = blob(before.results.done("poses")[0][1], "pose")
    s3().pipe_file(f"{own}/store/objects/{digest[:2]}/{digest[2:]}", b"damaged")
    ended = run_fake(config_of(finished, own, candidates__per_clip=3))
    assert ended.computed()["poses"] == 1
    assert digest_bytes(ended.store.objects.get(digest)) == digest


def test_what_a_run_made_lies_in_its_folder_of_the_bucket(done: Finished) -> None:
    run = f"{done.bucket}/store/runs/{done.summary.run_id}"
    assert done.summary.outputs == {"lora": f"{run}/lora", "shards": f"{run}/shards", "report": f"{run}/report.html"}
    found = {f"s3://{path}".removeprefix(f"{run}/") for path in s3().find(run)}
    assert found >= {"config.yaml", "items.parquet", "run.json", "report.html", f"lora/{LORA}", "shards/000000.tar"}
    assert any("tfevents" in path for path in s3().find(f"{done.bucket}/store/tensorboard"))
    assert done.left_behind == ()


def test_the_commands_read_a_store_in_a_bucket(
    done: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IPA_HOME", f"{done.bucket}/store")
    code, out, err = call(monkeypatch, capsys, "report", done.summary.run_id)
    assert (code, err) == (0, f"a copy of {done.summary.outputs['report']}\n")
    assert Path(out.strip()).read_bytes() == s3().cat_file(done.summary.outputs["report"])
    code, out, _ = call(monkeypatch, capsys, "report", done.summary.run_id, "--json")
    assert json.loads(out)["address"] == done.summary.outputs["report"]
    code, out, _ = call(monkeypatch, capsys, "store", "stat", "--json")
    assert (code, json.loads(out)["actions"]["clips"]) == (0, VIDEOS)
    code, out, _ = call(monkeypatch, capsys, "store", "verify", "--json")
    assert (code, json.loads(out)["corrupt"]) == (0, [])


def test_a_plan_knows_the_items_of_the_last_run(own: str, finished: Path, tmp_path: Path) -> None:
    put_video(own, tmp_path, "video-0003.mp4", 77)
    config = config_of(finished, own)
    rows = {row.name: row for row in plan_run(open_store(config.execution), config, STAGES, FAKES).stages}
    assert rows["clips"].why == {"the video's bytes changed": 1}


def test_a_plan_remembers_the_videos_that_it_fetched(
    bucket: str, finished: Path, tmp_path: Path, downloads: list[str]
) -> None:
    put_video(bucket, tmp_path, "a.mp4", 1)
    config = config_of(finished, bucket)
    for _ in range(2):
        plan_run(open_store(config.execution), config, STAGES, FAKES)
    assert downloads == ["a.mp4"]


def test_runs_are_listed_newest_first(bucket: str) -> None:
    store = Store(bucket)
    for name in ("20260101-000000-aa", "20260301-000000-bb", "20260201-000000-cc"):
        RunFolder(store, name).write_json("run.json", {"status": "completed"})
    assert [run.run_id[4:8] for run in runs(store)] == ["0301", "0201", "0101"]
    assert last_items(store) == {}


def test_candidates_are_reviewed_in_a_bucket(own: str) -> None:
    store = Store(f"{own}/store")
    queue = open_queue(store, None)
    one = queue.candidates[0]
    with TestClient(review_app(Session(store, queue, "anna")), "http://127.0.0.1:8765") as page:
        for place in (f"video/{one.candidate.video}", f"picture/{one.candidate.video}/hands.jpg"):
            assert page.get(f"/{place}").status_code == 200
        page.post("/api/reviews", json={"candidate": one.candidate.video, "answer": "reject"})
    assert Reviews(store.address).history(one.candidate.video)[-1].by == "anna"
