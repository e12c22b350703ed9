"""Networks in forked processes: a fork copies memory but no threads, and locks stay as other threads held them.

ONNX Runtime and OpenMP (in ncnn) then wait for ever for threads that are not there, so their networks are opened anew
in each process.
"""

import contextlib
import ctypes
import os
import weakref
from typing import Callable

_sessions = weakref.WeakSet()  # of ONNX Runtime
_forked = False


def is_forked() -> bool:
    """Return whether this process was forked from one that had imported this module."""
    return _forked


def open_in_each_process(open_run: Callable) -> Callable:
    """Return a function that calls what `open_run` returns, opened at once, and again in each forked process.

    Opening again raises what `open_run` raises, at the first call in that process.
    """
    runs = {os.getpid(): open_run()}

    def run(batch):
        process = os.getpid()
        # Two threads may open it at the same time: a lock could have been copied locked, and either network is right.
        return (runs.get(process) or runs.setdefault(process, open_run()))(batch)

    return run


def abandon_after_fork(session) -> None:
    """Keep forked processes from ending ONNX Runtime's threads, which are their parent's: with 1.31 a child with a
    session crashed or hung when it ended by itself, and not by `os._exit` as those of multiprocessing do."""
    _sessions.add(session)


def _mark_child() -> None:
    global _forked
    _forked = True
    for session in _sessions:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))  # it is never destroyed
    if _sessions:
        with contextlib.suppress(AttributeError):  # `on_exit` is of the GNU C library
            # The first of the handlers that the C library calls, after Python has ended: the other ones are left out.
            libc = ctypes.CDLL(None)
            libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):  # elsewhere there are no forks
    os.register_at_fork(after_in_child=_mark_child)
