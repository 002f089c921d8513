#!/bin/sh
# `prefect server start` with the settings that the pipeline relies on; arguments are handed on.
# On another port than 4200 the browser must be told too: PREFECT_SERVER_UI_API_URL=http://127.0.0.1:PORT/api
set -eu
cd "$(dirname "$0")/.."
# In a container there is no .venv: the image is the environment.
[ -x .venv/bin/python ] && python=.venv/bin/python || python=python

export DO_NOT_TRACK="${DO_NOT_TRACK:-1}"
export PREFECT_SERVER_ANALYTICS_ENABLED="${PREFECT_SERVER_ANALYTICS_ENABLED:-false}"
# Left in memory, who holds GPU slots would be forgotten when the server is started again, and the slots stay taken.
export PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE="${PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE:-prefect.server.concurrency.lease_storage.filesystem}"
exec "${PYTHON:-$python}" -m prefect server start "$@"
