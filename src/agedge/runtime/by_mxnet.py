"""Models in MXNet's own files, on a CPU or a GPU: one executor for each batch size of a short ladder.

MXNet plans memory for one input shape at a time, so a batch is cut into pieces of these sizes and the last one padded.
Bound executors take the oneDNN fusions by themselves: 0.68 ms a face (MobileNet 0.25 at 112, one core), where a
hybridized SymbolBlock with that backend took 0.75 ms. On that CPU pieces of 64 took 1.0 ms a face and 210 MB of memory,
pieces of 8 0.66 ms and 14 MB.
"""

import logging
import math
import os
import re
import sys
from typing import Dict, Iterator, Optional, Tuple

import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.runtime.card import Card, fixed_inputs
from agedge.runtime.model_files import (
    INPUT,
    Checkpoint,
    find_misfit,
    find_unsafe,
    output_name,
    read_checkpoint,
    shapes_of,
)
from agedge.runtime.mxnet_executors import MXNET_LOCK, note_use

LADDERS = {"cpu": (8, 1), "gpu": (64, 8, 1)}
log = logging.getLogger(__name__)


def open_network(card: Card, runtime: str, threads: Optional[int], device: str):
    """See `agedge.runtime.model.Run`. Threads may share what it returns, and so may a forked process.

    Raises `AgedgeError` where the files are not those of a network, or the GPU is absent.
    """
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # a line on stderr for each executor
    import mxnet as mx

    with MXNET_LOCK:
        context = find_context(device)
        symbol_file, params_file = card.path("mxnet", "symbol"), card.path("mxnet", "params")
        constants = fixed_inputs(card)
        symbol, args, aux = read_checkpoint(symbol_file, params_file, inputs=constants)
        names = [output_name(name) for name in symbol.list_outputs()]
        if names != list(card.outputs):
            raise AgedgeError(f"{symbol_file}: outputs {', '.join(names)}; card.json says {', '.join(card.outputs)}")
        args.update({name: mx.nd.array(value) for name, value in constants.items()})
        args = {name: args[name].as_in_context(context) for name in symbol.list_arguments() if name in args}
        aux = {name: aux[name].as_in_context(context) for name in symbol.list_auxiliary_states()}
        ladder = LADDERS[context.device_type]
        size = card.input["size"]
        misfit = find_misfit(Checkpoint(symbol, args, aux), size)
        if misfit:
            raise AgedgeError(f"{params_file}: not the weights of {symbol_file.name}: {misfit}")
    executors = {}

    def bind(count: int):
        data = mx.nd.zeros((count, 3, size, size), ctx=context)
        if unsafe := find_unsafe(symbol, most=math.inf, **shapes_of(args), **{INPUT: data.shape}):
            raise AgedgeError(f"{symbol_file}: {unsafe}, for {count} faces")
        shapes, _, _ = symbol.infer_shape_partial(**{INPUT: data.shape})
        # Labels of training, where a graph still wants them: their values do not matter here.
        labels = {
            name: mx.nd.zeros(shape, ctx=context)
            for name, shape in zip(symbol.list_arguments(), shapes)
            if name not in args and name != INPUT
        }
        return data, symbol.bind(context, {**args, **labels, INPUT: data}, aux_states=aux, grad_req="null")

    def forward(piece: np.ndarray, step: int) -> list:
        """Return the outputs, (step, k) each, of a piece (step, 3, size, size)."""
        try:
            if step not in executors:
                note_use()
                executors[step] = bind(step)
            data, executor = executors[step]
            data[:] = piece
            return [output.asnumpy().reshape(step, -1) for output in executor.forward(is_train=False)]
        except (mx.MXNetError, ValueError) as error:  # shapes that do not fit, or no memory
            raise AgedgeError(f"{symbol_file}: MXNet cannot run it: {find_reason(error)}") from error

    def run(batch: np.ndarray) -> Dict[str, np.ndarray]:
        pieces = []
        for start, count, step in climb(len(batch), ladder):
            piece = batch[start : start + count]
            if count < step:
                piece = np.concatenate([piece, np.repeat(piece[-1:], step - count, axis=0)])
            # Other threads take their turn between pieces.
            with MXNET_LOCK:
                pieces.append([output[:count] for output in forward(piece, step)])
        return {name: np.concatenate(parts) for name, parts in zip(names, zip(*pieces))}

    return run


def find_reason(error: Exception) -> str:
    """Return the line of an error of MXNet that says why: the last, without the C++ file that it comes from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^(MXNetError: |\[[\d:]+\] \S+: )+", "", lines[-1]) if lines else type(error).__name__


def climb(total: int, ladder: Tuple[int, ...]) -> Iterator[Tuple[int, int, int]]:
    """Pieces (start, count, step) of `total` faces, each padded from `count` to `step`, a step of the ladder.

    Large steps first; what is left of at least two faces shares the smallest step that is larger than one.
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
    """MXNet reads its number of threads once, when it is imported."""
    if threads is None or os.environ.get("OMP_NUM_THREADS") == str(threads):
        return
    if "mxnet" in sys.modules:
        log.warning("mxnet is already loaded: set OMP_NUM_THREADS=%d before the program starts instead", threads)
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)


def find_context(device: str):
    """MXNet's context for "cpu", "gpu" or "gpu:1". Raises `UsageError` on others, `AgedgeError` without that GPU."""
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
