"""Checkpoints: one file with the parameters, the trainer's state and where the run stands; whole, or not there."""

import json
import os
import tempfile
import zipfile
from pathlib import Path

from agedge.errors import AgedgeError

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
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as file:
        file.extract(PARAMS, folder)
        load_weights(network, Path(folder) / PARAMS, ctx, shown_as=path)
        if trainer is not None:
            file.extract(TRAINER, folder)
            trainer.load_states(f"{folder}/{TRAINER}")
    return state


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


def load_pretrained(network, source: str, ctx) -> Path:
    """Start from other weights: "PREFIX,EPOCH", a run (its best checkpoint) or a model folder. Returns the file."""
    prefix, comma, epoch = source.rpartition(",")
    if comma and epoch.strip().isdigit():
        file = Path(f"{prefix}-{int(epoch):04d}.params")
    elif (Path(source) / "best.ckpt").is_file():
        load_checkpoint(Path(source) / "best.ckpt", network, ctx=ctx)
        return Path(source) / "best.ckpt"
    else:
        from agedge.runtime.card import load_card

        file = load_card(source).path("mxnet", "params")
    load_weights(network, file, ctx)
    return file


def load_weights(network, file: Path, ctx, shown_as=None) -> None:
    """Parameters from a file of Gluon's (structural names) or of a Module (`arg:`, `aux:` and parameter names).

    Raises `AgedgeError` that lists, on at most ten names, what differs where it is of another network.
    """
    import mxnet as mx

    shown_as = shown_as or file
    if not file.is_file():
        raise AgedgeError(f"{shown_as}: missing")
    try:
        values = mx.nd.load(str(file))
    except mx.MXNetError:
        raise AgedgeError(f"{shown_as}: not a parameter file, or truncated") from None
    if not isinstance(values, dict):
        raise AgedgeError(f"{shown_as}: a list of arrays without names")
    values = {name.split(":", 1)[-1]: value for name, value in values.items()}
    by_structure = network._collect_params_with_prefix()
    parameters = by_structure if set(values) & set(by_structure) else dict(network.collect_params().items())
    # Constants are part of the architecture; not every form of a network writes them.
    wanted = {name: p for name, p in parameters.items() if not isinstance(p, mx.gluon.Constant)}
    differ = [f"{name} is not in it" for name in wanted if name not in values]
    differ += [f"{name} is not in the network" for name in values if name not in parameters]
    differ += [
        f"{name} is {values[name].shape}, not {p.shape}"
        for name, p in wanted.items()
        if name in values and not fits(p.shape, values[name].shape)
    ]
    if differ:
        more = f"; and {len(differ) - 10} more" if len(differ) > 10 else ""
        raise AgedgeError(f"{shown_as}: of another network: " + "; ".join(differ[:10]) + more)
    for name, parameter in wanted.items():
        parameter._load_init(values[name], ctx)


def fits(shape: tuple, given: tuple) -> bool:
    """Whether an array has a parameter's shape, in which 0 is not known yet."""
    return shape is None or len(shape) == len(given) and all(a in (0, b) for a, b in zip(shape, given))
