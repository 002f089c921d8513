"""Pictures of `ipa review`, taken in a headless Chromium (Debian: chromium, chromium-driver). Decides nothing.

IPA_HOME=.ipa python -m deployments.review_screenshots --output docs
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deployments.screenshots import chromium
from flows.engine.run_folder import named_run
from flows.engine.store import open_store
from flows.review.app import review_app
from flows.review.queue import open_queue
from flows.review.server import address, listen, serve
from flows.review.session import Session

QUALITY = 50
DESKTOP, PHONE = (1440, 900), (390, 844)
PATIENCE = 30.0
"""Seconds until a page has to be there."""
READY = """
const films = [...document.querySelectorAll("video")];
return !document.body.classList.contains("busy") && document.body.dataset.shown !== undefined
  && films.every((film) => film.readyState >= 3) && [...document.images].every((image) => image.complete);
"""
_STILL = """
for (const film of document.querySelectorAll("#clip video")) { film.pause(); film.currentTime = film.duration / 2; }
document.getElementById("forward").click();
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of `ipa review`.")
    parser.add_argument("run", nargs="?", help="run id; default: the last run with a selection")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    store = open_store()
    queue = open_queue(store, named_run(options.run) if options.run else None)
    session = Session(store, queue, "nobody")
    decided = [index for index, one in enumerate(queue.candidates) if session.answer(one) in ("accept", "reject")]
    listening = listen(0)
    threading.Thread(target=serve, args=(review_app(session), listening), daemon=True).start()
    pages = {"review": ("", DESKTOP), "review-phone": ("", PHONE)}
    if decided:
        pages["review-decided"] = (f"#{decided[-1]}", DESKTOP)
    browser = chromium()
    try:
        for name, (place, size) in pages.items():
            resize(browser, *size)
            browser.get("about:blank")
            browser.get(address(listening) + place)
            wait_for(browser, READY)
            browser.execute_script(_STILL)
            time.sleep(1)
            save(browser, options.output / f"{name}.jpg")
            print(options.output / f"{name}.jpg")
    finally:
        browser.quit()


def resize(browser: Any, width: int, height: int) -> None:
    """Show pages in a window of this size, in CSS pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def wait_for(browser: Any, script: str) -> None:
    """Until a script says true. Raises ``TimeoutError``."""
    deadline = time.monotonic() + PATIENCE
    while not browser.execute_script(script):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the page was not there within {PATIENCE:.0f} s")
        time.sleep(0.05)


def save(browser: Any, path: Path) -> None:
    pixels = cv2.imdecode(np.frombuffer(browser.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
