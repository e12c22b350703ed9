"""Checkpoints of the ESSH family, whoever trained them: read, checked, and run at many sizes in little memory."""

import contextlib
import ctypes
import math
import os
from collections import OrderedDict
from pathlib import Path
from typing import List

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.essh.anchors import CHANNELS, STRIDES
from agedge.faces.essh.card import DetectorCard, find_checkpoint
from agedge.runtime.model_files import INPUT, Checkpoint, find_misfit, find_unsafe, read_checkpoint, shapes_of
from agedge.runtime.mxnet_executors import MXNET_LOCK

SIDE = 640  # pixels of the square for which shapes are checked
# A network bound to a shape takes 72 bytes of memory a pixel on an x86 CPU, and in the pool of a larger one 21 to 28.
# So, beside the one that owns the pool, as many shapes are kept as have this number of pixels together: two of 640x448.
KEPT = 0.6e6


class Net:
    """A checkpoint's network, ready to run. Not for two threads at once.

    MXNet keeps an executor a shape, so callers send few shapes. One shape owns the memory that the others work in. When
    one comes that has no room there, or would alone fill what the others share, it owns all, and the others go.
    """

    def __init__(self, checkpoint: Checkpoint, mean: np.ndarray):
        self.checkpoint, self.mean = checkpoint, mean  # mean: (3,) R, G, B
        self.owner, self.memory = None, None  # a shape, and numbers for an input of that shape
        self.executors = OrderedDict()  # by shape, last used last

    def reserve(self, shape: tuple) -> np.ndarray:
        """Where to write the next batch, `shape` (n, 3, h, w) float32, RGB less the card's mean. MXNet reads it there:
        a large image is not copied again, and memory for it is needed once."""
        room = min(count_pixels(self.owner), KEPT) if self.owner else 0
        if shape != self.owner and count_pixels(shape) > room:
            self.executors.clear()
            self.owner, self.memory = shape, np.empty(math.prod(shape), np.float32)
        return self.memory[: math.prod(shape)].reshape(shape)

    def run(self, shape: tuple) -> List[np.ndarray]:
        """The nine maps for what was written to `reserve(shape)` last."""
        is_new = shape not in self.executors
        with MXNET_LOCK:
            if is_new:
                self._make_room(shape)
                self.executors[shape] = self._bind(shape)
            self.executors.move_to_end(shape)
            maps = [output.asnumpy() for output in self.executors[shape].forward(is_train=False)]
        if is_new:
            return_memory()
        return maps

    def _make_room(self, shape: tuple) -> None:
        others = [other for other in self.executors if other != self.owner]
        while others and sum(map(count_pixels, others)) + count_pixels(shape) > KEPT:
            del self.executors[others.pop(0)]

    def _bind(self, shape: tuple):
        import mxnet as mx

        symbol, args, aux = self.checkpoint
        if unsafe := find_unsafe(symbol, most=math.inf, **shapes_of(args), **{INPUT: shape}):
            raise AgedgeError(f"ESSH: its network cannot be run: {unsafe}, for images of {shape[3]}x{shape[2]} pixels")
        shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape_partial(**{INPUT: shape})[0]))
        # Labels of training, where a graph still wants them: their values do not matter here.
        inputs = {name: mx.nd.zeros(its) for name, its in shapes.items() if name not in (INPUT, *args)}
        inputs[INPUT] = mx.nd.from_numpy(self.reserve(shape), zero_copy=True)
        shared = self.executors.get(self.owner)
        return symbol.bind(mx.cpu(), {**args, **inputs}, aux_states=aux, grad_req="null", shared_exec=shared)


def count_pixels(shape: tuple) -> int:
    """Of a batch (n, 3, h, w)."""
    return shape[0] * shape[2] * shape[3]


def return_memory() -> None:
    """Give what was freed back to the system. The GNU C library keeps it: 125 MB after six networks at 1280x896."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # in other C libraries there is no such function
        ctypes.CDLL(None).malloc_trim(0)


def open_net(card: DetectorCard) -> Net:
    """The network of a card. Raises `AgedgeError` where a file is missing or damaged, or is no detector's."""
    # Else MXNet writes a line on stderr for each executor, and it and oneDNN keep code for every shape ever seen.
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
    os.environ.setdefault("MXNET_MKLDNN_CACHE_NUM", "64")
    os.environ.setdefault("DNNL_PRIMITIVE_CACHE_CAPACITY", "64")
    card.verify()
    symbol_file, params_file = find_checkpoint(card)
    checkpoint = read_checkpoint(symbol_file, params_file)
    misfit = find_misfit(checkpoint, SIDE)
    if misfit:
        raise AgedgeError(f"{params_file}: not the weights of {symbol_file.name}: {misfit}")
    check_weights(checkpoint, params_file)
    check_inputs(checkpoint, symbol_file)
    check_outputs(checkpoint, symbol_file)
    return Net(checkpoint, card.mean)


def check_weights(checkpoint: Checkpoint, params_file: Path) -> None:
    """Raises `AgedgeError` where a weight is NaN or infinite."""
    for name, value in {**checkpoint.args, **checkpoint.aux}.items():
        if not np.isfinite(value.asnumpy()).all():
            raise AgedgeError(f"{params_file}: {name} is not finite: damaged, or a training that went astray")


def check_inputs(checkpoint: Checkpoint, symbol_file: Path) -> None:
    """Raises `AgedgeError` where the graph wants labels whose shapes do not follow from the image's."""
    symbol, args, _ = checkpoint
    shapes, _, _ = symbol.infer_shape_partial(**{INPUT: (1, 3, SIDE, SIDE)})
    for name, shape in zip(symbol.list_arguments(), shapes):
        if name not in args and not (shape and all(side > 0 for side in shape)):
            raise AgedgeError(f"{symbol_file}: nobody knows the shape of its input {name}")


def check_outputs(checkpoint: Checkpoint, symbol_file: Path) -> None:
    """Raises `AgedgeError` where the outputs, by position, are not the nine maps of the family."""
    _, shapes, _ = checkpoint.symbol.infer_shape_partial(**{INPUT: (1, 3, SIDE, SIDE)})
    wanted = [(channels, SIDE / stride) for stride in STRIDES for channels in CHANNELS]
    if len(shapes) != len(wanted):
        raise AgedgeError(f"{symbol_file}: {len(shapes)} outputs; an ESSH detector has nine, three for each stride")
    for name, shape, (channels, side) in zip(checkpoint.symbol.list_outputs(), shapes, wanted):
        # A map may be rounded down or up, or lack a border.
        if len(shape) != 4 or shape[1] != channels or max(abs(each - side) for each in shape[2:]) > 2:
            expected = f"(1, {channels}, {side:.0f}, {side:.0f})"
            raise AgedgeError(f"{symbol_file}: output {name} is {shape} where {expected} is wanted")
