"""Run tasks in worker processes that may die. A process that crashes, is killed or hangs is replaced.

In `concurrent.futures`, all tasks fail when one process dies, and the faulty task is unknown.
"""

import contextlib
import pickle
import signal
import time
from collections import deque
from itertools import islice
from multiprocessing import connection, get_context
from typing import Any, Callable, Deque, Iterable, Iterator, List, Optional, Tuple

from agedge.errors import AgedgeError
from agedge.workers import start_worker

TRIES = 2  # so that a process killed from outside does not cost a good task
START_TRIES = 3
AHEAD = 4  # tasks per worker that wait or whose results are not yet fetched

_parent: Any = None  # in a worker: the connection to the parent process


class WorkerDeathError(Exception):
    """The process of a task died or was too slow at every try; the message tells how."""


def set_time_limit(seconds: float) -> None:
    """Limit the next step of a worker's task to `seconds` from now. Outside of a worker it does nothing.

    Without a call there is no limit. A worker that exceeds its limit is killed, and its task is not tried again.
    """
    if _parent is not None:
        _parent.send(("time_limit", seconds))


class Task:
    """A call made by a worker. When it is `done`, it has a `result` or an `error`; `deaths` counts lost processes."""

    def __init__(self, function: Callable, arguments: tuple):
        self.function, self.arguments = function, arguments
        self.done, self.deaths = False, 0
        self.result: Any = None
        self.error: Optional[Exception] = None


class WorkerPool:
    """A context manager with up to `count` processes. On exit they are killed and waiting tasks are dropped."""

    def __init__(self, count: int):
        self._count = count
        self._workers: List[_Worker] = []
        self._waiting: Deque[Task] = deque()
        self._failed_starts = 0  # in a row

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    def submit(self, function: Callable, *arguments: Any, first: bool = False) -> Task:
        """Queue a call. The function, its arguments and its result must be picklable.

        `first`: before the tasks that are already waiting.
        """
        task = Task(function, arguments)
        (self._waiting.appendleft if first else self._waiting.append)(task)
        return task

    def wait(self, task: Task) -> Any:
        """Return the result of a task. Raises the exception of its function, and `WorkerDeathError`."""
        while not task.done:
            self._step()
        if task.error is not None:
            raise task.error
        return task.result

    def run(self, function: Callable, *arguments: Any) -> Any:
        """Call a function before all waiting tasks and return its result. Raises as `wait` does."""
        return self.wait(self.submit(function, *arguments, first=True))

    def submit_ahead(self, function: Callable, tasks: Iterable[tuple]) -> Iterator[Task]:
        """Submit a call for each tuple of arguments, a few ahead of the caller; yield the tasks in order."""
        coming = (self.submit(function, *arguments) for arguments in tasks)
        given = deque(islice(coming, AHEAD * self._count))
        while given:
            yield given.popleft()
            given.extend(islice(coming, 1))

    def _step(self) -> None:
        """Assign tasks to idle workers, then wait for a message, a death or a timeout."""
        for worker in self._workers:
            if worker.task is None and self._waiting:
                worker.assign(self._waiting.popleft())
        while self._waiting and len(self._workers) < self._count:
            self._workers.append(_Worker())
            self._workers[-1].assign(self._waiting.popleft())
        busy = {worker.connection: worker for worker in self._workers if worker.task is not None}
        deadline = min((worker.deadline for worker in busy.values()), default=float("inf"))
        timeout = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        ready = connection.wait(list(busy), timeout)
        for worker in [busy[one] for one in busy if one in ready]:
            if fault := worker.receive():
                self._replace(worker, fault)
        for worker in busy.values():
            if worker.task is not None and worker.deadline <= time.monotonic():
                self._replace(worker, f"no answer within {worker.allowed:g} seconds", tries=1)

    def _replace(self, worker: "_Worker", fault: str, tries: int = TRIES) -> None:
        """Kill a worker. Its task waits for another worker, unless it has been tried often enough."""
        task = worker.task
        assert task is not None
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
    """A process, the connection to it, and its present `task`; `deadline` of the task's present step."""

    def __init__(self):
        # Spawned: a process that has loaded MXNet must not fork.
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is seen when the process dies
        self.task: Optional[Task] = None
        self.ready, self.deadline, self.allowed = False, float("inf"), 0.0

    def assign(self, task: Task) -> None:
        self.task, self.deadline = task, float("inf")
        with contextlib.suppress(OSError):  # it died while it was idle: `receive` finds that out
            self.connection.send((task.function, task.arguments))

    def receive(self) -> str:
        """Handle a message of the process. Return how it died, or "" if it lives."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return describe_exit(self.process.exitcode)
        if kind == "ready":
            self.ready = True
        elif kind == "time_limit":
            self.allowed, self.deadline = value, time.monotonic() + value
        elif self.task is not None:
            setattr(self.task, kind, value)
            self.task.done, self.task = True, None
        return ""

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def describe_exit(status: Optional[int]) -> str:
    """Return how a process ended, from its `exitcode` in `multiprocessing`."""
    if status is not None and status < 0:
        names = {one.value: one.name for one in signal.Signals}
        return f"ended by {names.get(-status, f'signal {-status}')}"
    return f"ended with status {status}"


def _work(parent: Any) -> None:
    """Run in a worker: do one task after the other until the parent process ends."""
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


def _call(function: Callable, arguments: tuple) -> Tuple[str, Any]:
    try:
        return "result", function(*arguments)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an exception whose constructor needs more than its message
            error = AgedgeError(f"{type(error).__name__}: {error}")
        return "error", error
