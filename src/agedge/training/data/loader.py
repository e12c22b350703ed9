"""Load training faces: a thread prepares the next batches while the network trains.

The content of a batch depends only on the seed, the epoch and the batch number, so a run that is resumed in the middle
of an epoch gets bit-identical batches.
"""

import contextlib
import os
import queue
import sys
import threading
import time
from typing import Callable, Iterable, NamedTuple, Optional, Tuple

import numpy as np

from agedge.training.data.augment import apply_transforms, draw_transforms
from agedge.training.data.dataset import FaceDataset
from agedge.training.data.sampling import TRANSFORMS
from agedge.training.recipe import AugmentSection

PREFETCH = 2  # batches that are ready or in preparation
NICENESS = 10  # of the loader thread


class FaceBatch(NamedTuple):
    """A batch of n faces.

    `data` (n, 3, size, size) RGB 0..255 float32; `labels` (n, 3) float32 as in `agedge.labels`; `index` (n,) int64
    numbers of the faces in the `FaceDataset`, -1 if unknown; `mirrored` (n,) bool, None if unknown.
    """

    data: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    mirrored: Optional[np.ndarray]


def make_batch(
    dataset: FaceDataset,
    order: np.ndarray,
    batch_size: int,
    augment: AugmentSection,
    seed: Tuple[int, int],
    step: int,
    part: Tuple[int, int] = (0, 1),
) -> FaceBatch:
    """Make the batch of a step of an epoch. `seed` is (seed, epoch); the other arguments are those of `FaceLoader`."""
    transforms = draw_transforms(augment, batch_size, dataset.size, np.random.default_rng([TRANSFORMS, *seed, step]))
    own = slice(*(batch_size * i // part[1] for i in (part[0], part[0] + 1)))
    index = order[step * batch_size :][:batch_size][own]
    data = np.empty((len(index), 3, dataset.size, dataset.size), np.float32)
    transforms = transforms.select(own)
    apply_transforms(transforms, *dataset.load(index), data)
    return FaceBatch(data, dataset.labels[index], index, transforms.mirrored)


class FaceLoader:
    """Iterate over the batches (`FaceBatch`) of an epoch, starting at step `first`.

    As a context manager, it ends its thread on exit.

    `order` (steps * batch_size,) is the result of `draw_order`. `part` (i, n): this worker gets the i-th of n shares of
    every batch; `batch_size` counts the faces of all n workers, and all workers draw the same random numbers.
    `waited`: seconds that the consumer waited for batches. An error in the thread is raised instead of its batch.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        order: np.ndarray,
        batch_size: int,
        augment: AugmentSection,
        seed: int,
        epoch: int,
        first: int = 0,
        part: Tuple[int, int] = (0, 1),
    ):
        self._ready: queue.Queue = queue.Queue()
        self._room, self._stop = threading.Semaphore(PREFETCH), threading.Event()
        self.waited, self.steps = 0.0, len(order) // batch_size
        self._next = first

        def make(step: int) -> FaceBatch:
            return make_batch(dataset, order, batch_size, augment, (seed, epoch), step, part)

        # The thread must not reference this object, so that an unused loader is garbage-collected and its thread ends.
        work = (make, range(first, self.steps), self._ready, self._room, self._stop)
        self._thread = threading.Thread(target=_fill, args=work, name="training faces", daemon=True)
        self._thread.start()

    def __iter__(self) -> "FaceLoader":
        return self

    def __next__(self) -> FaceBatch:
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
        """End the thread and drop the batches that are ready."""
        self._stop.set()
        self._room.release()
        self._thread.join()
        while not self._ready.empty():
            self._ready.get()

    def __enter__(self) -> "FaceLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._stop.set()
        self._room.release()


def _fill(
    make: Callable[[int], FaceBatch],
    steps: Iterable[int],
    ready: queue.Queue,
    room: threading.Semaphore,
    stop: threading.Event,
) -> None:
    """Put (batch, None) of each step into `ready`. On an error, put (None, error) and return."""
    lower_priority()
    for step in steps:
        room.acquire()
        if stop.is_set():
            return
        try:
            ready.put((make(step), None))
        except BaseException as error:
            ready.put((None, error))
            return


def lower_priority() -> None:
    """Give this thread a lower priority than MXNet's threads (on Linux only).

    MXNet's threads wait for each other, so all of them are slowed down if this thread takes a core from one of them.
    """
    with contextlib.suppress(AttributeError, OSError):
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
