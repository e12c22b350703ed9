"""Ask a model in a process of its own: a native library that crashes on a file must not take the job along.

As a program: `apart.py FOLDER RUNTIME FACES.npy OUTPUTS.npz`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict

import numpy as np

from agedge.errors import AgedgeError
from agedge.runtime.card import load_card
from agedge.runtime.model import open_model


def ask_apart(folder, runtime: str, images: np.ndarray) -> Dict[str, np.ndarray]:
    """`Model.raw_outputs` of the model in `folder`. Raises `AgedgeError` with what went wrong over there."""
    with tempfile.TemporaryDirectory() as scratch:
        faces, outputs = Path(scratch, "faces.npy"), Path(scratch, "outputs.npz")
        np.save(faces, images)
        command = [sys.executable, __file__, str(folder), runtime, str(faces), str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode < 0:
            raise AgedgeError(f"{folder}: {runtime} crashed on its files (signal {-done.returncode})")
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"{folder}: {runtime} failed, status {done.returncode}"]
            raise AgedgeError(lines[-1].replace("error: ", "", 1))
        with np.load(outputs) as found:
            return dict(found)


def answer(folder: str, runtime: str, faces: str, outputs: str) -> None:
    """The other side of `ask_apart`."""
    model = open_model(load_card(folder), runtime, threads=1)
    np.savez(outputs, **model.raw_outputs(np.load(faces)))


if __name__ == "__main__":
    try:
        answer(*sys.argv[1:])
    except AgedgeError as error:
        sys.exit(f"error: {error}")
