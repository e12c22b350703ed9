"""Ctrl-C and SIGTERM while a run trains: the first stops it after saving, the second ends it at once."""

import contextlib
import signal
import threading
from typing import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal asked the run to stop. `number`: of that signal; 0: none."""

    number = 0

    def __bool__(self) -> bool:
        return self.number != 0


@contextlib.contextmanager
def stop_on_signal(notify: Callable[[str], None]) -> Iterator[StopRequest]:
    """Give a `StopRequest` that the first signal sets; `notify(text)` then informs the user.

    A signal that this process ignores, as a script's background process ignores Ctrl-C, stays ignored.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number, frame):
        if request:
            raise KeyboardInterrupt
        request.number = number
        notify("stopping: the run is saved after the current steps; a second signal ends it at once")

    former = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in former.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
