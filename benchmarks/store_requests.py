"""How many requests a cached run makes of a store behind a URL.

A run with the fakes of the tests is computed on this disk and put into a bucket of moto, a server of the S3 protocol in
this process: without requests, since putting is not measured. Then the same run, which finds everything, is counted:
the first time, and when the bundles are there. Below it, the look-up of 10,000 results of one stage. Nearly all the
time is the server's, so seconds are not printed.

    python -m benchmarks.store_requests [--videos 1540] [--candidates 4] [--results 10000]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Row = tuple[str, str, str]
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "a secret of nobody",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def bucket(folder: Path) -> Iterator[tuple[str, object]]:
    """The URL of a new bucket of a server behind a proxy, and the proxy's trouble."""
    import logging

    import fsspec
    from moto.server import ThreadedMotoServer

    from tests.s3_proxy import proxy

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with proxy(f"http://{host}:{port}") as (address, trouble):
            os.environ.update(SETTINGS, AWS_ENDPOINT_URL=address, XDG_CACHE_HOME=str(folder / "cache"))
            fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False).mkdir("bucket")
            yield "s3://bucket/store", trouble
    finally:
        server.stop()


def requests_of_a_cached_run(folder: Path, url: str, trouble: object, videos: int, candidates: int) -> list[Row]:
    from storage.folders import open_folder
    from tests.fakes import fake_config, write_videos
    from tests.flows.conftest import run_fake
    from tests.flows.killed_run import HereCrew

    changes = {"clips__held_out": 0.1, "candidates__per_clip": candidates}
    say(f"{videos:,} videos")
    write_videos(folder / "videos", videos)
    say("computing their run")
    run_fake(fake_config(folder, **changes), _until_selection(), crew=HereCrew)
    here = open_folder(folder / "store")
    say("putting it into the bucket")
    put(url, {name: here.read(name) or b"" for name in here.names() if name != "files.json"})
    shutil.copy(folder / "store" / "files.json", _made(folder / "cache" / "ipa") / "files.json")
    config = fake_config(folder, **changes, execution__store=url)
    rows = []
    for about in ("the first", "with bundles"):
        say(f"the cached run, {about}")
        trouble.requests.clear()  # type: ignore[attr-defined]
        done = run_fake(config, _until_selection(), crew=HereCrew)
        items = sum(len(found) for found in done.results.values())
        assert not done.computed()
        rows.append((f"cached run of {items:,} items, {about}", *told(trouble.requests)))  # type: ignore[attr-defined]
    return rows


def requests_of_a_look_up(url: str, trouble: object, count: int) -> list[Row]:
    from storage import Action, ActionResult, Store
    from storage.actions import _name, _seal, _stage_folder

    url = f"{url}-of-one-stage"
    store = Store(url)
    results = [ActionResult(Action("poses", 1, {"number": n}, {}), "done", None, {"frames": n}) for n in range(count)]
    put(url, {f"{_stage_folder('poses')}/{_name(result.key)}": _seal(result) for result in results})
    rows = []
    for about in ("the first", "with a bundle"):
        say(f"the look-up of {count:,} results, {about}")
        trouble.requests.clear()  # type: ignore[attr-defined]
        assert len(store.actions.lookup("poses", [result.key for result in results])) == count
        rows.append((f"look-up of {count:,} results, {about}", *told(trouble.requests)))  # type: ignore[attr-defined]
    return rows


def put(url: str, files: Mapping[str, bytes]) -> None:
    """Put files into the server's memory: by requests, ten thousand take it minutes."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    for name, data in files.items():
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, f"{prefix}/{name}", data)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def told(requests: Counter[str]) -> tuple[str, str]:
    return ", ".join(
        f"{count} {what}" for what, count in requests.most_common()
    ), f"{sum(requests.values()):,} requests"


def _until_selection() -> object:
    from flows.engine.walk import Scope

    return Scope(None, "selection")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--videos", type=int, default=1540)
    parser.add_argument("--candidates", type=int, default=4, help="of each clip")
    parser.add_argument("--results", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, bucket(Path(name)) as (url, trouble):
        rows = requests_of_a_cached_run(Path(name), url, trouble, options.videos, options.candidates)
        rows += requests_of_a_look_up(url, trouble, options.results)
    for what, requests, total in rows:
        print(f"{what}: {total}: {requests}")


if __name__ == "__main__":
    main()
