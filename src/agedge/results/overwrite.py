"""Refuse results that would overwrite an input, the result of another option, or a file of another kind.

A command lists what its options write (`Result`) and what it reads, and calls `check_results` before it opens, loads or
writes anything. An existing file may be replaced if it is empty or if its content is a result of the same kind
(`agedge.results.kinds`). Devices, pipes and `-` (stdout) may always be written.
"""

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from agedge import safe_write
from agedge.cli import keep_stdout_for_results
from agedge.errors import AgedgeError, UsageError
from agedge.results.kinds import DROPPED, FOLDER, RECORD_FILES, Kind, read_model_card
from agedge.run_folder import MODEL

STDOUT = "-"
PathLike = Union[str, Path]
Identity = Tuple[Union[int, str], ...]


class Result(NamedTuple):
    """A file or folder that an option writes. `path`: None if the option is not given. `kind`: what will be written."""

    option: str
    path: Optional[Path]
    kind: Kind


def check_results(results: Iterable[Result], reads: Iterable[PathLike] = ()) -> None:
    """Raise an error if a result would overwrite something else.

    `reads`: the files that the command reads, existing or not. Raises `UsageError` that names the option and the path,
    `AgedgeError` if the file system refuses the path. If a result goes to stdout, messages go to stderr from now on.
    """
    read = {identify(path) for path in reads}
    written: Dict[Identity, str] = {}
    for option, path, kind in results:
        if path is None:
            continue
        what = f"{option} {path}"
        if kind is not FOLDER and is_stdout(path):
            if (STDOUT,) in written:
                raise UsageError(f"{what}: {written[(STDOUT,)]} writes to stdout too")
            written[(STDOUT,)] = option
            keep_stdout_for_results()
            continue
        try:
            if kind is not FOLDER and _is_device(path):
                continue
            identity = identify(path)
            if identity in read:
                raise UsageError(f"{what}: the same command reads this file; choose another name")
            if identity in written:
                raise UsageError(f"{what}: {written[identity]} writes this file too; choose another name")
            written[identity] = option
            _check_destination(path, kind, what)
        except OSError as error:
            raise AgedgeError(f"{what}: {error.strerror or error}") from None


def record_results(option: str, path: PathLike) -> List[Result]:
    """Return the four files of a record file NAME.rec as results."""
    return [Result(option, Path(path).with_suffix(suffix), kind) for suffix, kind in RECORD_FILES.items()]


def split_results(option: str, out: PathLike, splits: Iterable[str], suffix: str = "") -> List[Result]:
    """Return the files of a folder of splits as results: the four files of each SPLIT.rec, and dropped.csv."""
    results = [Result(option, Path(out), FOLDER), Result(option, Path(out) / f"dropped{suffix}.csv", DROPPED)]
    for split in splits:
        results += record_results(option, Path(out) / f"{split}{suffix}.rec")
    return results


def record_inputs(paths: Iterable[PathLike]) -> List[Path]:
    """Return the files that a command on record files reads: each .rec with its .idx, .json and .csv."""
    return [Path(path).with_suffix(suffix) for path in paths for suffix in RECORD_FILES] + [Path(p) for p in paths]


def model_inputs(model: PathLike) -> List[Path]:
    """Return the existing files of a model folder or run folder, or the files of a model "PREFIX,EPOCH"."""
    prefix, comma, epoch = str(model).rpartition(",")
    if comma and epoch.strip().isdigit() and not Path(model).is_dir():
        folder = Path(prefix).parent
        names = (f"{Path(prefix).name}-symbol.json", f"{Path(prefix).name}-{int(epoch):04d}.params", "card.json")
        return [folder / name for name in names]
    folders = (Path(model), Path(model) / MODEL)
    return [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()]


def check_model_folder(out: PathLike, stage: PathLike, names: Sequence[str], reads: Iterable[PathLike] = ()) -> None:
    """Raise `UsageError` if moving a model from the folder `stage` to `out` would overwrite unrelated files.

    `names`: the files of the model, without its card. A file in `out` may be replaced if its bytes are the same, or if
    the card of the same model in `out` names it, but not if the command `reads` it as weights or graph.
    """
    out, stage = Path(out), Path(stage)
    card = read_model_card(out / "card.json")
    new = read_model_card(stage / "card.json") or {}
    if (out / "card.json").exists():
        if card is None:
            raise UsageError(f"--out {out / 'card.json'}: exists and is not a model card; choose another folder")
        if card.get("name") != new.get("name"):
            raise UsageError(f"--out {out}: holds another model, '{card.get('name')}'; choose another folder")
    named = (card or {}).get("files")
    groups = [group for group in (named.values() if isinstance(named, dict) else ()) if isinstance(group, dict)]
    known = {name for group in groups for name in group.values()}
    for name in names:
        path = out / name
        if not path.exists() or _same_content(path, stage / name):
            continue
        if name not in known:
            raise UsageError(f"--out {path}: exists and is not of this model; choose another folder")
        if identify(path) in map(identify, reads):
            raise UsageError(f"--out {path}: the same command reads this file; choose another folder")


def write_json_result(path: PathLike, value: Any) -> None:
    """Write a JSON result to a file, completely or not at all, or to stdout (`-`). Raises `OSError` that names it."""
    if is_stdout(path):
        with safe_write.naming(path):
            sys.stdout.write(json.dumps(value, indent=1) + "\n")
            sys.stdout.flush()
    else:
        safe_write.write_json(path, value)


def is_stdout(path: PathLike) -> bool:
    """Return whether a path is `-` or the file that stdout writes to, such as /dev/stdout."""
    if str(path) in (STDOUT, os.devnull):
        return str(path) == STDOUT
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # no such file, or the stdout of a test or of a notebook
        return False


def identify(path: PathLike) -> Identity:
    """Return a key that is the same for all paths to one file, existing or not: links, `..`, other letter case."""
    try:
        found = os.stat(path)
        return found.st_dev, found.st_ino
    except OSError:  # it does not exist
        real = os.path.realpath(path)
        return (real.lower() if _ignores_case(Path(real).parent) else real,)


def is_within(path: PathLike, folder: PathLike) -> bool:
    """Return whether a path is a folder or lies below it, after resolving links."""
    real, parent = os.path.realpath(path), os.path.realpath(folder)
    return real == parent or real.startswith(os.path.join(parent, ""))


def _check_destination(path: Path, kind: Kind, what: str) -> None:
    """Raise an error that begins with `what` if a result of this kind cannot be written to `path`."""
    if kind is FOLDER:
        if not path.is_dir() and os.path.lexists(path):
            raise UsageError(f"{what}: exists and is not a folder")
    elif path.is_dir():
        raise UsageError(f"{what}: is a folder; give the name of a file")
    elif path.exists() and path.stat().st_size and not kind.recognise(path):
        raise UsageError(f"{what}: exists and is not {kind.name}; choose another name, or move it away")
    folder = Path(os.path.realpath(path))
    if kind is not FOLDER:
        folder = folder.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"{what}: {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise AgedgeError(f"{what}: {folder} is not writable: read-only, or no permission")


def _is_device(path: Path) -> bool:
    """Return whether a path is a device, a pipe or a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _same_content(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


@functools.cache
def _ignores_case(folder: Path) -> bool:
    """Return whether file names in a folder ignore case, which is tested on its own name or a parent's."""
    for path in (folder, *folder.parents):
        if path.name.swapcase() != path.name and path.exists():
            try:
                return path.samefile(path.with_name(path.name.swapcase()))
            except OSError:
                return False
    return False
