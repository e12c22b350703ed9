"""The lock of MXNet in this process: its executors are not for two threads at once.

Without it other faces' ages come back, and two threads that bind at once end in "Cannot find attribute shape in the
graph". One lock for all networks: MXNet runs their operations in one worker thread anyway.
"""

import os
import threading

# A thread takes it around each use of MXNet, from the input that it writes to the output that it reads.
MXNET_LOCK = threading.RLock()
_processes = set()  # this one, and those that it was forked from, in which MXNet has run a network

# A fork waits until no other thread is within MXNet: the child's copy is then whole, and its lock is free.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=MXNET_LOCK.acquire, after_in_child=MXNET_LOCK.release, after_in_parent=MXNET_LOCK.release
    )


def note_use() -> None:
    """Remember that MXNet runs a network in this process: see `was_used_before_fork`."""
    _processes.add(os.getpid())


def was_used_before_fork() -> bool:
    """Return whether MXNet has run a network in a process from which this one was forked."""
    return bool(_processes - {os.getpid()})
