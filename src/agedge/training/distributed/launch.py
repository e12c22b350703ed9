"""`train.py --launch 2`: start all processes of a distributed run on this machine, to try it.

A scheduler, a server and the workers run the same command, each with its own environment variables, on free ports of
the loopback interface. They end when this process ends.
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
from typing import IO, Dict, Iterator, List, Optional, Tuple

from agedge.errors import UsageError
from agedge.training.distributed.cluster import KINDS
from agedge.training.distributed.threads import count_cores

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
FAILED_SECONDS = 2.0  # time for the other workers to print their errors after one process has failed
STOPPED_SECONDS = 180.0  # time for the other workers to end after a signal has ended one worker
DONE_SECONDS = 10.0  # time for server and scheduler to end after all workers are done
SHOWN_LINES = 5  # of the output of a failed process
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclass
class Process:
    """A process of the run. `output`: the file of its stdout and stderr; None for this process's terminal."""

    name: str
    process: subprocess.Popen
    output: Optional[IO[bytes]]

    @property
    def is_worker(self) -> bool:
        """Return whether the process is a worker."""
        return self.name.startswith("worker")

    @property
    def status(self) -> Optional[int]:
        """Return its exit status: None while it runs; -N if signal N ended it."""
        return self.process.poll()

    def describe_end(self) -> str:
        """Return how the process ended, as text."""
        status = self.status or 0
        if status >= 0:
            return f"{self.name} ended with exit status {status}"
        return f"{self.name} was ended by {signal.Signals(-status).name}"

    def last_lines(self) -> List[str]:
        """Return the last SHOWN_LINES lines of its output."""
        if self.output is None:
            return []
        self.output.seek(0)
        lines = self.output.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
        return [line for line in lines if line.strip()][-SHOWN_LINES:]


def launch(program: List[str], arguments: List[str], workers: int, kind: str = "dist_sync", gpus: str = "") -> int:
    """Run `program` with `arguments` as `workers` workers, and start a scheduler and a server for them.

    Each worker gets `--kvstore KIND` and its share of `gpus`, such as "0,1,2,3". Only the first worker's output is
    shown. Return the exit status of the first worker, or of a worker that failed.

    If one process fails, all are ended, and a message names it. The first SIGINT or SIGTERM is passed on to the
    workers; the second one ends all processes. Raises `UsageError`.
    """
    if kind not in KINDS:
        raise UsageError(f"--launch: --kvstore {kind} is for one process; must be {' or '.join(KINDS)}")
    shares = share_gpus(gpus, workers)
    processes: List[Process] = []
    with collected_signals() as signals, contextlib.ExitStack() as stack:
        for name, environment in environments(workers):
            mine = ["--gpus", shares[int(name.split()[1])]] if name.startswith("worker") and gpus else []
            output = None if name == "worker 0" else stack.enter_context(tempfile.TemporaryFile())
            processes.append(start(name, [*program, "--kvstore", kind, *mine, *arguments], environment, output))
            stack.callback(end, processes[-1])
        return supervise(processes, signals)


@contextlib.contextmanager
def collected_signals() -> Iterator[List[int]]:
    """Yield a list to which SIGINT and SIGTERM are appended; they do not end this process."""
    signals: List[int] = []
    before = {number: signal.signal(number, lambda *got: signals.append(got[0])) for number in STOP_SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def share_gpus(gpus: str, workers: int) -> List[str]:
    """Return the GPUs of each worker: "0,1" and "2,3" for "0,1,2,3" and 2 workers. Raises `UsageError`
    if the shares would not be equal, and if `workers` is below 1."""
    if workers < 1:
        raise UsageError(f"--launch {workers}: must be at least 1 worker")
    numbers = gpus.split(",") if gpus else []
    if len(numbers) % workers:
        raise UsageError(f"--gpus {gpus}: {len(numbers)} GPUs cannot be divided equally among {workers} workers")
    each = len(numbers) // workers
    return [",".join(numbers[at * each : at * each + each]) for at in range(workers)]


def environments(workers: int) -> Iterator[Tuple[str, Dict[str, str]]]:
    """Yield the name and the environment variables of every process."""
    # ps-lite ranks workers by port. The ports ascend, so that `worker 0` has rank 0.
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


def free_ports(count: int) -> List[int]:
    """Return `count` free ports of the loopback interface."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def start(name: str, command: List[str], environment: Dict[str, str], output: Optional[IO[bytes]]) -> Process:
    """Start a process in its own session, without Ctrl-C of the terminal. It is killed when this process ends.

    `output`: the file of its stdout and stderr; None: those of this process.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None)

    def tie_to_parent() -> None:
        # Without prctl, after a kill -9 of this process only their heartbeats end the others.
        if hasattr(libc, "prctl"):
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=tie_to_parent,
    )
    return Process(name, process, output)


def supervise(processes: List[Process], signals: List[int]) -> int:
    """Wait for the workers and pass on the `signals` that arrive. Return the exit status of the run."""
    workers = [one for one in processes if one.is_worker]
    passed_on = 0
    while True:
        if len(signals) > passed_on:
            passed_on += 1
            if passed_on > 1:
                log.error("error: a second %s: ending all processes at once", signal.Signals(signals[-1]).name)
                return 128 + signals[-1]
            log.info("stopping the workers; a second signal ends them at once")
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
            report_failure([one for one in processes if one.status is not None])
            return exit_status(workers)
        time.sleep(0.1)


def wait_for(processes: List[Process], seconds: float, signals: Optional[List[int]] = None) -> None:
    """Wait until all have ended, `seconds` have passed, or a second signal has arrived."""
    deadline = time.monotonic() + seconds
    while any(one.status is None for one in processes) and time.monotonic() < deadline:
        if signals and len(signals) > 1:
            return
        time.sleep(0.05)


def report_failure(ended: List[Process]) -> None:
    """Print the last lines of the failed processes, and log their names.

    Print nothing if the first worker failed with its own error: its output is shown already, and the others usually
    fail for the same reason.
    """
    first = next((one for one in ended if one.name == "worker 0"), None)
    status = first.status if first is not None else None
    if status and status > 0 and all(one.status in (0, status) for one in ended):
        return
    failed = [one for one in ended if one.status]
    # Prefer processes that were killed: the others may have failed as a consequence.
    for one in [one for one in failed if (one.status or 0) < 0] or failed:
        for line in one.last_lines():
            print(f"{one.name}: {line}", file=sys.stderr)
        log.error(
            "error: %s: the others are ended too; --resume continues from the last checkpoint", one.describe_end()
        )


def exit_status(workers: List[Process]) -> int:
    """Return the first worker's status, or that of a worker that failed; 1 for a worker that a signal ended."""
    return next((max(status, 1) for status in (one.status for one in workers) if status), 1)


def end(one: Process) -> None:
    """Kill a process and all processes that it started."""
    if one.status is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
