"""How soon the pages of `ipa review` are there with 6,000 candidates.

1,500 clips x 4 candidates with the fake generator and extractor of the tests (videos of 32 pixels: what is measured
is the page, not the decoding of large videos). Filling the store takes a while and is not measured; it is kept in
--folder, so that a second call only measures. Each number is what a browser waits for, asked for one after the other:

- start: from the command to the address, with the run read from the store
- first page: HTML, script, style, the run, the first 100 rows, their 15 pictures that are seen, the first candidate
  with its videos, poses and hands
- far page: the same for a candidate in the middle of the list that nobody has looked at
- decision: one POST, until it is durable

With Chromium (Debian: chromium, chromium-driver) also what the browser itself takes until the candidate is shown.

    python benchmarks/review.py --folder /tmp/review-benchmark
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SEEN = 15
"""Rows of the list that a screen shows."""
FAR = 30
DECISIONS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ipa-review")
    parser.add_argument("--clips", type=int, default=1500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    fill(options.folder, options.clips)
    started = time.perf_counter()
    command = [sys.executable, "-m", "flows.cli", "review", "--port", "0", "--by", "benchmark"]
    environment = {"IPA_HOME": str(options.folder / "store"), "PATH": "", "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        result = {"start": round(time.perf_counter() - started, 2)} | measure(address)
    finally:
        server.terminate()
        server.wait()
    if options.json:
        print(json.dumps(result))
        return
    print(f"candidates:  {result['candidates']:,}")
    print(f"start:       {result['start']:.2f} s")
    print(f"first page:  {result['first_page']:.3f} s")
    print(f"far page:    {result['far_page']:.3f} s, the slowest of {FAR} {result['far_page_slowest']:.3f} s")
    print(f"decision:    {result['decision']:.3f} s, the slowest of {DECISIONS} {result['decision_slowest']:.3f} s")
    if result["chromium"] is None:
        print("Chromium:    not here")
    else:
        print(
            f"Chromium:    first page {result['chromium']['first']:.2f} s, far page {result['chromium']['far']:.2f} s"
        )


def fill(folder: Path, clips: int) -> None:
    from flows.engine.run import Run
    from flows.engine.walk import Scope
    from flows.stages import STAGES
    from tests.fakes import FAKES, fake_config, write_video

    for number in range(clips):
        path = folder / "videos" / f"video-{number:04d}.mp4"
        if not path.exists():
            write_video(path, number)
    config = fake_config(folder, candidates__per_clip=4, clips__held_out=0.0, selection__threshold=0.5)
    with Run(config, STAGES, FAKES, Scope(last="selection")) as run:
        run.walk()
    run.check()


class Browser:
    """One connection, as a browser keeps it."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"))

    def get(self, path: str) -> bytes:
        self._connection.request("GET", f"/{path}")
        return self._answer(path)

    def post(self, path: str, body: Any) -> bytes:
        self._connection.request("POST", f"/{path}", json.dumps(body), {"content-type": "application/json"})
        return self._answer(path)

    def _answer(self, path: str) -> bytes:
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {data[:200]!r}")
        return data

    def page(self, index: int) -> None:
        """What the page asks for to show a candidate, in the list and beside it."""
        rows = json.loads(self.get(f"api/candidates?offset={index // 100 * 100}&limit=100"))
        for row in rows[index % 100 : index % 100 + SEEN]:
            self.get(f"picture/{row['video']}/small.jpg")
        one = json.loads(self.get(f"api/candidates/{index}"))
        for video in {one["driving"], *(row["video"] for row in one["clip"])}:
            self.get(f"video/{video}")
        for pose in (one["pose"], one["found"]):
            self.get(f"pose/{pose}")
        for name in ("hands", "driving-hands"):
            self.get(f"picture/{one['video']}/{name}.jpg")


def measure(address: str) -> dict[str, Any]:
    browser = Browser(address)

    def first() -> None:
        for name in ("", "page.js", "dom.js", "list.js", "player.js", "page.css", "api/run", "api/order"):
            browser.get(name)
        browser.page(0)

    first_page = seconds(first)
    count = json.loads(browser.get("api/run"))["candidates"]
    far = [seconds(lambda at=at: browser.page(at)) for at in range(count // 2, count, count // 2 // FAR)][:FAR]
    chromium = measure_chromium(address, count - 5)
    browser = Browser(address)  # The server closes connections that rest for some seconds.
    rows = json.loads(browser.get(f"api/candidates?offset={count - DECISIONS}&limit={DECISIONS}"))
    # Each accept is taken back: the next call measures the same.
    said = [{"candidate": row["video"], "answer": word} for row in rows for word in ("accept", None)]
    decisions = [seconds(lambda body=body: browser.post("api/reviews", body)) for body in said]
    return {
        "candidates": count,
        "first_page": round(first_page, 3),
        "far_page": round(median(far), 3),
        "far_page_slowest": round(max(far), 3),
        "decision": round(median(decisions), 4),
        "decision_slowest": round(max(decisions), 4),
        "chromium": chromium,
    }


def measure_chromium(address: str, far: int) -> dict[str, float] | None:
    """Seconds from the request to the shown candidate, hands and videos loaded."""
    if not Path("/usr/bin/chromedriver").exists():
        return None
    from deployments.review_screenshots import READY, wait_for
    from deployments.screenshots import chromium

    browser = chromium()
    try:
        found = {}
        for name, place in (("first", ""), ("far", f"#{far}")):
            browser.get("about:blank")
            started = time.perf_counter()
            browser.get(address + place)
            wait_for(browser, READY)
            found[name] = round(time.perf_counter() - started, 2)
        return found
    finally:
        browser.quit()


def seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
