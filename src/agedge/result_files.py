"""Where a command may write: never over what it reads, what another option writes, or a file of another kind.

A command lists what its options write (`Result`) and what it reads, and calls `check_results` before it opens, loads
or writes anything. A file that exists may be replaced where it is empty or where its content, whatever its name, is a
result of the same kind (`agedge.result_kinds`). Devices, pipes and `-` (stdout) may always be written.
"""

import json
import os
import sys
from pathlib import Path
from typing import Iterable, List, NamedTuple, Optional, Sequence

from agedge import safe_write
from agedge.cli import keep_stdout_for_results
from agedge.errors import AgedgeError, UsageError
from agedge.result_kinds import FOLDER, RECORD_FILES, Kind, read_model_card

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
    reads = [Path(path) for path in reads]
    for number, result in enumerate(results):
        say = f"{result.option} {result.path}"
        if is_stdout(result.path) and result.kind is not FOLDER:
            if any(is_stdout(other.path) for other in results[:number]):
                raise UsageError(f"{say}: another option writes to stdout too")
            keep_stdout_for_results()
            continue
        try:
            if _is_device(result.path) and result.kind is not FOLDER:
                continue
            for path in reads:
                if same_file(path, result.path):
                    raise UsageError(f"{say}: the same command reads this file; choose another name")
            for other in results[:number]:
                if same_file(other.path, result.path):
                    raise UsageError(f"{say}: {other.option} writes this file too; choose another name")
            _check_place(result, say)
        except OSError as error:
            raise AgedgeError(f"{say}: {error.strerror or error}") from None


def record_results(option: str, path) -> List[Result]:
    """Return the four files that a written NAME.rec consists of."""
    return [Result(option, Path(path).with_suffix(suffix), kind) for suffix, kind in RECORD_FILES.items()]


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
    folders = (Path(model), Path(model) / "model")
    return [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()]


def check_model_folder(out, stage, names: Sequence[str]) -> None:
    """Refuse to move a model's files `names` and its card from the folder `stage` over files of something else.

    A file in `out` may be replaced where the card of the same model lies there and names it, and where its bytes are
    the same. Raises `UsageError`.
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
        if path.exists() and name not in known and not _same_content(path, stage / name):
            raise UsageError(f"--out {path}: exists and is not of this model; choose another folder")


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
    if str(path) == STDOUT:
        return True
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError, AttributeError):  # no such file; a stdout of a test or of a notebook
        return False


def same_file(one, other) -> bool:
    """Return whether two paths lead to one file, existing or not: by links, `..` or other letter case."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them does not exist
        pass
    one, other = os.path.realpath(one), os.path.realpath(other)
    if one == other:
        return True
    return one.lower() == other.lower() and _ignores_case(Path(one).parent)


def is_within(path, folder) -> bool:
    """Return whether a path lies in a folder or below it, after links."""
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return path == folder or path.startswith(os.path.join(folder, ""))


def _check_place(result: Result, say: str) -> None:
    path = result.path
    if result.kind is FOLDER:
        if os.path.lexists(path) and not os.path.isdir(path):
            raise UsageError(f"{say}: exists and is not a folder")
    elif path.is_dir():
        raise UsageError(f"{say}: is a folder; give the name of a file")
    elif path.exists() and path.stat().st_size and not result.kind.recognise(path):
        raise UsageError(f"{say}: exists and is not {result.kind.name}; choose another name, or move it away")
    folder = Path(os.path.realpath(path))
    if result.kind is not FOLDER:
        folder = folder.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise UsageError(f"{say}: {folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise AgedgeError(f"{say}: {folder} cannot be written: read-only, or no permission")


def _is_device(path: Path) -> bool:
    """Return whether a path leads to a device, a pipe or a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _same_content(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _ignores_case(folder: Path) -> bool:
    """Return whether file names in a folder are the same in upper and lower case; by its own name or a parent's."""
    for path in (folder, *folder.parents):
        if path.name.swapcase() != path.name and path.exists():
            try:
                return path.samefile(path.with_name(path.name.swapcase()))
            except OSError:
                return False
    return False
