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
from agedge.faces.anchors import CHANNELS, STRIDES
from agedge.runtime.checkpoint import INPUT, Checkpoint, find_misfit

WEIGHTS = ("_weight", "_bias", "_gamma", "_beta")  # how names of weights end: an argument named otherwise is an input
SIDE = 640  # pixels of the square for which shapes are checked
# A network bound to a shape takes 72 bytes of memory a pixel on an x86 CPU, and 20 more in the pool of a larger one.
# So, beside the largest, as many shapes are kept as have this number of pixels together: three of 640x448.
KEPT = 0.9e6


class Net:
    """A checkpoint's network, ready to run. Not for two threads at once.

    MXNet keeps an executor a shape, so callers send few shapes. The largest one so far owns the memory that the others
    work in; when a larger one comes, all others go.
    """

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self.largest, self.memory = None, None  # the largest shape so far; numbers for an input of that shape
        self.executors = OrderedDict()  # by shape, last used last

    def reserve(self, shape: tuple) -> np.ndarray:
        """Where to write the next batch, `shape` (n, 3, h, w) float32, RGB less the card's mean. MXNet reads it there:
        a large image is not copied again, and memory for it is needed once."""
        if self.largest is None or count_pixels(shape) > count_pixels(self.largest):
            self.executors.clear()
            self.largest, self.memory = shape, np.empty(math.prod(shape), np.float32)
        return self.memory[: math.prod(shape)].reshape(shape)

    def run(self, shape: tuple) -> List[np.ndarray]:
        """The nine maps for what was written to `reserve(shape)` last."""
        is_new = shape not in self.executors
        if is_new:
            self._make_room(shape)
            self.executors[shape] = self._bind(shape)
        self.executors.move_to_end(shape)
        maps = [output.asnumpy() for output in self.executors[shape].forward(is_train=False)]
        if is_new:
            return_memory()
        return maps

    def _make_room(self, shape: tuple) -> None:
        others = [other for other in self.executors if other != self.largest]
        while others and sum(map(count_pixels, others)) + count_pixels(shape) > KEPT:
            del self.executors[others.pop(0)]

    def _bind(self, shape: tuple):
        import mxnet as mx

        symbol, args, aux = self.checkpoint
        shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape_partial(**{INPUT: shape})[0]))
        # Labels and other inputs of training, where a graph still wants them: their values do not matter here.
        inputs = {name: mx.nd.zeros(its) for name, its in shapes.items() if name not in (INPUT, *args)}
        inputs[INPUT] = mx.nd.from_numpy(self.reserve(shape), zero_copy=True)
        shared = self.executors.get(self.largest)
        return symbol.bind(mx.cpu(), {**args, **inputs}, aux_states=aux, grad_req="null", shared_exec=shared)


def count_pixels(shape: tuple) -> int:
    """Of a batch (n, 3, h, w)."""
    return shape[0] * shape[2] * shape[3]


def return_memory() -> None:
    """Give what was freed back to the system. The GNU C library keeps it: 125 MB after six networks at 1280x896."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # in other C libraries there is no such function
        ctypes.CDLL(None).malloc_trim(0)


def open_net(symbol_file: Path, params_file: Path) -> Net:
    """Read a checkpoint. Raises `AgedgeError` where a file is missing or damaged, or is no detector's."""
    # Else MXNet writes a line on stderr for each executor, and it and oneDNN keep code for every shape ever seen.
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
    os.environ.setdefault("MXNET_MKLDNN_CACHE_NUM", "64")
    os.environ.setdefault("DNNL_PRIMITIVE_CACHE_CAPACITY", "64")
    symbol, params = load_files(symbol_file, params_file)
    checkpoint = assign_weights(symbol, params, symbol_file, params_file)
    misfit = find_misfit(checkpoint, SIDE)
    if misfit:
        raise AgedgeError(f"{params_file}: not the weights of {symbol_file.name}: {misfit}")
    check_outputs(checkpoint, symbol_file)
    return Net(checkpoint)


def load_files(symbol_file: Path, params_file: Path) -> tuple:
    """(symbol, {name: NDArray}), names without "arg:" and "aux:", which trainers mix up."""
    import mxnet as mx

    for file in (symbol_file, params_file):
        if not file.is_file():
            raise AgedgeError(f"{file}: no such file")
    try:
        symbol = mx.sym.load(str(symbol_file))
    except (mx.MXNetError, UnicodeDecodeError) as error:
        raise AgedgeError(f"{symbol_file}: not an MXNet symbol, or damaged") from error
    try:
        params = mx.nd.load(str(params_file))
    except (mx.MXNetError, UnicodeDecodeError) as error:
        raise AgedgeError(f"{params_file}: not an MXNet parameter file, or damaged") from error
    if not isinstance(params, dict):
        raise AgedgeError(f"{params_file}: weights without names")
    return symbol, {name[4:] if name[:4] in ("arg:", "aux:") else name: value for name, value in params.items()}


def assign_weights(symbol, params: dict, symbol_file: Path, params_file: Path) -> Checkpoint:
    """The weights that the symbol wants, float32. A statistic may be called moving_ or running_ in either file."""
    arguments, statistics = symbol.list_arguments(), symbol.list_auxiliary_states()
    if INPUT not in arguments:
        raise AgedgeError(f"{symbol_file}: it has no input '{INPUT}'")
    found = {}
    for name in arguments + statistics:
        for known_as in (name, name.replace("moving_", "running_"), name.replace("running_", "moving_")):
            if known_as in params and name != INPUT:
                found[name] = params[known_as].astype("float32")
    wanted = [name for name in arguments if name not in found and name.endswith(WEIGHTS)]
    wanted += [name for name in statistics if name not in found]
    if wanted:
        raise AgedgeError(f"{params_file}: {len(wanted)} weights of {symbol_file.name} are not in it, as {wanted[0]}")
    for name, value in found.items():
        if not np.isfinite(value.asnumpy()).all():
            raise AgedgeError(f"{params_file}: {name} is not finite: damaged, or a training that went astray")
    args = {name: found[name] for name in arguments if name in found}
    return Checkpoint(symbol, args, {name: found[name] for name in statistics})


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
