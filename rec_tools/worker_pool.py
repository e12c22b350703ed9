"""Worker processes that may die: a task that crashes, is killed or hangs costs its own process, which is replaced.

`concurrent.futures` gives up all tasks when one process dies, and does not say which task was at fault.
"""

import contextlib
import pickle
import signal
import time
from collections import deque
from itertools import islice
from multiprocessing import connection, get_context
from typing import Callable, Iterable, Iterator

from agedge.errors import AgedgeError
from agedge.workers import start_worker

TRIES = 2  # a process that is killed from outside must not cost a good task
START_TRIES = 3
AHEAD = 4  # tasks a worker that wait or whose results are not yet fetched

_parent = None  # in a worker: the connection to the process that gives it tasks


class WorkerDeathError(Exception):
    """The process of a task died or was too slow, at every try; the message says how."""


def allow(seconds: float) -> None:
    """Say in a worker that the next step of its task may take `seconds` from now; without effect elsewhere.

    A task that never calls it may take any time. A worker that exceeds the time is killed, its task not tried again.
    """
    if _parent is not None:
        _parent.send(("allow", seconds))


class Task:
    """A call that a worker makes: `done` with a `result` or an `error`."""

    def __init__(self, function: Callable, arguments: tuple):
        self.function, self.arguments = function, arguments
        self.done, self.result, self.error, self.deaths = False, None, None, 0


class WorkerPool:
    """Up to `count` processes. Used as a context manager; on leaving it, they are ended and what waits is dropped."""

    def __init__(self, count: int):
        self._count, self._workers, self._waiting = count, [], deque()
        self._failed_starts = 0  # in a row

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self._workers:
            worker.end()

    def submit(self, function: Callable, *arguments, first: bool = False) -> Task:
        """Let a worker call `function`, which, like its arguments and its result, can be pickled.

        `first`: before what is already waiting.
        """
        task = Task(function, arguments)
        (self._waiting.appendleft if first else self._waiting.append)(task)
        return task

    def wait(self, task: Task):
        """Return the result of a task. Raises what its function raised, and `WorkerDeathError`."""
        while not task.done:
            self._step()
        if task.error is not None:
            raise task.error
        return task.result

    def run(self, function: Callable, *arguments):
        """Return the result of a call that goes before all that is waiting. Raises as `wait` does."""
        return self.wait(self.submit(function, *arguments, first=True))

    def submit_ahead(self, function: Callable, tasks: Iterable[tuple]) -> Iterator[Task]:
        """Submit a call for each tuple of arguments, a few ahead of the caller, and give the tasks in their order."""
        coming = (self.submit(function, *arguments) for arguments in tasks)
        given = deque(islice(coming, AHEAD * self._count))
        while given:
            yield given.popleft()
            given.extend(islice(coming, 1))

    def _step(self) -> None:
        """Give tasks to idle workers, then wait for the first that has something to say, dies or is too slow."""
        for worker in self._workers:
            if worker.task is None and self._waiting:
                worker.give(self._waiting.popleft())
        while self._waiting and len(self._workers) < self._count:
            self._workers.append(_Worker())
            self._workers[-1].give(self._waiting.popleft())
        busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
        deadline = min((worker.deadline for worker in busy.values()), default=float("inf"))
        patience = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        for ready in connection.wait(list(busy), patience):
            if fault := busy[ready].listen():
                self._replace(busy[ready], fault)
        for worker in busy.values():
            if worker.task is not None and worker.deadline <= time.monotonic():
                self._replace(worker, f"no answer within {worker.allowed:g} seconds", tries=1)

    def _replace(self, worker: "_Worker", fault: str, tries: int = TRIES) -> None:
        """End a worker; its task waits for another one, unless it has been tried often enough."""
        task = worker.task
        worker.end()
        self._workers.remove(worker)
        self._failed_starts = 0 if worker.ready else self._failed_starts + 1
        if self._failed_starts == START_TRIES:
            raise AgedgeError(f"worker processes do not start: {fault} (out of memory?)")
        task.deaths += worker.ready
        if task.deaths >= tries:
            task.done, task.error = True, WorkerDeathError(fault)
        else:
            self._waiting.appendleft(task)


class _Worker:
    """A process, the connection to it, and the `task` that it has; until `deadline` if that said how long it takes."""

    def __init__(self):
        # spawn: a process that has loaded MXNet must not fork
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is seen when the process dies
        self.task, self.ready, self.deadline, self.allowed = None, False, float("inf"), 0.0

    def give(self, task: Task) -> None:
        self.task, self.deadline = task, float("inf")
        with contextlib.suppress(OSError):  # it died while it was idle: `listen` finds that out
            self.connection.send((task.function, task.arguments))

    def listen(self) -> str:
        """Take a message from the process. Returns how it died, "" while it lives."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return name_end(self.process.exitcode)
        if kind == "ready":
            self.ready = True
        elif kind == "allow":
            self.allowed, self.deadline = value, time.monotonic() + value
        else:
            setattr(self.task, kind, value)
            self.task.done, self.task = True, None
        return ""

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def name_end(status) -> str:
    """Return how a process ended, from its exit status as `multiprocessing` has it."""
    if status is not None and status < 0:
        with_name = {one.value: one.name for one in signal.Signals}
        return f"ended by {with_name.get(-status, f'signal {-status}')}"
    return f"ended with status {status}"


def _work(parent) -> None:
    """Do what a worker does: one task after the other until its parent goes."""
    global _parent
    start_worker()
    _parent = parent
    try:
        parent.send(("ready", None))
        while True:
            function, arguments = parent.recv()
            parent.send(_call(function, arguments))
    except (EOFError, OSError, KeyboardInterrupt):
        pass


def _call(function: Callable, arguments: tuple) -> tuple:
    try:
        return "result", function(*arguments)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an exception whose constructor takes more than its message
            error = AgedgeError(f"{type(error).__name__}: {error}")
        return "error", error
