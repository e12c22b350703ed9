"""Where a command may write: never over what it reads, what another option writes, or a file of another kind.

A command lists what its options write (`Result`) and what it reads, and calls `check_results` before it opens, loads
or writes anything. A file that exists may be replaced where it is empty or where its content, whatever its name, is a
result of the same kind (`agedge.results.kinds`). Devices, pipes and `-` (stdout) may always be written.
"""

import functools
import json
import os
import sys
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from agedge import safe_write
from agedge.cli import keep_stdout_for_results
from agedge.errors import AgedgeError, UsageError
from agedge.results.kinds import DROPPED, FOLDER, RECORD_FILES, Kind, read_model_card
from agedge.run_folder import MODEL

STDOUT = "-"


class Result(NamedTuple):
    """A file or folder that an option writes. `kind`: what it will hold."""

    option: str
    path: Optional[Path]
    kind: Kind


def check_results(results: Iterable[Result], reads: Iterable = ()) -> None:
    """Refuse results that would destroy something; those whose path is None were not asked for.

    `reads`: the files that the command reads, existing or not. Raises `UsageError` that names the option and the path,
    `AgedgeError` where the file system does not take it. A result on stdout moves what is said to stderr.
    """
    results = [result for result in results if result.path is not None]
    read = {identify(path) for path in reads}
    written: Dict[Tuple, str] = {}
    for option, path, kind in results:
        what = f"{option} {path}"
        if kind is not FOLDER and is_stdout(path):
            if STDOUT in written:
                raise UsageError(f"{what}: {written[STDOUT]} writes to stdout too")
            written[STDOUT] = option
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
            _check_place(path, kind, what)
        except OSError as error:
            raise AgedgeError(f"{what}: {error.strerror or error}") from None


def record_results(option: str, path) -> List[Result]:
    """Return the four files that a written NAME.rec consists of."""
    return [Result(option, Path(path).with_suffix(suffix), kind) for suffix, kind in RECORD_FILES.items()]


def part_results(option: str, out, parts: Iterable[str], suffix: str = "") -> List[Result]:
    """Return the files of a folder of parts: PART.rec, each with what lies beside it, and dropped.csv."""
    results = [Result(option, Path(out), FOLDER), Result(option, Path(out) / f"dropped{suffix}.csv", DROPPED)]
    for part in parts:
        results += record_results(option, Path(out) / f"{part}{suffix}.rec")
    return results


def record_inputs(paths: Iterable) -> List[Path]:
    """Return the files that a command on .rec files reads: each with its .idx, .json and .csv."""
    return [Path(path).with_suffix(suffix) for path in paths for suffix in RECORD_FILES] + [Path(p) for p in paths]


def model_inputs(model) -> List[Path]:
    """Return the files of a model folder, a run or "PREFIX,EPOCH", those that exist."""
    prefix, comma, epoch = str(model).rpartition(",")
    if comma and epoch.strip().isdigit() and not Path(model).is_dir():
        folder = Path(prefix).parent
        names = (f"{Path(prefix).name}-symbol.json", f"{Path(prefix).name}-{int(epoch):04d}.params", "card.json")
        return [folder / name for name in names]
    folders = (Path(model), Path(model) / MODEL)
    return [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()]


def check_model_folder(out, stage, names: Sequence[str], reads: Iterable = ()) -> None:
    """Refuse to move a model's files `names` and its card from the folder `stage` over files of something else.

    A file in `out` may be replaced where its bytes are the same, and where the card of the same model lies there and
    names it; not where it is one of the weights and graphs that the command `reads`. Raises `UsageError`.
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


def write_json_result(path, value) -> None:
    """Write a JSON result, whole or not at all; `-` is stdout. Raises `OSError` that names it."""
    if is_stdout(path):
        with safe_write.naming(path):
            sys.stdout.write(json.dumps(value, indent=1) + "\n")
            sys.stdout.flush()
    else:
        safe_write.write_json(path, value)


def is_stdout(path) -> bool:
    """Return whether a path is `-`, or leads to where stdout goes, such as /dev/stdout."""
    if str(path) in (STDOUT, os.devnull):
        return str(path) == STDOUT
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # no such file; a stdout of a test or of a notebook
        return False


def identify(path) -> Tuple:
    """Return what is the same for all paths to one file, existing or not: by links, `..` or other letter case."""
    try:
        found = os.stat(path)
        return found.st_dev, found.st_ino
    except OSError:  # it does not exist
        real = os.path.realpath(path)
        return (real.lower() if _ignores_case(Path(real).parent) else real,)


def is_within(path, folder) -> bool:
    """Return whether a path lies in a folder or below it, after links."""
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return path == folder or path.startswith(os.path.join(folder, ""))


def _check_place(path: Path, kind: Kind, what: str) -> None:
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
        raise AgedgeError(f"{what}: {folder} cannot be written: read-only, or no permission")


def _is_device(path: Path) -> bool:
    """Return whether a path leads to a device, a pipe or a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _same_content(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


@functools.cache
def _ignores_case(folder: Path) -> bool:
    """Return whether file names in a folder are the same in upper and lower case; by its own name or a parent's."""
    for path in (folder, *folder.parents):
        if path.name.swapcase() != path.name and path.exists():
            try:
                return path.samefile(path.with_name(path.name.swapcase()))
            except OSError:
                return False
    return False
