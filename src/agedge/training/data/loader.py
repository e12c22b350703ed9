"""Batches of changed training faces, made by a thread while the network trains.

What is in a batch depends on the seed, the epoch and the batch's number alone, so a run that is resumed in the middle
of an epoch sees the same bits.
"""

import contextlib
import os
import queue
import sys
import threading
import time
from typing import NamedTuple, Optional

import numpy as np

from agedge.training.data.augment import apply, draw
from agedge.training.data.sampling import CHANGES

AHEAD = 2  # batches that wait or are being made
RANK = 10  # "nice" of the thread that makes them


class Batch(NamedTuple):
    """`data` (n, 3, size, size) RGB 0..255 float32, `labels` (n, 3) float32 by the contract, `index` (n,) int64 faces
    as `TrainingFaces` numbers them (-1: unknown), `mirrored` (n,) bool (None: unknown)."""

    data: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    mirrored: Optional[np.ndarray]


def make_batch(faces, order: np.ndarray, batch_size: int, augment: dict, seed, step: int, part=(0, 1)) -> Batch:
    """The batch of one step of an epoch; `seed` is (seed, epoch). The arguments are those of `Stream`."""
    changes = draw(augment, batch_size, faces.size, np.random.default_rng([CHANGES, *seed, step]))
    mine = slice(*(batch_size * i // part[1] for i in (part[0], part[0] + 1)))
    changes, index = changes.of(mine), order[step * batch_size :][:batch_size][mine]
    data = np.empty((len(index), 3, faces.size, faces.size), np.float32)
    apply(changes, *faces.pool(index), data)
    return Batch(data, faces.labels[index], index, changes.mirrored)


class Stream:
    """The batches of an epoch from step `first` on, an iterator of `Batch`, and a context manager that ends its thread.

    `order` (steps * batch_size,) is what `draw_order` gives. `part` (i, n): `batch_size` is of the whole job, and this
    worker gets the i-th n-th of every batch, of which all workers draw the same chance. `waited`: seconds that the
    consumer stood waiting for batches. An error in the thread is raised where its batch was to come.
    """

    def __init__(self, faces, order, batch_size: int, augment: dict, seed: int, epoch: int, first=0, part=(0, 1)):
        self._ready, self._room, self._stop = queue.Queue(), threading.Semaphore(AHEAD), threading.Event()
        self.waited, self.steps = 0.0, len(order) // batch_size
        self._next = first

        def make(step):
            return make_batch(faces, order, batch_size, augment, (seed, epoch), step, part)

        # It knows nothing of this object, so that one that was forgotten is collected, and the thread ends.
        task = (make, range(first, self.steps), self._ready, self._room, self._stop)
        self._thread = threading.Thread(target=_fill, args=task, name="training faces", daemon=True)
        self._thread.start()

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        if self._stop.is_set() or self._next >= self.steps:
            self.close()
            raise StopIteration
        started = time.perf_counter()
        try:
            batch, error = self._ready.get()
        finally:
            self.waited += time.perf_counter() - started
        if error is not None:
            self.close()
            raise error
        self._room.release()
        self._next += 1
        return batch

    def close(self) -> None:
        """End the thread; batches that wait are dropped."""
        self._stop.set()
        self._room.release()
        self._thread.join()
        while not self._ready.empty():
            self._ready.get()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self._stop.set()
        self._room.release()


def _fill(make, steps, ready: queue.Queue, room: threading.Semaphore, stop: threading.Event) -> None:
    yield_to_the_network()
    for step in steps:
        room.acquire()
        if stop.is_set():
            return
        try:
            ready.put((make(step), None))
        except BaseException as error:
            ready.put((None, error))
            return


def yield_to_the_network() -> None:
    """Let this thread run in the gaps that MXNet's threads leave: they wait for each other where it takes a core from
    one of them. Only Linux ranks threads."""
    with contextlib.suppress(AttributeError, OSError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), RANK)
