"""Ends a command that is told to: by Ctrl-C, by SIGTERM, or because its terminal closes.

The first signal raises :class:`Stopped` in the main thread, says one line and starts the time of grace. Committed items
stay; the item in flight is given up. A second signal, or the end of that time, ends the process wherever it is: a
server that does not answer must not hold it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

_grace = 4.0
"""Seconds that a command may take to write its record after the first signal."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_saying = threading.Lock()
_said = False


class Stopped(BaseException):
    """The command was told to stop. It is no ``Exception``, so that no code on the way takes it for a failed item.

    Prefect's ``TerminationSignal`` has an attribute ``signal`` too, and says the same.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Let signals stop this process within the block. One that is ignored, as under ``nohup``, stays ignored."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # By the descriptor, not in the handler: Prefect replaces handlers while a flow runs.
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(heard,), daemon=True).start()
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(told)


def give_time(seconds: float) -> None:
    """Let this command take longer to stop: it has runs in other processes to end."""
    global _grace
    _grace = seconds


def stop_signal(error: BaseException) -> int | None:
    """Return the number of the signal that raised the error; None when no signal did."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    number = getattr(error, "signal", None)
    return number if isinstance(number, int) and not isinstance(error, Exception) else None


def stop_sentence(number: int) -> str:
    return "stopped by " + ("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)


def end_stopped(number: int) -> None:
    """End this process with the exit code of the signal, and with it those that it started. It waits for no thread: one
    may wait for a server that is gone."""
    _say(number)
    with suppress(OSError):  # The terminal may be gone.
        sys.stdout.flush()
    os._exit(128 + number)


def _stop(number: int, frame: Any) -> None:
    for each in _SIGNALS:
        if signal.getsignal(each) == _stop:
            signal.signal(each, lambda *_: None)  # The next one is for the watch.
    raise Stopped(number)


def _watch(heard: int) -> None:
    number = _next_signal(heard)
    if number is None:
        return
    _say(number)
    logging.disable(logging.CRITICAL)  # The rest of the log would be the noise of parts that end.
    timer = threading.Timer(_grace, end_stopped, (number,))
    timer.daemon = True
    timer.start()
    end_stopped(_next_signal(heard) or number)


def _say(number: int) -> None:
    """Print the line once; a second caller waits until it is out."""
    global _said
    with _saying:
        if not _said:
            with suppress(OSError):  # The terminal may be gone.
                print(f"\nipa: {stop_sentence(number)}", file=sys.stderr, flush=True)
        _said = True


def _next_signal(heard: int) -> int | None:
    """Wait for a signal; None when the other end is closed."""
    while data := os.read(heard, 1):
        if data[0] in _SIGNALS:
            return data[0]
    os.close(heard)
    return None
