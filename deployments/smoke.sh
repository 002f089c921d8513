#!/bin/sh
# The deployments for real, on loopback: PostgreSQL, a server on it, two workers, and what people do with them.
# Installs PostgreSQL from Debian's packages where it is missing (as root). Takes some minutes, 30 at most.
set -eu
cd "$(dirname "$0")/.."

if ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    (apt-get update && apt-get install -y --no-install-recommends postgresql) >&2
fi
exec timeout --kill-after=30 1800 "${PYTHON:-.venv/bin/python}" -m deployments.smoke "$@"
