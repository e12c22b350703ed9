"""Bind MXNet executors: a pool of them for each network, and a lock for all.

MXNet plans memory for one input shape, so a network is bound once for each shape. Executors are not thread-safe:
without the lock, one thread gets the outputs of another's images, and two threads that bind at the same time fail with
"Cannot find attribute shape in the graph". One lock is used for all networks, since MXNet runs their operations in one
worker thread anyway.
"""

import contextlib
import ctypes
import math
import os
import re
import threading
from collections import OrderedDict
from typing import Any, List, Optional, Set, Tuple

import numpy as np

from agedge.errors import AgedgeError
from agedge.runtime.model_files import INPUT, Checkpoint, find_unsafe, shapes_of

Shape = Tuple[int, ...]  # of a batch: (n, 3, h, w)

# A thread holds it from writing the input until it has read the output.
MXNET_LOCK = threading.RLock()
_processes: Set[int] = set()  # this process and its parents before forks, if MXNet has run a network in them

# A fork waits until no other thread is inside of MXNet, so the child's copy is consistent and its lock is free.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=MXNET_LOCK.acquire, after_in_child=MXNET_LOCK.release, after_in_parent=MXNET_LOCK.release
    )


class ExecutorPool:
    """The executors of one network, bound when a shape is first run, that share their memory.

    The caller writes a batch into `reserve(shape)` and calls `run(shape)`, and lets no other thread use the pool
    between the two. One shape, the owner, holds the memory that the others work in. A shape that has no room there, or
    would alone fill what the others may have, becomes the owner, and the others are dropped.

    `checkpoint`: the network; its arrays lie on the device of `context`, an MXNet context, None for the CPU. `name`:
    the file that errors name. `kept_pixels`: how many pixels the shapes beside the owner may have together; the one
    that was used least recently is dropped first.
    """

    def __init__(self, checkpoint: Checkpoint, name: object, context: Any = None, kept_pixels: float = math.inf):
        # Without this, MXNet writes a line to stderr for each executor.
        os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
        self.checkpoint, self.name, self.context, self.kept_pixels = checkpoint, name, context, kept_pixels
        self.owner: Optional[Shape] = None
        self.memory = np.zeros(0, np.float32)  # the owner's input; other shapes use the start of it
        self.executors: OrderedDict[Shape, Any] = OrderedDict()  # most recently used last

    def reserve(self, shape: Shape) -> np.ndarray:
        """Return the memory of the next batch, `shape` (n, 3, h, w) float32, for the caller to write into.

        On the CPU, MXNet reads the batch there: a large image is not copied, and memory for it is needed once.
        """
        room = min(count_pixels(self.owner), self.kept_pixels) if self.owner else 0
        if shape != self.owner and count_pixels(shape) > room:
            self.executors.clear()
            self.owner, self.memory = shape, np.zeros(math.prod(shape), np.float32)
        return self.memory[: math.prod(shape)].reshape(shape)

    def run(self, shape: Shape) -> List[np.ndarray]:
        """Return the network's outputs for the batch that was written into `reserve(shape)` last.

        Raises `AgedgeError` if the network cannot be run at this shape.
        """
        import mxnet as mx

        with MXNET_LOCK:
            try:
                executor = self.executors.get(shape) or self.bind(shape)
                self.executors.move_to_end(shape)
                if self.context is not None and self.context.device_type != "cpu":
                    executor.arg_dict[INPUT][:] = self.reserve(shape)
                return [output.asnumpy() for output in executor.forward(is_train=False)]
            except (mx.MXNetError, ValueError) as error:  # shapes that do not fit, or no memory
                raise AgedgeError(f"{self.name}: MXNet cannot run it: {find_reason(error)}") from error

    def bind(self, shape: Shape) -> Any:
        """Bind the network for `shape`, which was reserved, and return the executor."""
        import mxnet as mx

        symbol: Any
        symbol, args, aux = self.checkpoint
        context = self.context or mx.cpu()
        note_use()
        unsafe = find_unsafe(symbol, most=math.inf, **shapes_of(args), **{INPUT: shape})
        if unsafe:
            raise AgedgeError(f"{self.name}: {unsafe}, for {shape[0]} images of {shape[3]}x{shape[2]} pixels")
        self._make_room(shape)
        names, shapes = symbol.list_arguments(), symbol.infer_shape_partial(**{INPUT: shape})[0]
        # Inputs for training labels, if the graph still has them: prediction ignores their values.
        labels = {
            name: mx.nd.zeros(its, ctx=context)
            for name, its in zip(names, shapes)
            if name != INPUT and name not in args
        }
        if context.device_type == "cpu":
            data = mx.nd.from_numpy(self.reserve(shape), zero_copy=True)
        else:
            data = mx.nd.zeros(shape, ctx=context)
        executor = symbol.bind(
            context,
            {**args, **labels, INPUT: data},
            aux_states=aux,
            grad_req="null",
            shared_exec=self.executors.get(self.owner) if self.owner else None,
        )
        self.executors[shape] = executor
        return_memory()
        return executor

    def _make_room(self, shape: Shape) -> None:
        others = [other for other in self.executors if other != self.owner]
        while others and sum(map(count_pixels, others)) + count_pixels(shape) > self.kept_pixels:
            del self.executors[others.pop(0)]


def count_pixels(shape: Shape) -> int:
    """Return the number of pixels of a batch (n, 3, h, w)."""
    return shape[0] * shape[2] * shape[3]


def return_memory() -> None:
    """Give freed memory back to the system. The GNU C library keeps it: 125 MB after six networks at 1280x896."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)


def find_reason(error: Exception) -> str:
    """Return the reason in an error of MXNet: its last line, without the C++ file that it comes from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^(MXNetError: |\[[\d:]+\] \S+: )+", "", lines[-1]) if lines else type(error).__name__


def note_use() -> None:
    """Remember that MXNet runs a network in this process: see `was_used_before_fork`."""
    _processes.add(os.getpid())


def was_used_before_fork() -> bool:
    """Return whether MXNet has run a network in a process from which this one was forked."""
    return bool(_processes - {os.getpid()})
