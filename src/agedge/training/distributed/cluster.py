"""The processes of a run on many machines: what each is told, how it joins, and how it ends when another is gone.

They are MXNet's (ps-lite's): workers train, servers add up what workers send, one scheduler knows all the others. All
are started by the same command with an environment of their own, see docs/scale.md. ps-lite lets the others wait for
ever where one dies. What it knows is here made use of: every process sends a sign of life to the scheduler, which ends
itself when one of them falls silent; and the others end when they hear no more of the scheduler.
"""

import ctypes
import ipaddress
import os
import signal
import socket
import sys
import threading
import time

from agedge.errors import AgedgeError, UsageError

KINDS = ("dist_sync", "dist_device_sync")  # of a KVStore that spans processes
ROLES = ("worker", "server", "scheduler")
VARIABLES = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
SPLIT = 50_000  # numbers from which a vector is divided among several servers; MXNet: a million
SECONDS = {"PS_HEARTBEAT_INTERVAL": 2, "PS_HEARTBEAT_TIMEOUT": 20}  # between signs of life; until one counts as gone
FIND_SECONDS = 120  # that the scheduler may come later than a worker
JOIN_SECONDS = 1800  # that the last worker may come later than the first: in a queue, machines come one by one
ANY_WORKER, ANY_SERVER, ANYBODY = 4, 2, 7  # ps-lite's groups of nodes


def check_environment(kind: str) -> str:
    """This process's role for a KVStore of that kind: worker, server or scheduler. To be called before MXNet is
    imported, which reads the environment then; how often signs of life are sent is added to it.

    Raises `UsageError` where a variable is missing or cannot be, and where there is a role but no such KVStore.
    """
    role = os.environ.get("DMLC_ROLE", "")
    if kind not in KINDS:
        if role in ROLES[1:]:
            raise UsageError(f"DMLC_ROLE={role}: only with --kvstore {' or '.join(KINDS)}, not {kind}")
        return "worker"
    if missing := [name for name in VARIABLES if not os.environ.get(name)]:
        raise UsageError(
            f"--kvstore {kind}: {', '.join(missing)} not set (see docs/scale.md); on this machine, --launch N sets them"
        )
    if role not in ROLES:
        raise UsageError(f"DMLC_ROLE={role}: one of {', '.join(ROLES)} is wanted")
    for name in VARIABLES[2:]:
        if not os.environ[name].isdecimal() or not int(os.environ[name]):
            raise UsageError(f"{name}={os.environ[name]}: a whole number of at least 1 is wanted")
    os.environ.setdefault("MXNET_KVSTORE_BIGARRAY_BOUND", str(SPLIT))
    try:
        ipaddress.ip_address(os.environ["DMLC_PS_ROOT_URI"])
    except ValueError:  # a name: ps-lite cannot listen at one, but so it listens at all addresses of the machine
        os.environ.setdefault("DMLC_USE_KUBERNETES", "1")
    for name, seconds in SECONDS.items():
        os.environ.setdefault(name, str(seconds))
        if not os.environ[name].isdecimal() or not int(os.environ[name]):
            raise UsageError(f"{name}={os.environ[name]}: whole seconds, at least 1, are wanted")
    return role


def serve() -> None:
    """Be the server or the scheduler that the environment says, until the workers are done, and end the process: with
    0, or with 1 and a line where another process of the run is gone. Before MXNet is imported.

    They outlive a SIGTERM or Ctrl-C that is sent to all processes of a run, since the workers still need them to agree
    where to stop; a second one ends them.
    """
    role = os.environ["DMLC_ROLE"]
    _outlive_a_signal(role)
    if role == "server":
        find_scheduler()
    del os.environ["DMLC_ROLE"]  # with it, importing MXNet serves, and nobody would look after the others
    from mxnet import kvstore
    from mxnet.base import MXNetError
    from mxnet.kvstore.kvstore_server import KVStoreServer

    os.environ["DMLC_ROLE"] = role
    store = kvstore.create("dist")
    Neighbours(store, "", role)
    try:
        KVStoreServer(store).run()
    except MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        if "bind failed" in reason:
            reason = f"cannot listen at {find_address()}: the port is taken, or that is no address of this machine"
        print(f"error: {role}: {reason}", file=sys.stderr)
        end_process(1)
    end_process(0)


def find_address() -> str:
    """Of the scheduler, for messages."""
    return f"{os.environ['DMLC_PS_ROOT_URI']}:{os.environ['DMLC_PS_ROOT_PORT']}"


def find_scheduler(seconds: float = FIND_SECONDS) -> None:
    """Wait until the scheduler listens. Raises `AgedgeError` where it does not in that time."""
    host, port = os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"])
    end, reason = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            reason = error.strerror or error
            time.sleep(0.5)
    raise AgedgeError(f"{host}:{port}: no scheduler there in {seconds:g} s: {reason} (DMLC_PS_ROOT_URI and _PORT)")


class Neighbours:
    """A thread that ends the process, with 1 and one line, when another process of the run `name` is gone."""

    def __init__(self, store, name: str, role: str):
        self.store, self.role = store, role
        self.run = f"{name}: " if name else ""
        self.stopped = threading.Event()
        self.timeout = int(os.environ["PS_HEARTBEAT_TIMEOUT"])
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.stopped.wait(min(2, self.timeout / 4)):
            if self._count_gone(ANYBODY):
                print(f"error: {self.run}{self._who()}", file=sys.stderr)
                end_process(1)

    def _who(self) -> str:
        if self.role != "scheduler":
            said = f"a worker, a server or the scheduler ({find_address()}) is gone"
            return f"{said}; the same command with --resume goes on from the last checkpoint"
        nodes = [
            f"{kind} {rank}"
            for kind, count, first in (("worker", "DMLC_NUM_WORKER", 9), ("server", "DMLC_NUM_SERVER", 8))
            for rank in range(int(os.environ[count]))
            if self._count_gone(first + 2 * rank)  # so ps-lite numbers them
        ]
        return f"scheduler: {', '.join(nodes)} not heard of for {self.timeout} s"

    def _count_gone(self, nodes: int) -> int:
        from mxnet.base import _LIB

        gone = ctypes.c_int(0)
        _LIB.MXKVStoreGetNumDeadNode(self.store.handle, ctypes.c_int(nodes), ctypes.byref(gone), self.timeout)
        return gone.value


class join_in_time:  # noqa: N801  read as a statement: with join_in_time():
    """End the process with a line where MXNet waits in vain for the other processes: nothing interrupts it."""

    def __init__(self, seconds: float = JOIN_SECONDS):
        self.timer = threading.Timer(seconds, self._give_up, (seconds,))
        self.timer.daemon = True

    def __enter__(self):
        self.timer.start()

    def __exit__(self, *_):
        self.timer.cancel()

    @staticmethod
    def _give_up(seconds: float) -> None:
        workers, servers = os.environ["DMLC_NUM_WORKER"], os.environ["DMLC_NUM_SERVER"]
        wanted = f"{workers} workers and {servers} servers (DMLC_NUM_WORKER, DMLC_NUM_SERVER)"
        print(f"error: not all of {wanted} have come in {seconds:g} s", file=sys.stderr)
        end_process(1)


def end_process(status: int) -> None:
    """End at once. MXNet, asked to end in order, first waits for processes that may be gone, or that wait for this."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _outlive_a_signal(role: str) -> None:
    """SIGTERM and SIGINT end the process the second time only. Python's own handlers would not run before MXNet, which
    serves in the main thread, is done; but of each signal a byte is written to a file, which a thread can read."""
    told, write = socket.socketpair()
    write.setblocking(False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(write.detach())

    def end_at_second():
        told.recv(1)
        told.recv(1)
        print(f"error: {role}: ended by a second signal", file=sys.stderr)
        end_process(1)

    threading.Thread(target=end_at_second, daemon=True).start()
