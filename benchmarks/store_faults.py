"""Sections of `benchmarks.faults` about the store: damage of every kind of file, a disk that fails at any operation, a
server that fails. Each takes an empty folder and about a minute."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from benchmarks.row import Row

DAMAGES = ("truncated", "garbage", "another type")


def damage(folder: Path) -> list[Row]:
    """Damage a file of each kind, ask commands about it, and repair."""
    from tests.flows.test_damage import DAMAGES as WAYS
    from tests.flows.test_damage import KINDS, LISTINGS, make_whole

    whole = make_whole(folder / "whole")
    rows = []
    for way in DAMAGES:
        found: Counter[str] = Counter()
        for number, (_, pattern) in enumerate(KINDS.items()):
            copy = Path(shutil.copytree(whole, folder / f"{way}-{number}"))
            victim = sorted((copy / ".ipa").glob(pattern))[-1]
            WAYS[way](victim)
            with chdir(copy), patch.dict(os.environ, {"IPA_COMPONENTS": "tests.fakes:FAKES", "IPA_HOME": ".ipa"}):
                said = [ipa(*command) for command in LISTINGS]
                found["tracebacks"] += sum("Traceback" in err for _, err in said)
                found["found"] += ipa("store", "verify")[0] == 1
                found["repaired"] += ipa("store", "repair")[0] == 0 and ipa("store", "verify")[0] == 0
            shutil.rmtree(copy)
        kinds, asked = len(KINDS), len(KINDS) * len(LISTINGS)
        rows.append(
            Row(
                f"a damaged file ({way}) is found, and just that is forgotten",
                "python -m benchmarks.faults damage",
                f"{kinds} kinds of file: {found['found']} found by verify, {found['repaired']} repaired, "
                f"{found['tracebacks']} tracebacks of {asked} commands",
                found["found"] == found["repaired"] == kinds and not found["tracebacks"],
            )
        )
    return rows


def ipa(*command: str) -> tuple[int, str]:
    """Code and stderr of a command in this process."""
    from flows.cli import main

    err = StringIO()
    with patch.object(sys, "argv", ["ipa", *command]), redirect_stdout(StringIO()), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), err.getvalue()
        except Exception as error:  # noqa: BLE001 - it is counted
            return 2, f"Traceback: {error!r}"
    return 0, err.getvalue()


def disk(folder: Path) -> list[Row]:
    """Write each kind of file while the n-th operation fails, for every n."""
    from storage import Store, StoreError
    from storage.maintenance import verify
    from tests.faults import failing
    from tests.storage.test_faults import FAULTS, files, operations, work

    work(folder / "reference")
    wanted = files(folder / "reference")
    rows = []
    for name, about in FAULTS.items():
        found: Counter[str] = Counter()
        count = operations(folder / f"{name}-counted", bool(about.get("reads")))
        for number in range(1, count + 1, 2):
            place = folder / f"{name}-{number}"
            with failing(place, number, **about):  # type: ignore[arg-type]
                try:
                    work(place)
                except StoreError as error:
                    found["sentences"] += "\n" not in str(error)
                except Exception:  # noqa: BLE001 - it is counted
                    found["tracebacks"] += 1
            if place.exists():
                report = verify(Store(place))
                found["damaged"] += bool(report.corrupt or report.damaged or report.incomplete)
            work(place)
            found["equal"] += files(place) == wanted
            found["all"] += 1
            shutil.rmtree(place)
        rows.append(
            Row(
                f"a store on a disk that fails at any operation ({name}) goes on to the equal end",
                "python -m benchmarks.faults disk",
                f"{found['equal']} of {found['all']} operations did, {found['damaged']} left damage, "
                f"{found['tracebacks']} tracebacks",
                found["equal"] == found["all"] and not found["damaged"] and not found["tracebacks"],
            )
        )
    return rows


def server(folder: Path) -> list[Row]:
    """Commit results and append events while the server fails."""
    from benchmarks.store_requests import bucket
    from storage import Store
    from storage.maintenance import verify
    from tests.storage.test_log import Note, log, texts
    from tests.storage.test_s3_faults import TROUBLES, commit

    rows = []
    with bucket(folder) as (url, trouble):
        for number, (name, about) in enumerate(TROUBLES.items()):
            address = f"{url}-{number}"
            store = Store(address)
            trouble.requests.clear()  # type: ignore[attr-defined]
            trouble.failed = 0  # type: ignore[attr-defined]
            for field, value in about.items():
                setattr(trouble, field, value)
            if "down" in about:
                threading.Timer(3.0, lambda: setattr(trouble, "down", False)).start()
            with ThreadPoolExecutor(8) as pool:
                keys = list(pool.map(partial(commit, store), range(24)))
                notes = [Note(text=str(number)) for number in range(6)]
                list(pool.map(partial(log(address).append, "", 1), notes))
            asked, failed = sum(trouble.requests.values()), trouble.failed  # type: ignore[attr-defined]
            for field in about:
                setattr(trouble, field, 0)
            report = verify(store)
            whole = not (report.corrupt or report.damaged or report.incomplete)
            results, events = len(store.actions.lookup("poses", keys)), texts(address)
            rows.append(
                Row(
                    f"a store behind a failing S3 server ({name}) loses nothing",
                    "python -m benchmarks.faults server",
                    f"{asked} requests, {failed} failed: {results} of 24 results, {len(set(events))} of 6 events, "
                    f"{'no damage' if whole else 'damage'}",
                    whole and results == 24 and len(set(events)) == len(events) == 6,
                )
            )
    return rows
