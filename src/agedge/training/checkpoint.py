"""Checkpoints: one file with the parameters, the trainer's state and where the run stands; whole, or not there."""

import contextlib
import json
import os
import tempfile
import zipfile
from pathlib import Path

from agedge.errors import AgedgeError
from agedge.training.weights import load_weights

PARAMS, TRAINER, STATE = "network.params", "trainer.states", "state.json"


def save_checkpoint(path, network, trainer, state: dict) -> None:
    """Write `path`: to a temporary name first, then renamed, so that a kill leaves the former one."""
    path = Path(path)
    partial = path.with_suffix(".partial")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, zipfile.ZipFile(partial, "w") as file:
        network.save_parameters(f"{folder}/{PARAMS}")
        trainer.save_states(f"{folder}/{TRAINER}")
        for name in (PARAMS, TRAINER):
            file.write(f"{folder}/{name}", name)
        file.writestr(STATE, json.dumps(state))
    os.replace(partial, path)


def load_checkpoint(path, network, trainer=None, ctx=None) -> dict:
    """Put a checkpoint's values into the network (and the trainer), and return its state.

    Raises `AgedgeError` where the file is missing, damaged, or of another network.
    """
    path = Path(path)
    state = read_state(path)
    with extract_params(path) as params:
        load_weights(network, params, ctx, shown_as=path)
    if trainer is not None:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as file:
            trainer.load_states(file.extract(TRAINER, folder))
    return state


@contextlib.contextmanager
def extract_params(path):
    """The parameter file of a checkpoint, while it is needed."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as file:
        yield Path(file.extract(PARAMS, folder))


def read_state(path) -> dict:
    """Where a checkpoint's run stood. Raises `AgedgeError`."""
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise AgedgeError(f"{path}: damaged in {damaged}")
            state = json.loads(file.read(STATE))
            for name in (PARAMS, TRAINER):
                file.getinfo(name)
            return {**state, "epoch": int(state["epoch"]), "step": int(state["step"])}
    except FileNotFoundError:
        raise AgedgeError(f"{path}: no such checkpoint") from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise AgedgeError(f"{path}: not a checkpoint of a run: {error}") from None
