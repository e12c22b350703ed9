"""Open networks again in forked processes: a fork copies memory and the state of locks, but no threads.

ONNX Runtime and OpenMP (in ncnn) would wait forever for threads that do not exist in the child.
"""

import contextlib
import ctypes
import os
import weakref
from typing import Any, Callable, Dict

import numpy as np

from agedge.runtime.batch_runner import RunBatch

_sessions: weakref.WeakSet = weakref.WeakSet()  # of ONNX Runtime
_forked = False


def is_forked() -> bool:
    """Return whether this process was forked from one that had imported this module."""
    return _forked


def open_in_each_process(open_network: Callable[[], RunBatch]) -> RunBatch:
    """Open a network now, and again in each forked process at its first call; return the function that runs it.

    `open_network` returns the function of one process. Its errors are raised here, or at that first call.
    """
    opened: Dict[int, RunBatch] = {os.getpid(): open_network()}

    def run(batch: np.ndarray) -> Dict[str, np.ndarray]:
        process = os.getpid()
        # Without a lock, which a fork could copy while held, two threads may both open it; either network is valid.
        return (opened.get(process) or opened.setdefault(process, open_network()))(batch)

    return run


def abandon_after_fork(session: Any) -> None:
    """Keep forked processes from ending the threads of an ONNX Runtime session, which belong to their parent.

    With ONNX Runtime 1.31 a child with a session crashed or hung when it ended by itself, and not by `os._exit` as the
    processes of multiprocessing do.
    """
    _sessions.add(session)


def _mark_child() -> None:
    global _forked
    _forked = True
    for session in _sessions:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))  # it is never destroyed
    if _sessions:
        with contextlib.suppress(AttributeError):  # only the GNU C library has `on_exit`
            # The C library calls this handler first, after Python has ended; it leaves the others out.
            libc = ctypes.CDLL(None)
            libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):  # other systems cannot fork
    os.register_at_fork(after_in_child=_mark_child)
