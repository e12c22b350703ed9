"""Checkpoints: one file with the parameters, the trainer's state and where the run stands; whole, or not there.

A run's folder has `last.ckpt`, before it `last-1.ckpt` and so on, as many as `run.keep`, and `best.ckpt`.
"""

import contextlib
import errno
import io
import json
import logging
import os
import re
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Callable, Dict, Optional

from agedge.errors import AgedgeError
from agedge.training.weights import load_weights

log = logging.getLogger(__name__)

PARAMS, TRAINER, STATE = "network.params", "trainer.states", "state.json"
VERSION = 2  # 1 had no number, and was saved between epochs only: it is read as it is
IN_MEMORY = Path("/dev/shm")  # where MXNet, which writes to files alone, is to write: the disk may be full


def pack_checkpoint(network, trainer, state: dict, more: Optional[Dict[str, dict]] = None) -> bytes:
    """A checkpoint's content. `more`: {name of a part: {name: NDArray}}, whatever else a run goes on from."""
    import mxnet as mx

    parts = {PARAMS: to_bytes(network.save_parameters), TRAINER: to_bytes(trainer.save_states)}
    for name, arrays in (more or {}).items():
        parts[name] = to_bytes(lambda path, arrays=arrays: mx.nd.save(path, arrays))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)
        file.writestr(STATE, json.dumps({**state, "version": VERSION}))
    return content.getvalue()


def to_bytes(save: Callable[[str], None]) -> bytes:
    """What `save(path)` writes."""
    from mxnet.base import MXNetError

    for place in ([IN_MEMORY] if IN_MEMORY.is_dir() else []) + [None]:  # which may be small in a container
        try:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                path = Path(folder) / "part"
                save(str(path))
                return path.read_bytes()
        except (OSError, MXNetError) as error:
            reason = error
    raise OSError(
        errno.ENOSPC, f"no room to put it together ({' '.join(str(reason).split())[:80]})", tempfile.gettempdir()
    )


def write_whole(path: Path, content: bytes, before: Callable[[], None] = lambda: None) -> None:
    """Write a file to a temporary name, onto the disk, do `before()`, and rename it: a kill leaves the former one."""
    partial = path.with_suffix(".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        before()
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def rotate(folder: Path, keep: int) -> None:
    """Let `last.ckpt` have the name `last-1.ckpt` too, and so on back, so that `keep` files are left when `last.ckpt`
    is replaced. At no moment is there none of that name."""
    names = [folder / "last.ckpt", *(folder / f"last-{number}.ckpt" for number in range(1, keep))]
    for older, newer in zip(names[:0:-1], names[-2::-1]):
        if newer.is_file():
            link = older.with_suffix(".partial")
            link.unlink(missing_ok=True)
            try:
                os.link(newer, link)
            except OSError:  # a file system without links
                link.write_bytes(newer.read_bytes())
            os.replace(link, older)
    for path in folder.glob("last-*.ckpt"):
        number = re.fullmatch(r"last-(\d+)", path.stem)
        if number and int(number[1]) >= keep:
            path.unlink(missing_ok=True)


def list_last(folder: Path) -> list:
    """The files of a run's last checkpoints, newest first; [] where no run was begun."""
    numbers = {int(found[1]): path for path in folder.glob("last-*.ckpt") if (found := _LAST.fullmatch(path.name))}
    newest = folder / "last.ckpt"
    return [newest] * newest.is_file() + [numbers[number] for number in sorted(numbers)]


_LAST = re.compile(r"last-(\d+)\.ckpt")


def find_last(folder: Path) -> Path:
    """The newest intact checkpoint of a run, then called `last.ckpt`. A broken one is told, and put aside as
    NAME.broken. Raises `AgedgeError` where there is none."""
    errors = []
    for path in list_last(folder):
        try:
            read_state(path)
            newest = folder / "last.ckpt"
            if path != newest:
                os.replace(path, newest)
            return newest
        except AgedgeError as error:
            if isinstance(error, NewerVersionError):
                raise
            errors.append(error)
            log.warning("%s; the one before is taken", error)
            os.replace(path, path.with_suffix(".broken"))
    raise errors[0] if errors else AgedgeError(f"{folder / 'last.ckpt'}: missing: there is no run to resume")


def load_checkpoint(path, network, trainer=None, ctx=None) -> dict:
    """Put a checkpoint's values into the network (and the trainer), and return its state.

    Raises `AgedgeError` where the file is missing, damaged, or of another network.
    """
    path = Path(path)
    state = read_state(path)
    with extract_part(path, PARAMS) as params:
        load_weights(network, params, ctx, shown_as=path)
    if trainer is not None:
        with extract_part(path, TRAINER) as states:
            trainer.load_states(str(states))
    return state


def load_part(path, name: str) -> Optional[dict]:
    """{name: NDArray} of one of the `more` parts of a checkpoint; None where it has no such part."""
    import mxnet as mx

    with zipfile.ZipFile(path) as file:
        if name not in file.namelist():
            return None
    with extract_part(path, name) as part:
        return mx.nd.load(str(part))


@contextlib.contextmanager
def extract_part(path, name: str):
    """A part of a checkpoint as a file, while it is needed."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as file:
        yield Path(file.extract(name, folder))


def extract_params(path):
    """The parameter file of a checkpoint, while it is needed."""
    return extract_part(path, PARAMS)


# What Python says of a zip file with flipped bits.
DAMAGES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError, TypeError, RuntimeError)


class NewerVersionError(AgedgeError):
    """A checkpoint that a later release wrote."""


def read_state(path) -> dict:
    """Where a checkpoint's run stood. Raises `AgedgeError`."""
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise AgedgeError(f"{path}: damaged in {damaged}")
            state = json.loads(file.read(STATE))
            for name in (PARAMS, TRAINER):
                file.getinfo(name)
            state = {"version": 1, **state, "epoch": int(state["epoch"]), "step": int(state["step"])}
    except FileNotFoundError:
        raise AgedgeError(f"{path}: no such checkpoint") from None
    except DAMAGES as error:
        raise AgedgeError(f"{path}: not a checkpoint of a run: {error}") from None
    if state["version"] > VERSION:
        raise NewerVersionError(f"{path}: of version {state['version']}, of a later release; this one reads {VERSION}")
    return state
