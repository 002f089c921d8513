"""A Prefect server for the tests that need one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def prefect_server() -> Iterator[None]:
    with warnings.catch_warnings():
        # Prefect's own dependencies warn while its server starts.
        warnings.simplefilter("ignore")
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield
