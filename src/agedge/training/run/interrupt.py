"""Ctrl-C and SIGTERM while a run trains: the first asks it to save and end, the second ends it at once."""

import contextlib
import signal
import threading

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Asked:
    """`number`: of the signal that asked the run to end; 0: none."""

    number = 0

    def __bool__(self) -> bool:
        return self.number != 0


@contextlib.contextmanager
def stop_when_asked(say):
    """An `Asked` that tells whether a signal came; `say(text)` answers the user at once.

    A signal that this process ignores, as one in the background of a script does Ctrl-C, stays ignored.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def answer(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.number = number
        say("stopping: the run is saved after the steps at hand; once more ends it at once")

    former = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in former.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, answer)
    try:
        yield asked
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
