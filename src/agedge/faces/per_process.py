"""The networks of a detector: loaded at the first use, once in each process, and used by one thread at a time."""

import os
import threading
from dataclasses import dataclass, field

from agedge.errors import AgedgeError
from agedge.runtime.mxnet_executors import MXNET_LOCK, note_use, was_used_before_fork


@dataclass
class Own:
    """What one process has of a detector: `networks`, once loaded, are for the holder of `lock`."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    networks: object = None


class OwnNetworks:
    """What the detectors have in common. What a fork copied of another process's networks is left alone, for MXNet's
    threads were not forked; so it is when a detector is pickled."""

    def __init__(self):
        self._processes = {}

    def __getstate__(self):
        return {**self.__dict__, "_processes": {}}

    def open_networks(self):
        """Load them; each detector has its own way."""
        raise NotImplementedError

    def own(self) -> Own:
        """This process's own."""
        return self._processes.setdefault(os.getpid(), Own())

    def load(self):
        """The networks of this process. Raises `AgedgeError` where `refuse_fork` does."""
        own = self.own()
        if own.networks is None:
            refuse_fork(type(self).__name__)
            with MXNET_LOCK:
                own.networks = self.open_networks()
        return own.networks


def refuse_fork(name: str) -> None:
    """Raises `AgedgeError` in a process that was forked from one in which MXNet has run a network, unless MXNet has
    one thread: there it would wait for ever for threads that were not forked. `name`: what is not loaded."""
    note_use()
    if was_used_before_fork() and os.environ.get("OMP_NUM_THREADS") != "1":
        reason = "MXNet has run here before the process was forked: start workers by spawn, or set OMP_NUM_THREADS=1"
        raise AgedgeError(f"{name}: not loaded: {reason}")
