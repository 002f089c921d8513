"""Nothing leaves this machine, and nothing of the user's settings enters."""

import os

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
