"""Ask a model in a process of its own: a native library that crashes on a file must not take the job along.

As a program: `apart.py FOLDER RUNTIME IMAGES.npz OUTPUTS.npz [--trust]`.
"""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.essh.card import DetectorCard, is_detector
from agedge.runtime.card import Card, load_card
from agedge.runtime.model import RUNTIMES, open_model, to_network_input
from agedge.safe_write import temporary_folder


def ask_apart(folder, runtime: str, images: np.ndarray, trust: bool = False) -> Dict[str, np.ndarray]:
    """Return `Model.raw_outputs` of the model in `folder`; `trust` as of `load_model`.

    Raises `AgedgeError` with what went wrong over there.
    """
    return ask_batches_apart(folder, runtime, [images], trust)[0]


def ask_batches_apart(
    folder, runtime: str, batches: Sequence[np.ndarray], trust: bool = False
) -> List[Dict[str, np.ndarray]]:
    """`ask_apart` for batches (n, h, w, 3), which for a detector may be of any sizes: its outputs are maps (n, c, h, w)."""
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
            answers: List[Dict[str, np.ndarray]] = [{} for _ in batches]
            for key, value in found.items():
                index, name = key.split("/", 1)
                answers[int(index)][name] = value
            return answers


def answer(folder: str, runtime: str, images: str, outputs: str, trust: str = "") -> None:
    """The other side of `ask_batches_apart`."""
    finds_faces = is_detector(folder)
    card = load_card(folder, DetectorCard if finds_faces else Card)
    card.trusted = bool(trust)
    if finds_faces:
        network = import_module(RUNTIMES[runtime]).open_network(card, runtime, 1, "cpu")

        def ask(batch):
            return network(to_network_input(batch))
    else:
        ask = open_model(card, runtime, threads=1).raw_outputs
    with np.load(images) as batches:
        answers = [ask(batch) for batch in batches.values()]
    np.savez(outputs, **{f"{index}/{name}": each[name] for index, each in enumerate(answers) for name in each})


if __name__ == "__main__":
    try:
        answer(*sys.argv[1:])
    except AgedgeError as error:
        sys.exit(f"error: {error}")
