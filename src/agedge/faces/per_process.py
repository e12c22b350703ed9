"""Load a detector's networks at their first use, once per process, for one thread at a time."""

import os
import threading
from dataclasses import dataclass, field
from typing import Any, Dict

from agedge.errors import AgedgeError
from agedge.runtime.mxnet_executors import MXNET_LOCK, note_use, was_used_before_fork


@dataclass
class ProcessNetworks:
    """The networks of a detector in one process, None until they are loaded. Hold `lock` to use them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    networks: Any = None


class PerProcessNetworks:
    """Base class of detectors, which opens the networks once per process.

    Networks that a fork copied are not used, since a fork does not copy MXNet's threads. Networks are not pickled.
    `name`: of the detector, for errors. `runtime`: of the networks, a key of `agedge.runtime.model.RUNTIMES`.
    """

    name = "detector"

    def __init__(self, runtime: str):
        self.runtime = runtime
        self._processes: Dict[int, ProcessNetworks] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_processes": {}}

    def open_networks(self) -> Any:
        """Open the networks from their files. Subclasses implement it."""
        raise NotImplementedError

    def in_this_process(self) -> ProcessNetworks:
        """Return the networks of this process, loaded or not, and their lock."""
        return self._processes.setdefault(os.getpid(), ProcessNetworks())

    def load(self) -> Any:
        """Return the networks of this process; open them at the first call.

        Raises `AgedgeError` if a file is missing or damaged, or in a forked process: see `refuse_fork`.
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
    """Raise `AgedgeError` if this process was forked after MXNet has run a network.

    MXNet would wait forever for threads that a fork does not copy; with a single thread it works. `name`: of the
    detector, for the error.
    """
    note_use()
    if was_used_before_fork() and os.environ.get("OMP_NUM_THREADS") != "1":
        reason = "MXNet has run here before the process was forked: start workers by spawn, or set OMP_NUM_THREADS=1"
        raise AgedgeError(f"{name}: not loaded: {reason}")
