"""Open an ESSH network in any runtime, and check that its outputs are those of the family."""

import os
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.essh.anchors import CHANNELS, STRIDES
from agedge.faces.essh.card import DetectorCard, find_checkpoint
from agedge.runtime.batch_runner import BatchRunner, BufferedRunner
from agedge.runtime.model import open_run
from agedge.runtime.model_files import INPUT, Checkpoint, find_misfit, read_checkpoint
from agedge.runtime.mxnet_executors import ExecutorPool

SIDE = 640  # pixels of the square for which shapes are checked
# An executor takes 72 bytes of memory per input pixel on an x86 CPU, or 21 to 28 if it shares the memory of a larger
# one. Besides the largest executor, further ones are kept up to this number of pixels in total: two of 640x448.
KEPT_PIXELS = 0.6e6


class ESSHNetwork:
    """An opened network, for one thread at a time. `mean` (3,) R, G, B: the caller subtracts it from the pixels."""

    def __init__(self, runner: BatchRunner, mean: np.ndarray):
        self.runner, self.mean = runner, mean

    def reserve(self, shape: Tuple[int, ...]) -> np.ndarray:
        """Return the input array of the next batch, `shape` (n, 3, h, w) float32, for RGB minus the mean."""
        return self.runner.reserve(shape)

    def run(self, shape: Tuple[int, ...]) -> List[np.ndarray]:
        """Return the nine maps for the batch that was written into `reserve(shape)` last."""
        return self.runner.run(shape)


def require_files(card: DetectorCard, runtime: str) -> None:
    """Raise `AgedgeError` if the files that `runtime` needs do not exist."""
    if runtime == "mxnet" and runtime in card.files:
        for file in find_checkpoint(card):
            if not file.is_file():
                raise AgedgeError(f"{file}: missing: --det 1 (in pack: --align essh) needs this file")
        return
    folder, names = card.folder, card.files.get(runtime, {}).values()
    assert folder is not None, "the card was read from a folder"
    if not names or not all((folder / name).is_file() for name in names):
        command = f"python -m deploy export --model {folder} --out {folder}"
        raise AgedgeError(f"{folder}: no {runtime} files of the detector; `{command}` creates them")


def open_network(card: DetectorCard, runtime: str) -> ESSHNetwork:
    """Open the network of a card. Raises `AgedgeError` if a file is missing, damaged or not an ESSH network."""
    if runtime == "mxnet":
        return ESSHNetwork(open_pool(card), card.mean)
    return ESSHNetwork(BufferedRunner(open_run(card, runtime), list(card.outputs)), card.mean)


def open_pool(card: DetectorCard) -> ExecutorPool:
    """Return the MXNet executors of a card's network, after all checks of its files."""
    # Without a limit, MXNet and oneDNN keep compiled code for every input shape.
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
    return ExecutorPool(checkpoint, symbol_file, kept_pixels=KEPT_PIXELS)


def check_weights(checkpoint: Checkpoint, params_file: Path) -> None:
    """Raise `AgedgeError` if a weight is NaN or infinite."""
    for name, value in {**checkpoint.args, **checkpoint.aux}.items():
        if not np.isfinite(value.asnumpy()).all():
            raise AgedgeError(f"{params_file}: {name} is not finite: damaged, or the training diverged")


def check_inputs(checkpoint: Checkpoint, symbol_file: Path) -> None:
    """Raise `AgedgeError` if the shape of an input cannot be inferred from the image's."""
    symbol: Any = checkpoint.symbol
    shapes, _, _ = symbol.infer_shape_partial(**{INPUT: (1, 3, SIDE, SIDE)})
    for name, shape in zip(symbol.list_arguments(), shapes):
        if name not in checkpoint.args and not (shape and all(side > 0 for side in shape)):
            raise AgedgeError(f"{symbol_file}: the shape of its input {name} is unknown")


def check_outputs(checkpoint: Checkpoint, symbol_file: Path) -> None:
    """Raise `AgedgeError` if the outputs, by position, are not the nine maps of the family."""
    symbol: Any = checkpoint.symbol
    _, shapes, _ = symbol.infer_shape_partial(**{INPUT: (1, 3, SIDE, SIDE)})
    expected = [(channels, SIDE / stride) for stride in STRIDES for channels in CHANNELS]
    if len(shapes) != len(expected):
        raise AgedgeError(f"{symbol_file}: {len(shapes)} outputs; an ESSH detector has nine, three for each stride")
    for name, shape, (channels, side) in zip(symbol.list_outputs(), shapes, expected):
        # A map may be rounded down or up, or lack a border.
        if len(shape) != 4 or shape[1] != channels or max(abs(each - side) for each in shape[2:]) > 2:
            one = f"(1, {channels}, {side:.0f}, {side:.0f})"
            raise AgedgeError(f"{symbol_file}: output {name} is {shape}; must be {one}")
