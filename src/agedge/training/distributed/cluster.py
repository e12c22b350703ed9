"""The processes of a run on several machines: how they connect, and how they end when one of them is lost.

They are the processes of MXNet's ps-lite: workers train, servers sum the workers' gradients, and one scheduler
coordinates them. All run the same command, each with its own environment variables, see docs/scale.md. When one dies,
ps-lite lets the others wait forever. So every process checks ps-lite's heartbeats: the scheduler ends when a heartbeat
is missing, and the other processes end when the scheduler's heartbeat is missing.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from agedge.errors import AgedgeError

KINDS = ("dist_sync", "dist_device_sync")  # kinds of KVStore that span processes
FIND_SECONDS = 120  # how long a worker or server waits until the scheduler listens
JOIN_SECONDS = 1800  # how long the first worker waits for the last one: a cluster may start machines one by one
ALL_NODES = 7  # ps-lite's number for the group of all workers, servers and the scheduler


def serve(role: str) -> None:
    """Run the server or the scheduler until the workers are done, and end the process with status 0.

    Call it before MXNet is imported. If another process of the run is lost, the status is 1, with a line on stderr.
    The first SIGTERM or Ctrl-C is ignored: it is sent to all processes of a run, and the workers need the servers and
    the scheduler to agree on the step at which they stop. The second one ends the process.
    """
    _ignore_first_signal(role)
    if role == "server":
        find_scheduler()
    del os.environ["DMLC_ROLE"]  # else `import mxnet` would run the server at once, without a heartbeat monitor
    from mxnet import kvstore
    from mxnet.base import MXNetError
    from mxnet.kvstore.kvstore_server import KVStoreServer

    os.environ["DMLC_ROLE"] = role
    store = kvstore.create("dist")
    HeartbeatMonitor(store, "", role)
    try:
        KVStoreServer(store).run()
    except MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        if "bind failed" in reason:
            reason = f"cannot listen at {find_address()}: the port is taken, or the address is not one of this machine"
        print(f"error: {role}: {reason}", file=sys.stderr)
        end_process(1)
    end_process(0)


def find_address() -> str:
    """Return the scheduler's address as host:port, for messages."""
    return f"{os.environ['DMLC_PS_ROOT_URI']}:{os.environ['DMLC_PS_ROOT_PORT']}"


def find_scheduler(seconds: float = FIND_SECONDS) -> None:
    """Wait until the scheduler accepts connections. Raises `AgedgeError` if it does not within `seconds`."""
    host, port = os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"])
    end, reason = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            reason = error.strerror or error
            time.sleep(0.5)
    raise AgedgeError(
        f"{host}:{port}: no scheduler found in {seconds:g} s: {reason} (see DMLC_PS_ROOT_URI and DMLC_PS_ROOT_PORT)"
    )


class HeartbeatMonitor:
    """A thread that ends the process, with status 1 and a message, when another process of the run is lost.

    `store`: MXNet's KVStore; `name`: name of the run.
    """

    def __init__(self, store: Any, name: str, role: str):
        self.store, self.role = store, role
        self.run = f"{name}: " if name else ""
        self.stopped = threading.Event()
        self.timeout = int(os.environ["PS_HEARTBEAT_TIMEOUT"])
        self.thread = threading.Thread(target=self._watch_heartbeats, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the thread."""
        self.stopped.set()
        self.thread.join()

    def _watch_heartbeats(self) -> None:
        while not self.stopped.wait(min(2, self.timeout / 4)):
            if self._count_lost(ALL_NODES):
                print(f"error: {self.run}{self._describe_lost()}", file=sys.stderr)
                end_process(1)

    def _describe_lost(self) -> str:
        if self.role != "scheduler":
            reason = f"a worker, a server or the scheduler ({find_address()}) is gone"
            return f"{reason}; the same command with --resume continues from the last checkpoint"
        nodes = [
            f"{kind} {rank}"
            for kind, count, first in (("worker", "DMLC_NUM_WORKER", 9), ("server", "DMLC_NUM_SERVER", 8))
            for rank in range(int(os.environ[count]))
            if self._count_lost(first + 2 * rank)  # ps-lite's numbering of nodes
        ]
        return f"scheduler: {', '.join(nodes)} no heartbeat for {self.timeout} s"

    def _count_lost(self, nodes: int) -> int:
        from mxnet.base import _LIB

        lost = ctypes.c_int(0)
        _LIB.MXKVStoreGetNumDeadNode(self.store.handle, ctypes.c_int(nodes), ctypes.byref(lost), self.timeout)
        return lost.value


class limit_joining:  # noqa: N801  used as `with limit_joining():`
    """A context that ends the process, with a message, if the other processes do not join within `seconds`.

    MXNet itself waits without a time limit, and cannot be interrupted.
    """

    def __init__(self, seconds: float = JOIN_SECONDS):
        self.timer = threading.Timer(seconds, self._give_up, (seconds,))
        self.timer.daemon = True

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *_: Any) -> None:
        self.timer.cancel()

    @staticmethod
    def _give_up(seconds: float) -> None:
        workers, servers = os.environ["DMLC_NUM_WORKER"], os.environ["DMLC_NUM_SERVER"]
        expected = f"{workers} workers and {servers} servers (DMLC_NUM_WORKER, DMLC_NUM_SERVER)"
        print(f"error: not all of {expected} have joined in {seconds:g} s", file=sys.stderr)
        end_process(1)


def end_process(status: int) -> NoReturn:
    """End the process at once. On a regular exit, MXNet would wait for processes that may be lost."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _ignore_first_signal(role: str) -> None:
    """Ignore the first SIGTERM or SIGINT; the second one ends the process.

    Python's signal handlers do not run while MXNet blocks the main thread. But Python writes a byte for each signal to
    a socket (`set_wakeup_fd`), which a thread can read.
    """
    read, write = socket.socketpair()
    write.setblocking(False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(write.detach())

    def end_at_second() -> None:
        read.recv(1)
        read.recv(1)
        print(f"error: {role}: ended by a second signal", file=sys.stderr)
        end_process(1)

    threading.Thread(target=end_at_second, daemon=True).start()
