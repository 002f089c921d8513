"""The `ipa` command."""

import sys
import threading

_LONG = ("demo", "run", "plan", "animate", "bench", "sweep", "lab")


def main() -> None:
    # The imports take seconds on a busy machine. A short wait keeps a mistake in the command to one sentence.
    command = " ".join(sys.argv[1:2])
    hint = threading.Timer(1.5, print, [f"ipa {command}: starting"], {"file": sys.stderr, "flush": True})
    hint.daemon = True
    if command in _LONG and not {"-q", "--quiet"} & {*sys.argv}:
        hint.start()
    from flows.cli.app import main

    hint.cancel()
    main()


__all__ = ["main"]
