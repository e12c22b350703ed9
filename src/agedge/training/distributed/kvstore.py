"""Sums over the devices and the workers of a run, by MXNet's KVStore: the all-reduce of gradients.

Every worker applies the same summed gradient to the same weights, so that the weights stay equal; no optimizer runs on
a server. With one device and one worker nothing is sent.
"""

import contextlib
import itertools
import traceback
from typing import Any, Iterator, List, Tuple

import numpy as np

from agedge.training.distributed.cluster import KINDS, HeartbeatMonitor, end_process, find_scheduler, limit_joining

PARTS = 3  # float32 numbers that hold a float64: 24 bits each, of 53
_opened: List["KVStore"] = []  # those that span processes


def open_kvstore(kind: str, contexts: list, name: str = "") -> "KVStore":
    """Return the KVStore for these MXNet contexts.

    `kind`: local or device within a process; dist_sync or dist_device_sync over all workers, once all have joined.
    `name`: of the run, for the error line when a worker is lost. A kind that spans processes needs `roles.find_role`
    before MXNet is imported. Raises `AgedgeError` if the scheduler cannot be reached.
    """
    import mxnet as mx

    if kind not in KINDS:
        if len(contexts) == 1:
            return KVStore(None, contexts)
        # MXNet's `device` sums on one of the devices, which must be a GPU.
        all_gpus = all(context.device_type == "gpu" for context in contexts)
        return KVStore(mx.kv.create(kind if all_gpus else "local"), contexts)
    find_scheduler()
    with limit_joining():
        kvstore = KVStore(mx.kv.create(kind), contexts, name)
    _opened.append(kvstore)
    return kvstore


class KVStore:
    """Collective operations of a run's workers and devices.

    All workers must call the same methods in the same order, on arrays of the same shapes. Arrays are given as lists:
    for every parameter its NDArrays, one a context.

    Attributes:
        rank, workers: number of this worker, of all.
        spans: whether there are several processes.
    """

    def __init__(self, store: Any, contexts: list, name: str = ""):
        self.store: Any = store
        self.contexts = contexts
        self.spans: bool = store is not None and store.type.startswith("dist")
        self.rank, self.workers = (self.store.rank, self.store.num_workers) if self.spans else (0, 1)
        self.numbers, self.keys = itertools.count(), set()
        self.packs: Tuple[list, List[GradientPack]] = ([], [])
        self.monitor = HeartbeatMonitor(store, name, "worker") if self.spans else None

    @property
    def is_chief(self) -> bool:
        """Return whether this worker writes the files of the run."""
        return self.rank == 0

    def broadcast(self, arrays: list) -> None:
        """Copy the values of rank 0's first context to all workers and contexts, in place."""
        if self.store is None:
            return
        for group in group_by_dtype(arrays):
            flat = flatten([values[0] for values in group])
            if self.spans:
                self.store.broadcast(f"value{next(self.numbers)}", flat, out=flat)
            for at in range(len(self.contexts)):
                unflatten(flat, [values[at] for values in group])

    def sum_gradients(self, gradients: list) -> None:
        """All-reduce: replace gradients by their sum over contexts and workers. Does not wait for the devices."""
        if self.store is None:
            return
        same = [array for values in gradients for array in values]
        known, packs = self.packs
        if len(known) != len(same) or any(one is not other for one, other in zip(known, same)):
            packs = [GradientPack(group) for group in group_by_dtype(gradients)]
            self.packs = same, packs
        for number, pack in enumerate(packs):
            pack.gather()
            self._sum(f"gradients{number}", pack.flats)
            pack.scatter()

    def mean(self, arrays: list) -> None:
        """Replace arrays by their mean over contexts and workers. Used for BatchNorm's running statistics, which every
        device computes from its own images."""
        if self.store is None:
            return
        for number, group in enumerate(group_by_dtype(arrays)):
            flats = [flatten([values[at] for values in group]) for at in range(len(self.contexts))]
            self._sum(f"mean{number}", flats)
            for at, flat in enumerate(flats):
                unflatten(flat / (self.workers * len(self.contexts)), [values[at] for values in group])

    def sum_small(self, vector: np.ndarray) -> np.ndarray:
        """Return the sum over workers of a few numbers (k,), float64. Waits for all workers."""
        vector = np.asarray(vector, np.float64)
        if not self.spans:
            return vector
        import mxnet as mx

        # MXNet's servers sum in float32, in the order in which messages arrive. So every worker has its own place, to
        # which the others add 0, for three float32 that together hold its float64 exactly.
        parts = np.zeros((self.workers, PARTS, len(vector)), np.float32)
        rest = vector
        for number in range(PARTS):
            parts[self.rank, number] = rest
            rest = np.subtract(rest, parts[self.rank, number], where=np.isfinite(vector), out=np.zeros_like(vector))
        shared = mx.nd.array(parts.ravel())
        self._sum("small", [shared])
        return shared.asnumpy().reshape(parts.shape).astype(np.float64).sum(axis=(0, 1))

    def barrier(self) -> None:
        """Wait until every worker has called this."""
        if self.spans:
            self.store._barrier()

    def close(self) -> None:
        """Leave the cluster once all workers do so; servers and scheduler then end."""
        if self.store is None:
            return
        import mxnet as mx

        mx.nd.waitall()
        self.barrier()  # while the monitor still notices lost processes
        if self.monitor:
            self.monitor.stop()
        self.store, self.monitor = None, None  # MXNet's destructor signs off
        self.spans = False

    def _sum(self, key: str, vectors: list) -> None:
        """Replace vectors (n,), one a context, by their sum over contexts and workers."""
        key = f"{key}:{len(vectors[0])}"  # all values of a key must have the same length
        if key not in self.keys:
            self.store.init(key, vectors[0].zeros_like())
            self.keys.add(key)
        self.store.pushpull(key, vectors, out=vectors)


def is_chief() -> bool:
    """Return whether this process writes the files of the runs that it took part in."""
    return all(kvstore.is_chief for kvstore in _opened)


@contextlib.contextmanager
def ending_with_others() -> Iterator[None]:
    """End the process at once, with its status, where it fails while it is one of several workers.

    The other workers then notice that it is gone. Otherwise it would wait for them, and they for it.
    """
    try:
        yield
    except SystemExit as error:
        if error.code and any(kvstore.spans for kvstore in _opened):
            end_process(error.code if isinstance(error.code, int) else 1)
        raise
    except BaseException:
        if any(kvstore.spans for kvstore in _opened):
            traceback.print_exc()
            end_process(1)
        raise


def group_by_dtype(arrays: list) -> List[list]:
    """Return the NDArrays grouped by dtype."""
    groups: dict = {}
    for values in arrays:
        groups.setdefault(values[0].dtype, []).append(values)
    return list(groups.values())


def flatten(arrays: list) -> Any:
    """Return one vector (n,) of all values, a copy, in the first array's context."""
    from mxnet import nd

    # Copies: MXNet may keep a convolution's weights in an internal layout, of which a view would be wrong.
    return nd.concat(*[array.copy().reshape(-1) for array in arrays], dim=0)


def unflatten(vector: Any, arrays: list) -> None:
    """Write a vector (n,) into NDArrays that have n values together."""
    start = 0
    for array in arrays:
        array[:] = vector[start : start + array.size].reshape(array.shape).as_in_context(array.context)
        start += array.size


class GradientPack:
    """Gradients of one dtype as one vector a context, so that they are sent as one message.

    One message a parameter takes 7 to 9 ms a step, one for all 2.7 ms (85 parameters, 2 workers on one machine of 2
    cores). Views are made once and copied by one operator: 85 copies take three times as long, and split_v2, MXNet's
    operator that cuts a vector, ten times. Unlike weights, gradients always have the usual layout, which views need.

    Attributes:
        flats: for every context a vector (n,) of all gradients.
    """

    def __init__(self, arrays: list):
        from mxnet import nd

        ends = list(itertools.accumulate(values[0].size for values in arrays))
        self.flats, self.pieces, self.views = [], [], []
        for shares in zip(*arrays):
            flat = nd.empty((ends[-1],), ctx=shares[0].context, dtype=shares[0].dtype)
            self.flats.append(flat)
            self.pieces.append([flat[start:end] for start, end in zip([0, *ends], ends)])
            self.views.append([share.reshape(-1) for share in shares])

    def gather(self) -> None:
        """Copy the gradients into the vectors."""
        for views, pieces in zip(self.views, self.pieces):
            copy_all(views, pieces)

    def scatter(self) -> None:
        """Copy the vectors into the gradients."""
        for views, pieces in zip(self.views, self.pieces):
            copy_all(pieces, views)


def copy_all(sources: list, targets: list) -> None:
    """Copy NDArrays of one dtype and context into others of the same shapes, by one operator."""
    from mxnet import nd

    nd.amp_multicast(*sources, num_outputs=len(sources), out=targets)
