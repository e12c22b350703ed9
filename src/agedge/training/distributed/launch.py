"""`train.py --launch 2`: the processes of a run on many machines, all on this one, for trying it.

A scheduler, a server and the workers, each the same command with an environment of its own, on a free port that only
this machine sees. Whatever happens, none of them outlives this process.
"""

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import BinaryIO, Optional

from agedge.errors import UsageError
from agedge.training.distributed.cluster import KINDS
from agedge.training.distributed.threads import count_cores

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
FAILED_SECONDS = 2.0  # that the others get to say what is wrong, when one has failed
STOPPED_SECONDS = 180.0  # likewise to end, when a worker has ended because it was told to
DONE_SECONDS = 10.0  # likewise server and scheduler, when all workers are done
SAID_LINES = 5  # of what a process said that failed
STOPS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclass
class Process:
    """One of the run. `said`: a file of what it prints, unless it prints where this process does."""

    name: str
    process: subprocess.Popen
    said: Optional[BinaryIO]

    @property
    def is_worker(self) -> bool:
        return self.name.startswith("worker")

    @property
    def status(self) -> Optional[int]:
        """None while it runs; negative: the signal that ended it."""
        return self.process.poll()

    def describe_end(self) -> str:
        if self.status >= 0:
            return f"{self.name} ended with exit status {self.status}"
        return f"{self.name} was ended by {signal.Signals(-self.status).name}"

    def last_words(self) -> list:
        if self.said is None:
            return []
        self.said.seek(0)
        lines = self.said.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
        return [line for line in lines if line.strip()][-SAID_LINES:]


def launch(program: list, arguments: list, workers: int, kind: str = "dist_sync", gpus: str = "") -> int:
    """Run a program with `--kvstore KIND`, its share of the GPUs ("0,1,2,3") and `arguments` as that many workers, and
    what they need; the first prints what it has to say. Returns the exit status of the workers: the first one's, or
    that of one that failed.

    When one process fails, all are ended, and a line says which it was. SIGINT and SIGTERM are passed on to the
    workers, once, and waited for; a second one ends all. Raises `UsageError`.
    """
    if workers < 1:
        raise UsageError(f"--launch {workers}: at least 1 worker is wanted")
    if kind not in KINDS:
        raise UsageError(f"--launch: --kvstore {kind} is within one process; {' or '.join(KINDS)} is wanted")
    shares = deal_out(gpus, workers)
    processes = []
    with collected_signals() as signals, contextlib.ExitStack() as stack:
        for name, environment in environments(workers):
            mine = ["--gpus", shares[int(name.split()[1])]] if name.startswith("worker") and gpus else []
            said = None if name == "worker 0" else stack.enter_context(tempfile.TemporaryFile())
            processes.append(start(name, [*program, "--kvstore", kind, *mine, *arguments], environment, said))
            stack.callback(end, processes[-1])
        return look_after(processes, signals)


@contextlib.contextmanager
def collected_signals():
    """A list that SIGINT and SIGTERM are added to, instead of ending this process."""
    signals = []
    before = {number: signal.signal(number, lambda *got: signals.append(got[0])) for number in STOPS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def without_flags(words: list, names: tuple) -> list:
    """A command line without these options, each of which takes a value: "--launch 2" or "--launch=2"; likewise without
    these overrides."""
    kept, words = [], iter(words)
    for word in words:
        if word in names and word.startswith("--"):
            next(words, None)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return kept


def deal_out(gpus: str, workers: int) -> list:
    """ "0,1,2,3" for 2 workers: "0,1" and "2,3". Raises `UsageError` where they cannot be dealt out evenly."""
    numbers = gpus.split(",") if gpus else []
    if len(numbers) % workers:
        raise UsageError(f"--gpus {gpus}: {len(numbers)} for {workers} workers: not as many for each")
    each = len(numbers) // workers
    return [",".join(numbers[at * each : at * each + each]) for at in range(workers)]


def environments(workers: int):
    """Name and environment of every process."""
    # ps-lite numbers workers by the ports that they listen on: ascending, so that `worker 0` here is rank 0 there.
    scheduler, server, *ports = sorted(free_ports(2 + workers))
    shared = {
        **os.environ,
        "DMLC_PS_ROOT_URI": HOST,
        "DMLC_PS_ROOT_PORT": str(scheduler),
        "DMLC_NODE_HOST": HOST,
        "DMLC_NUM_SERVER": "1",
        "DMLC_NUM_WORKER": str(workers),
    }
    cores = count_cores()
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // workers)))
    yield "scheduler", {**shared, "DMLC_ROLE": "scheduler", "OMP_NUM_THREADS": "1"}
    yield "server 0", {**shared, "DMLC_ROLE": "server", "OMP_NUM_THREADS": "1", "PORT": str(server)}
    for rank, port in enumerate(ports):
        mine = {"DMLC_ROLE": "worker", "DMLC_TASK_ID": str(rank), "PORT": str(port)}
        yield f"worker {rank}", {**shared, **mine, "OMP_NUM_THREADS": threads}


def free_ports(count: int) -> list:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def start(name: str, command: list, environment: dict, said: Optional[BinaryIO]) -> Process:
    """Start a process that a Ctrl-C at the terminal does not reach, and that ends when this one does. `said`: where it
    prints, if not where this process does."""
    parent = os.getpid()
    libc = ctypes.CDLL(None)

    def tie_to_parent():
        # Where there is no prctl, a kill -9 of this process leaves the others to their signs of life.
        if hasattr(libc, "prctl"):
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        start_new_session=True,
        preexec_fn=tie_to_parent,
    )
    return Process(name, process, said)


def look_after(processes: list, signals: list) -> int:
    """Wait for the workers, pass `signals` on to them that come in meanwhile. Returns the exit status of the run."""
    workers = [one for one in processes if one.is_worker]
    passed_on = 0
    while True:
        if len(signals) > passed_on:
            passed_on += 1
            if passed_on > 1:
                log.error("error: a second %s: ending all at once", signal.Signals(signals[-1]).name)
                return 128 + signals[-1]
            log.info("stopping: the workers are told; a second time ends them at once")
            for one in workers:
                if one.status is None:
                    one.process.send_signal(signals[0])
        running = [one for one in workers if one.status is None]
        if not running and not any(one.status for one in workers):
            wait_for(processes, DONE_SECONDS)
            return 0
        if signals and len(running) < len(workers):
            wait_for(workers, STOPPED_SECONDS, signals)
            for one in workers:
                if one.status is None:
                    log.error("error: %s did not end in %g s", one.name, STOPPED_SECONDS)
            wait_for(processes, DONE_SECONDS / 5, signals)
            return exit_status(workers)
        if any(one.status for one in processes):
            if running:
                wait_for(workers, FAILED_SECONDS)
            tell_failure([one for one in processes if one.status is not None])
            return exit_status(workers)
        time.sleep(0.1)


def wait_for(processes: list, seconds: float, signals: Optional[list] = None) -> None:
    """Wait until all have ended, but no longer than that, and not when there is a second signal."""
    deadline = time.monotonic() + seconds
    while any(one.status is None for one in processes) and time.monotonic() < deadline:
        if signals and len(signals) > 1:
            return
        time.sleep(0.05)


def tell_failure(ended: list) -> None:
    """What the processes that ended too early said, and which they were. Where the first worker failed by itself, it
    has told why, and the others mostly fail for the same reason."""
    first = next((one for one in ended if one.name == "worker 0"), None)
    if first is not None and first.status > 0 and all(one.status in (0, first.status) for one in ended):
        return
    failed = [one for one in ended if one.status]
    # Who was killed, rather than who failed because of that.
    for one in [one for one in failed if one.status < 0] or failed:
        for line in one.last_words():
            print(f"{one.name}: {line}", file=sys.stderr)
        log.error("error: %s: the others are ended too; --resume goes on from the last checkpoint", one.describe_end())


def exit_status(workers: list) -> int:
    """The first worker's, if it failed, else that of one that did; 1 where all that is known is a signal."""
    return next((one.status if one.status > 0 else 1 for one in workers if one.status), 1)


def end(one: Process) -> None:
    """With all that it started."""
    if one.status is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
