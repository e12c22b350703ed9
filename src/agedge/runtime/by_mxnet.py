"""Run a model from MXNet's own files, on a CPU or a GPU, at a few fixed batch sizes.

A batch is cut into pieces of these sizes and the last one is padded, so that few executors are bound. Bound executors
use the oneDNN fusions automatically: 0.68 ms per face (MobileNet 0.25 at 112 pixels, one core); a hybridized
SymbolBlock with that backend takes 0.75 ms. On that CPU, pieces of 64 take 1.0 ms per face and 210 MB of memory;
pieces of 8 take 0.66 ms and 14 MB.
"""

import logging
import os
import re
import sys
from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.runtime.batch_runner import RunBatch
from agedge.runtime.card import Card, fixed_inputs
from agedge.runtime.model_files import Checkpoint, find_misfit, output_name, read_checkpoint
from agedge.runtime.mxnet_executors import MXNET_LOCK, ExecutorPool

LADDERS = {"cpu": (8, 1), "gpu": (64, 8, 1)}
log = logging.getLogger(__name__)


def open_network(card: Card, runtime: str, threads: Optional[int], device: str) -> RunBatch:
    """Return the function that runs the network of `card`. Threads may share it, and so may a forked process.

    Raises `AgedgeError` if the files are not those of a network, or the GPU does not exist.
    """
    with MXNET_LOCK:
        context = find_context(device)
        pool = open_pool(card, context)
    names, size, ladder = list(card.outputs), card.input["size"], LADDERS[context.device_type]

    def run(batch: np.ndarray) -> Dict[str, np.ndarray]:
        if batch.shape[1:] != (3, size, size):
            sides = "x".join(map(str, batch.shape[1:]))
            raise AgedgeError(f"{pool.name}: MXNet cannot run it: an image is {sides}; must be 3x{size}x{size}")
        pieces = []
        for start, count, step in cut_batch(len(batch), ladder):
            shape = (step, 3, size, size)
            # Other threads take their turn between pieces.
            with MXNET_LOCK:
                memory = pool.reserve(shape)
                memory[:count] = batch[start : start + count]
                memory[count:] = batch[start + count - 1]
                pieces.append([output.reshape(step, -1)[:count] for output in pool.run(shape)])
        return {name: np.concatenate(parts) for name, parts in zip(names, zip(*pieces))}

    return run


def open_pool(card: Card, context: Any) -> ExecutorPool:
    """Return the executors of a card's network, its arrays on the device of `context`."""
    import mxnet as mx

    symbol_file, params_file = card.path("mxnet", "symbol"), card.path("mxnet", "params")
    constants = fixed_inputs(card)
    symbol: Any
    symbol, args, aux = read_checkpoint(symbol_file, params_file, inputs=constants)
    names = [output_name(name) for name in symbol.list_outputs()]
    if names != list(card.outputs):
        raise AgedgeError(f"{symbol_file}: outputs {', '.join(names)}; card.json says {', '.join(card.outputs)}")
    args.update({name: mx.nd.array(value) for name, value in constants.items()})
    args = {name: args[name].as_in_context(context) for name in symbol.list_arguments() if name in args}
    aux = {name: aux[name].as_in_context(context) for name in symbol.list_auxiliary_states()}
    checkpoint = Checkpoint(symbol, args, aux)
    misfit = find_misfit(checkpoint, card.input["size"])
    if misfit:
        raise AgedgeError(f"{params_file}: not the weights of {symbol_file.name}: {misfit}")
    return ExecutorPool(checkpoint, symbol_file, context)


def cut_batch(total: int, ladder: Tuple[int, ...]) -> Iterator[Tuple[int, int, int]]:
    """Yield pieces (start, count, step) of `total` faces, each to be padded from `count` to `step`, a ladder's step.

    Large steps first; a rest of at least two faces takes the smallest step that is larger than one.
    """
    start = 0
    while start < total:
        left = total - start
        step = next((step for step in ladder if step <= left), 1)
        if step == 1 and left > 1:
            step = min(step for step in ladder if step > 1)
        count = min(step, left)
        yield start, count, step
        start += count


def set_threads(threads: Optional[int]) -> None:
    """Set the number of MXNet's CPU threads, which it reads once, when it is imported."""
    if threads is None or os.environ.get("OMP_NUM_THREADS") == str(threads):
        return
    if "mxnet" in sys.modules:
        log.warning("mxnet is already loaded: set OMP_NUM_THREADS=%d before the program starts instead", threads)
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)


def find_context(device: str) -> Any:
    """Return MXNet's context for "cpu", "gpu" or "gpu:1".

    Raises `UsageError` on another device, `AgedgeError` if the machine does not have that GPU.
    """
    import mxnet as mx

    found = re.fullmatch(r"(cpu)|gpu(?::?(\d+))?", device)
    if not found:
        raise UsageError(f"device: unknown '{device}'; choose one of cpu, gpu, gpu:1")
    if found[1]:
        return mx.cpu()
    number = int(found[2] or 0)
    count = mx.context.num_gpus()
    if number >= count:
        raise AgedgeError(f"device {device}: MXNet sees {count} GPUs here")
    return mx.gpu(number)
