"""Load a detector's networks at their first use, once in each process, for one thread at a time."""

import os
import threading
from dataclasses import dataclass, field
from typing import Any, Dict

from agedge.errors import AgedgeError
from agedge.runtime.mxnet_executors import MXNET_LOCK, note_use, was_used_before_fork


@dataclass
class ProcessNetworks:
    """The networks of a detector in one process, None until they are loaded; the holder of `lock` may use them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    networks: Any = None


class PerProcessNetworks:
    """The base of the detectors. Networks that a fork copied from another process are not used, for MXNet's threads
    were not forked, and none are pickled.

    `name`: what errors call the detector. `runtime`: what runs the networks, a key of `agedge.runtime.model.RUNTIMES`.
    """

    name = "detector"

    def __init__(self, runtime: str):
        self.runtime = runtime
        self._processes: Dict[int, ProcessNetworks] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_processes": {}}

    def open_networks(self) -> Any:
        """Open the networks from their files; each detector has its own."""
        raise NotImplementedError

    def in_this_process(self) -> ProcessNetworks:
        """Return the networks of this process, loaded or not, and their lock."""
        return self._processes.setdefault(os.getpid(), ProcessNetworks())

    def load(self) -> Any:
        """Return the networks of this process, which are opened at the first call.

        Raises `AgedgeError` if a file is missing or damaged, and as `refuse_fork` does.
        """
        own = self.in_this_process()
        if own.networks is None:
            if self.runtime == "mxnet":
                refuse_fork(self.name)
                with MXNET_LOCK:
                    own.networks = self.open_networks()
            else:
                own.networks = self.open_networks()
        return own.networks


def refuse_fork(name: str) -> None:
    """Raise `AgedgeError` in a process that was forked from one in which MXNet has run a network, unless MXNet has one
    thread: it would wait for ever for threads that were not forked. `name`: what is not loaded."""
    note_use()
    if was_used_before_fork() and os.environ.get("OMP_NUM_THREADS") != "1":
        reason = "MXNet has run here before the process was forked: start workers by spawn, or set OMP_NUM_THREADS=1"
        raise AgedgeError(f"{name}: not loaded: {reason}")
