"""Load a model and predict age and gender, with the same predictions in every runtime."""

from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError, UsageError, choices
from agedge.runtime.batch_runner import RunBatch
from agedge.runtime.by_mxnet import set_threads
from agedge.runtime.card import Card
from agedge.runtime.model_files import find_model
from agedge.runtime.mxnet_executors import MXNET_LOCK
from agedge.runtime.outputs import Prediction, decode, require_known
from agedge.shipped import find_shipped

# Each module has open_network(card, runtime, threads, device) -> RunBatch.
RUNTIMES = {
    "mxnet": "agedge.runtime.by_mxnet",
    "onnx": "agedge.runtime.by_onnx",
    "ncnn": "agedge.runtime.by_ncnn",
    "ncnn-fp16": "agedge.runtime.by_ncnn",
}
BATCH = 64  # faces converted to float32 at once: 9.6 MB at 112 pixels


class Model:
    """A loaded network and its card. Threads may share it.

    It can be pickled: the other process opens the files again at its first prediction. `arguments`: those of
    `open_run` after the card; without them the network itself is pickled.
    """

    def __init__(self, card: Card, run: Optional[RunBatch], arguments: Tuple[Any, ...] = ()):
        self.card = card
        self._run, self._arguments = run, arguments

    def __getstate__(self) -> dict:
        if not self._arguments:
            return self.__dict__
        # The other process may have another working directory.
        card = copy(self.card)
        card.folder = card.folder and card.folder.absolute()
        return {**self.__dict__, "card": card, "_run": None}

    def predict(self, images: np.ndarray) -> Prediction:
        """Return age and P(male) of n faces; `images` (n, size, size, 3) BGR uint8, cropped to `card.crop`.

        Raises `ValueError` if the array has another shape or type, `AgedgeError` if an output is not a number,
        or if another process cannot open the files again.
        """
        raw = self.raw_outputs(images)
        if not all(np.isfinite(value).all() for value in raw.values()):
            raise AgedgeError(f"{self.card.folder}: model {self.card.name} outputs NaN: damaged or untrained weights")
        try:
            return decode(raw, self.card.outputs)
        except AgedgeError as error:
            raise AgedgeError(f"{self.card.folder}: model {self.card.name}: {error}") from None

    def raw_outputs(self, images: np.ndarray) -> Dict[str, np.ndarray]:
        """Return the network's outputs before they are decoded: {name of the output: (n, k) float32}."""
        size = self.card.input["size"]
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise ValueError(f"faces must be (n, {size}, {size}, 3) uint8; they are {images.shape} {images.dtype}")
        run = self._run = self._run or open_run(self.card, *self._arguments)
        batches = [run(to_network_input(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
        if not batches:
            return {name: np.zeros((0, 1), np.float32) for name in self.card.outputs}
        joined = {name: np.concatenate([batch[name] for batch in batches]) for name in self.card.outputs}
        return {name: value.reshape(len(images), -1) for name, value in joined.items()}


def to_network_input(images: np.ndarray) -> np.ndarray:
    """Return images (n, h, w, 3) BGR uint8 as the input of every network here: (n, 3, h, w) RGB float32, 0..255."""
    return np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2), dtype=np.float32)


def load_model(
    model: Union[str, Path],
    runtime: str = "mxnet",
    threads: Optional[int] = None,
    device: str = "cpu",
    form: str = "",
    trust: bool = False,
) -> Model:
    """Open a model folder, a run (`runs/NAME`) or a bare MXNet checkpoint ("PREFIX,EPOCH").

    `threads`: CPU threads, None for the library's own choice. `device`: "cpu"; for mxnet also "gpu" or "gpu:1". `form`:
    the form of the single output of a bare checkpoint, if it is not recognised: one of `outputs.FORMS`. `trust`: run
    ONNX and ncnn files without a checksum in the card.
    Raises `UsageError` on an unknown runtime or device, `AgedgeError` if a file is missing, damaged or unknown.
    """
    if runtime not in RUNTIMES:
        raise choices("runtime", runtime, RUNTIMES)
    if runtime == "mxnet":
        set_threads(threads)
    with MXNET_LOCK:  # MXNet reads a bare checkpoint to generate its card
        card = find_model(find_shipped(model), form)
    card.trusted = trust
    require_known(card.outputs, model)
    return open_model(card, runtime, threads, device)


def open_model(card: Card, runtime: str, threads: Optional[int] = None, device: str = "cpu") -> Model:
    """Open the model of a card that was read before. If its outputs are unknown, only `raw_outputs` works."""
    if device != "cpu" and runtime != "mxnet":
        raise UsageError(f"device {device}: runtime {runtime} runs on the cpu only")
    return Model(card, open_run(card, runtime, threads, device), (runtime, threads, device))


def open_run(card: Card, runtime: str, threads: Optional[int] = None, device: str = "cpu") -> RunBatch:
    """Open the network of a card and return the function that runs it.

    Raises `AgedgeError` if a file is missing or damaged.
    """
    if runtime == "mxnet":
        set_threads(threads)
    return import_module(RUNTIMES[runtime]).open_network(card, runtime, threads, device)
