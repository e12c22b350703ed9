"""Checkpoints: one file with the parameters, the trainer's state and the run's progress, written whole or not at all.

A run's folder has `last.ckpt`, the older `last-1.ckpt` and so on, `run.keep` files in all, and `best.ckpt`. Each is
a zip file of MXNet's arrays and of numbers in JSON: reading it runs no code, whoever wrote it.
"""

import contextlib
import errno
import io
import json
import logging
import math
import os
import re
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator, List, NoReturn, Optional, Union

from agedge import safe_write
from agedge.errors import AgedgeError
from agedge.run_folder import LAST, last_name, list_last
from agedge.training.run.pickled_state import read_pickled_state
from agedge.training.run.trainer_state import collect_state, is_count, restore_state
from agedge.training.weights.load_weights import load_arrays, load_weights

log = logging.getLogger(__name__)

PARAMS, TRAINER, STATE = "network.params", "trainer.params", "state.json"
PICKLED_TRAINER = "trainer.states"  # in versions 1 and 2
NUMBERS = "trainer"  # key in STATE of the trainer's counters
# Version 1 has no number and is saved between epochs only; 1 and 2 hold the trainer's state as a pickle. Both are read.
VERSION = 3
LARGEST_STATE = 4_000_000  # bytes of STATE; a real one has a few thousand
IN_MEMORY = Path("/dev/shm")  # MXNet writes arrays to files only; in memory, since the disk may be full


def pack_checkpoint(network: Any, trainer: Any, state: dict, more: Optional[Dict[str, dict]] = None) -> bytes:
    """Return a checkpoint's content. `more`: {member's name: {name: NDArray}}, other arrays that resuming needs."""
    import mxnet as mx

    numbers, arrays = collect_state(trainer)
    parts = {PARAMS: to_bytes(network.save_parameters)}
    for name, values in {TRAINER: arrays, **(more or {})}.items():
        if values:  # MXNet cannot read a file without arrays, and SGD without momentum has none
            parts[name] = to_bytes(lambda path, values=values: mx.nd.save(path, values))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)
        file.writestr(STATE, json.dumps({**state, NUMBERS: numbers, "version": VERSION}))
    return content.getvalue()


def to_bytes(save: Callable[[str], None]) -> bytes:
    """Return the bytes that `save(path)` writes to a file."""
    from mxnet.base import MXNetError

    reason: object = None
    for place in ([IN_MEMORY] if IN_MEMORY.is_dir() else []) + [None]:  # shared memory may be small in a container
        try:
            with safe_write.temporary_folder(place) as folder:
                path = folder / "part"
                save(str(path))
                return path.read_bytes()
        except (OSError, MXNetError) as error:
            reason = error
    raise OSError(
        errno.ENOSPC, f"no room to put it together ({' '.join(str(reason).split())[:80]})", tempfile.gettempdir()
    )


def rotate(folder: Path, keep: int) -> None:
    """Rotate checkpoints: last -> last-1 -> last-2 .., so that `keep` files remain once `last.ckpt` is replaced.

    `last.ckpt` exists at every moment: it is linked, not moved.
    """
    names = [folder / last_name(number) for number in range(max(keep, 1))]
    for older, newer in zip(names[:0:-1], names[-2::-1]):
        if newer.is_file():
            link = safe_write.temporary_name(older)
            try:
                os.link(newer, link)
            except OSError:  # a file system without links
                safe_write.write_bytes(older, newer.read_bytes())
            else:
                os.replace(link, older)
    for path in folder.glob("last-*.ckpt"):
        number = re.fullmatch(r"last-(\d+)", path.stem)
        if number and int(number[1]) >= keep:
            path.unlink(missing_ok=True)


def find_last(folder: Path) -> Path:
    """Return the newest intact checkpoint of a run, which is then called `last.ckpt`.

    A damaged one is named in a warning and renamed to NAME.broken. Raises `AgedgeError` if none is intact.
    """
    errors: List[AgedgeError] = []
    newest = folder / LAST
    for path in list_last(folder):
        try:
            read_state(path)
        except AgedgeError as error:
            if isinstance(error, NewerVersionError):
                raise
            errors.append(error)
            log.warning("%s; the one before is taken", error)
            os.replace(path, path.with_suffix(".broken"))
        else:
            if path != newest:
                os.replace(path, newest)
            return newest
    raise errors[0] if errors else AgedgeError(f"{newest}: missing: there is no run to resume")


def load_checkpoint(path: Union[str, Path], network: Any, trainer: Any = None, ctx: Any = None) -> dict:
    """Load a checkpoint into the network (and the trainer), and return its state.json.

    Raises `AgedgeError` if the file is missing or damaged, or holds another network.
    """
    path = Path(path)
    state = read_state(path)
    numbers = state.pop(NUMBERS, None)
    with extract_part(path, PARAMS) as params:
        load_weights(network, params, ctx, shown_as=path)
    if trainer is not None:
        if state["version"] < 3:
            try:
                with zipfile.ZipFile(path) as file:
                    numbers, arrays = read_pickled_state(file.read(PICKLED_TRAINER))
            except DAMAGES as error:
                raise AgedgeError(f"{path}: not a checkpoint of a run: {PICKLED_TRAINER}: {error}") from None
        else:
            arrays = load_part(path, TRAINER) or {}
        restore_state(trainer, numbers, arrays, path)
    return state


def load_part(path: Union[str, Path], name: str) -> Optional[dict]:
    """Return {name: NDArray} of member `name` of a checkpoint; None if it has no such member."""
    with zipfile.ZipFile(path) as file:
        if name not in file.namelist():
            return None
    with extract_part(path, name) as part:
        arrays = load_arrays(part, f"{path}: {name}")
    if not isinstance(arrays, dict):
        raise AgedgeError(f"{path}: {name}: its arrays must have names")
    return arrays


@contextlib.contextmanager
def extract_part(path: Union[str, Path], name: str) -> Iterator[Path]:
    """Extract a member of a checkpoint to a temporary file, and delete it afterwards."""
    with safe_write.temporary_folder() as folder, zipfile.ZipFile(path) as file:
        yield Path(file.extract(name, folder))


def extract_params(path: Union[str, Path]) -> ContextManager[Path]:
    """Extract a checkpoint's network parameters to a temporary file, and delete it afterwards."""
    return extract_part(path, PARAMS)


# Errors that Python raises on a zip file with flipped bits, and on JSON that is nested too deeply.
DAMAGES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError, TypeError, RuntimeError)


class NewerVersionError(AgedgeError):
    """The checkpoint was written by a later release."""


def read_state(path: Union[str, Path]) -> dict:
    """Return a checkpoint's state.json. Raises `AgedgeError` if the file is not an intact checkpoint."""
    try:
        size = os.stat(path).st_size
        with zipfile.ZipFile(path) as file:
            check_members(file, size)
            if damaged := file.testzip():
                raise AgedgeError(f"{path}: damaged in {damaged}")
            state = json.loads(file.read(STATE), parse_constant=refuse_constant)
            if type(state) is not dict:
                raise ValueError(f"{STATE} is not a mapping")
            state = {"version": 1, **state}
            if not is_count(state["version"]):
                raise ValueError(f"{STATE}: version must be a whole number")
            if state["version"] > VERSION:
                raise NewerVersionError(
                    f"{path}: of version {state['version']}, of a later release; this one reads {VERSION}"
                )
            file.getinfo(PARAMS)
            check_state(state)
    except FileNotFoundError:
        raise AgedgeError(f"{path}: no such checkpoint") from None
    except IsADirectoryError:
        raise AgedgeError(f"{path}: is a folder, not a checkpoint") from None
    except DAMAGES as error:
        raise AgedgeError(f"{path}: not a checkpoint of a run: {error}") from None
    return state


def check_members(file: zipfile.ZipFile, size: int) -> None:
    """Raise `ValueError` if a zip file is not one that `pack_checkpoint` wrote: its members are stored as they are,
    each once, so that they cannot be larger than the file."""
    members = file.infolist()
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("it has a part twice")
    if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
        raise ValueError("its parts must be stored without compression")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its parts are larger than the file")
    if file.getinfo(STATE).file_size > LARGEST_STATE:
        raise ValueError(f"{STATE} is larger than {LARGEST_STATE:,} bytes")


def check_state(state: dict) -> None:
    """Raise `ValueError` if a value of STATE has the wrong type."""
    for key in ("epoch", "step", "best_epoch"):
        if not is_count(state[key] if key != "best_epoch" else state.get(key, 0)):
            raise ValueError(f"{STATE}: {key} must be a whole number")
    for key in ("best", "first_loss", "seconds", "waited"):
        if state.get(key) is not None and not is_number(state[key]):
            raise ValueError(f"{STATE}: {key} must be a number")
    sums = state.get("sums")
    if sums is not None and not (isinstance(sums, list) and all(map(is_number, sums))):
        raise ValueError(f"{STATE}: sums must be numbers")
    for key in ("same", "optimizer", *([NUMBERS] if state["version"] >= 3 else [])):
        if not isinstance(state.get(key, None if key == NUMBERS else {}), dict):
            raise ValueError(f"{STATE}: {key} must be a mapping")


def is_number(value: Any) -> bool:
    """Return whether a value from JSON is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def refuse_constant(name: str) -> NoReturn:
    """Raise `ValueError` on NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{STATE}: {name} is not a number")
