"""Handle Ctrl-C and SIGTERM during training: the first saves and stops the run, the second ends it at once."""

import contextlib
import signal
import threading
from typing import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """A request to stop the run; true after a signal. `number`: number of the signal, or 0."""

    number = 0

    def __bool__(self) -> bool:
        return self.number != 0


@contextlib.contextmanager
def stop_on_signal(notify: Callable[[str], None]) -> Iterator[StopRequest]:
    """Yield a `StopRequest`, which the first signal sets; `notify(text)` then informs the user.

    A signal that this process already ignores (as background processes of scripts ignore Ctrl-C) stays ignored.
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

    previous = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
