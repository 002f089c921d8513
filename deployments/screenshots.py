"""Pictures of a run's pages in the Prefect UI, taken in a headless Chromium (Debian: chromium, chromium-driver).

PREFECT_API_URL=http://127.0.0.1:4200/api python -m deployments.screenshots FLOW_RUN_ID --output docs
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import cv2
import numpy as np
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import PREFECT_API_URL

WIDTH, HEIGHT = 1400, 1000
QUALITY = 70
SHOWN = ("stages", "contact-sheet-1", "training-curve", "yield")


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of a run's pages in the Prefect UI.")
    parser.add_argument("run", type=UUID, help="id of the flow run")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    api = PREFECT_API_URL.value()
    if not api:
        raise SystemExit("set PREFECT_API_URL to the server's address")
    ui = api.removesuffix("/api")
    pages = {"runs": f"{ui}/runs", "run": f"{ui}/runs/flow-run/{options.run}", "form": form(ui, options.run)}
    for artifact in artifacts(options.run):
        if artifact.key in SHOWN:
            pages[str(artifact.key)] = f"{ui}/artifacts/artifact/{artifact.id}"
    browser = chromium()
    try:
        for name, address in pages.items():
            path = options.output / f"ui-{name}.jpg"
            save(browser, address, path)
            print(path)
    finally:
        browser.quit()


def form(ui: str, run: UUID) -> str:
    """The page that asks for a deployment's parameters."""
    with get_client(sync_client=True) as client:
        return f"{ui}/deployments/deployment/{client.read_deployment_by_name('retrain/demo').id}/run"


def artifacts(run: UUID) -> list[Artifact]:
    with get_client(sync_client=True) as client:
        found: list[Any] = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        )
    return found


def chromium() -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--window-size={WIDTH},{HEIGHT}",
    ):
        options.add_argument(argument)
    options.binary_location = "/usr/bin/chromium"
    return webdriver.Chrome(options, Service("/usr/bin/chromedriver"))


def save(browser: Any, address: str, path: Path) -> None:
    """Wait until the page has come to rest, then keep what is seen."""
    browser.get(address)
    before, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(2)
        picture = browser.get_screenshot_as_png()
        if picture == before:
            break
        before = picture
    pixels = cv2.imdecode(np.frombuffer(before, np.uint8), cv2.IMREAD_COLOR)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main()
