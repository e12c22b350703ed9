"""Run a model in a process of its own, so that a native library that crashes on a file does not end the command.

As a program: `isolated.py FOLDER RUNTIME IMAGES.npz OUTPUTS.npz [--trust]`.
"""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.essh.card import DetectorCard, is_detector
from agedge.runtime.card import load_card
from agedge.runtime.model import RUNTIMES, open_model, to_network_input
from agedge.safe_write import temporary_folder

RawOutputs = Dict[str, np.ndarray]


def run_isolated(folder: Union[str, Path], runtime: str, images: np.ndarray, trust: bool = False) -> RawOutputs:
    """Return `Model.raw_outputs` of the model in `folder`; `trust` as for `load_model`.

    Raises `AgedgeError` with the error of the other process.
    """
    return run_batches_isolated(folder, runtime, [images], trust)[0]


def run_batches_isolated(
    folder: Union[str, Path], runtime: str, batches: Sequence[np.ndarray], trust: bool = False
) -> List[RawOutputs]:
    """Run a model or detector on batches (n, h, w, 3) as `run_isolated` does.

    For a detector the batches may be of any sizes; its outputs are maps (n, c, h, w).
    """
    with temporary_folder() as scratch:
        images, outputs = Path(scratch, "images.npz"), Path(scratch, "outputs.npz")
        np.savez(images, *batches)
        command = [sys.executable, __file__, str(folder), runtime, str(images), str(outputs), *["--trust"] * trust]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode < 0:
            raise AgedgeError(f"{folder}: {runtime} crashed on its files (signal {-done.returncode})")
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"{folder}: {runtime} failed, status {done.returncode}"]
            raise AgedgeError(lines[-1].replace("error: ", "", 1))
        with np.load(outputs) as found:
            results: List[RawOutputs] = [{} for _ in batches]
            for key, value in found.items():
                index, name = key.split("/", 1)
                results[int(index)][name] = value
            return results


def run_files(folder: str, runtime: str, images: str, outputs: str, trust: str = "") -> None:
    """Run the model on the batches of the file `images` and write its outputs: the other process."""
    run = (open_detector if is_detector(folder) else open_faces)(folder, runtime, bool(trust))
    with np.load(images) as batches:
        results = [run(batch) for batch in batches.values()]
    np.savez(outputs, **{f"{index}/{name}": each[name] for index, each in enumerate(results) for name in each})


def open_faces(folder: str, runtime: str, trust: bool) -> Callable[[np.ndarray], RawOutputs]:
    """Return the function from faces (n, size, size, 3) BGR uint8 to the raw outputs of a model."""
    card = load_card(folder)
    card.trusted = trust
    return open_model(card, runtime, threads=1).raw_outputs


def open_detector(folder: str, runtime: str, trust: bool) -> Callable[[np.ndarray], RawOutputs]:
    """Return the function from images (n, h, w, 3) BGR uint8 to the maps of a detector."""
    card = load_card(folder, DetectorCard)
    card.trusted = trust
    network = import_module(RUNTIMES[runtime]).open_network(card, runtime, 1, "cpu")
    return lambda images: network(to_network_input(images))


if __name__ == "__main__":
    try:
        run_files(*sys.argv[1:])
    except AgedgeError as error:
        sys.exit(f"error: {error}")
