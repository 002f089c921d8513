"""Nothing leaves this machine, and nothing of the user's settings enters."""

import logging
import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

os.environ.update(
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_TO_API_ENABLED="false",
    PREFECT_LOGGING_LEVEL="ERROR",
    GLOG_minloglevel="3",
    # Small tensors are computed faster by one thread, and bit for bit the same on every machine.
    OMP_NUM_THREADS="1",
)
S3_SETTINGS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "secret of the tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of a server of the S3 protocol on this machine, which the environment names as users would."""
    from moto.server import ThreadedMotoServer

    from tests.s3_proxy import forget_connections

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
            environment.delenv(name)
        for name, value in S3_SETTINGS.items():
            environment.setenv(name, value)
        environment.setenv("AWS_ENDPOINT_URL", address)
        yield address
        forget_connections()
    server.stop()


@pytest.fixture
def bucket(s3_server: str) -> str:
    """URL of a new bucket."""
    import fsspec

    name = f"bucket-{uuid4().hex}"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(name)
    return f"s3://{name}"
