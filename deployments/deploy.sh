#!/bin/sh
# Puts everything on the Prefect server of PREFECT_API_URL; may be called again at any time.
#   IPA_GPUS        GPUs that all runs share (default 1): at most so many batches of model work at a time
#   IPA_NOTIFY_URL  web hook that is told of a retrain that failed twice (optional)
#   IPA_POOL_TYPE   process (default), kubernetes, ...: the type of the pools `cpu` and `gpu` if they are made here
set -eu
cd "$(dirname "$0")/.."
# In a container there is no .venv: the image is the environment.
[ -x .venv/bin/python ] && python=.venv/bin/python || python=python
python=${PYTHON:-$python}
[ -n "${PREFECT_API_URL:-}" ] || {
    echo "set PREFECT_API_URL to the server's address, such as http://127.0.0.1:4200/api (\`sh deployments/server.sh\`)" >&2
    exit 1
}

for pool in cpu gpu; do
    "$python" -m prefect work-pool inspect "$pool" >/dev/null 2>&1 ||
        "$python" -m prefect work-pool create "$pool" --type "${IPA_POOL_TYPE:-process}"
done
"$python" -m prefect gcl inspect gpu >/dev/null 2>&1 &&
    "$python" -m prefect gcl update gpu --limit "${IPA_GPUS:-1}" ||
    "$python" -m prefect gcl create gpu --limit "${IPA_GPUS:-1}"
"$python" -m prefect --no-prompt deploy --prefect-file deployments/prefect.yaml --all
"$python" -m flows.orchestration.automations
