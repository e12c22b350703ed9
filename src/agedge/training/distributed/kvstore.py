"""What the devices and the workers of a run tell each other, by MXNet's KVStore: the sums of their gradients.

Every worker applies the same sum to the same weights, so that these stay the same; no optimizer runs on a server. With
one device and one worker there is nothing to say, and nothing is done.
"""

import contextlib
import itertools
import traceback

import numpy as np

from agedge.training.distributed.cluster import KINDS, Neighbours, end_process, find_scheduler, join_in_time

PARTS = 3  # 24 bits each, of 53
_opened = []  # stores that span processes


def open_store(kind: str, contexts: list, name: str = "") -> "Store":
    """The store for these MXNet contexts: kind local or device within a process; dist_sync and dist_device_sync over
    all workers, once they all are there. `name` of the run, for the line that says that a worker is gone.

    A kind that spans processes needs `cluster.check_environment` before MXNet was imported. Raises `AgedgeError` where
    the scheduler is not to be found.
    """
    import mxnet as mx

    if kind not in KINDS:
        if len(contexts) == 1:
            return Store(None, contexts)
        # MXNet's `device` adds up on one of the devices, which must be a GPU.
        everywhere_gpu = all(context.device_type == "gpu" for context in contexts)
        return Store(mx.kv.create(kind if everywhere_gpu else "local"), contexts)
    find_scheduler()
    with join_in_time():
        store = Store(mx.kv.create(kind), contexts, name)
    _opened.append(store)
    return store


class Store:
    """`rank` of this worker, of `workers`. All workers must call the same methods in the same order, on arrays of the
    same shapes; arrays are given as lists: for every parameter its NDArrays, one a context."""

    def __init__(self, kvstore, contexts: list, name: str = ""):
        self.kvstore, self.contexts = kvstore, contexts
        self.spans = kvstore is not None and kvstore.type.startswith("dist")
        self.rank, self.workers = (kvstore.rank, kvstore.num_workers) if self.spans else (0, 1)
        self.numbers, self.keys, self.packs = itertools.count(), set(), ([], [])
        self.neighbours = Neighbours(kvstore, name, "worker") if self.spans else None

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the files of the run."""
        return self.rank == 0

    def broadcast(self, arrays: list) -> None:
        """Give all workers and contexts what rank 0 has in the first context, in place."""
        if self.kvstore is None:
            return
        for group in group_by_dtype(arrays):
            flat = flatten([values[0] for values in group])
            if self.spans:
                self.kvstore.broadcast(f"value{next(self.numbers)}", flat, out=flat)
            for at in range(len(self.contexts)):
                spread(flat, [values[at] for values in group])

    def sum_gradients(self, gradients: list) -> None:
        """Add up over contexts and workers, in place; everybody gets the same sum. Does not wait for the devices."""
        if self.kvstore is None:
            return
        same = [array for values in gradients for array in values]
        known, packs = self.packs
        if len(known) != len(same) or any(one is not other for one, other in zip(known, same)):
            packs = [Pack(group) for group in group_by_dtype(gradients)]
            self.packs = same, packs
        for number, pack in enumerate(packs):
            pack.gather()
            self._sum(f"gradients{number}", pack.flats)
            pack.scatter()

    def mean(self, arrays: list) -> None:
        """The mean over contexts and workers, in place: of BatchNorm's running statistics, which every device gathers
        from its own faces."""
        if self.kvstore is None:
            return
        for number, group in enumerate(group_by_dtype(arrays)):
            flats = [flatten([values[at] for values in group]) for at in range(len(self.contexts))]
            self._sum(f"mean{number}", flats)
            for at, flat in enumerate(flats):
                spread(flat / (self.workers * len(self.contexts)), [values[at] for values in group])

    def sum_small(self, vector: np.ndarray) -> np.ndarray:
        """The sum over workers of a few numbers (k,), float64. Waits for all workers."""
        vector = np.asarray(vector, np.float64)
        if not self.spans:
            return vector
        import mxnet as mx

        # MXNet's servers add up in float32, in the order in which workers come. So every worker has a place of its own,
        # to which the others add 0, for three float32 that are together the float64.
        parts = np.zeros((self.workers, PARTS, len(vector)), np.float32)
        rest = vector
        for number in range(PARTS):
            parts[self.rank, number] = rest
            rest = np.subtract(rest, parts[self.rank, number], where=np.isfinite(vector), out=np.zeros_like(vector))
        shared = mx.nd.array(parts.ravel())
        self._sum("small", [shared])
        return shared.asnumpy().reshape(parts.shape).astype(np.float64).sum(axis=(0, 1))

    def barrier(self) -> None:
        """Wait until every worker is here."""
        if self.spans:
            self.kvstore._barrier()

    def close(self) -> None:
        """Leave in good order: waits for the other workers to do so too; then servers and scheduler end."""
        if self.kvstore is None:
            return
        import mxnet as mx

        mx.nd.waitall()
        self.barrier()  # while it is still told of others that are gone
        if self.neighbours:
            self.neighbours.stop()
        self.kvstore = self.neighbours = None  # MXNet's destructor says good-bye
        self.spans = False

    def _sum(self, key: str, vectors: list) -> None:
        """`vectors`: (n,), one a context; in place."""
        key = f"{key}:{len(vectors[0])}"  # what lies under a key stays of one length
        if key not in self.keys:
            self.kvstore.init(key, vectors[0].zeros_like())
            self.keys.add(key)
        self.kvstore.pushpull(key, vectors, out=vectors)


def is_chief() -> bool:
    """Whether this process writes the files of the runs that it took part in."""
    return all(store.is_chief for store in _opened)


@contextlib.contextmanager
def ending_with_others():
    """Around all that a process does: where it fails among others, it ends at once, with its status, and they learn
    that it is gone. Left to itself it would wait for them, and they for it."""
    try:
        yield
    except SystemExit as exit:
        if exit.code and any(store.spans for store in _opened):
            end_process(exit.code if isinstance(exit.code, int) else 1)
        raise
    except BaseException:
        if any(store.spans for store in _opened):
            traceback.print_exc()
            end_process(1)
        raise


def group_by_dtype(arrays: list) -> list:
    """Lists of NDArrays, those of one type of numbers together."""
    groups = {}
    for values in arrays:
        groups.setdefault(values[0].dtype, []).append(values)
    return list(groups.values())


def flatten(arrays: list):
    """One vector (n,) of all their numbers, a copy, in the first one's context."""
    from mxnet import nd

    # Copies, since MXNet keeps a convolution's weights in a layout of its own, which a view is wrong of.
    return nd.concat(*[array.copy().reshape(-1) for array in arrays], dim=0)


def spread(vector, arrays: list) -> None:
    """Write a vector (n,) into NDArrays that have n numbers together."""
    start = 0
    for array in arrays:
        array[:] = vector[start : start + array.size].reshape(array.shape).as_in_context(array.context)
        start += array.size


class Pack:
    """Gradients of one dtype (for every parameter, one a context) and `flats`: for every context a vector (n,) that
    takes up all their numbers, and is one message: one a parameter takes 7 to 9 ms a step, where this takes 2.7 (85
    parameters, 2 workers on one machine of 2 cores).

    Views are made once, and copied by one operator: 85 copies take three times as long, and split_v2, which MXNet has
    for cutting a vector, ten times. Unlike weights, gradients are always in the usual layout, which views need.
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
        for views, pieces in zip(self.views, self.pieces):
            copy_all(views, pieces)

    def scatter(self) -> None:
        for views, pieces in zip(self.views, self.pieces):
            copy_all(pieces, views)


def copy_all(sources: list, targets: list) -> None:
    """Write NDArrays of one dtype and context into others of the same shapes, as one operation."""
    from mxnet import nd

    nd.amp_multicast(*sources, num_outputs=len(sources), out=targets)
