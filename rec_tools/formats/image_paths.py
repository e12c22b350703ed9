"""Where the image of a table's row lies: paths as other systems write them, found without leaving the set's folder."""

import os
import posixpath
from functools import lru_cache
from pathlib import Path
from typing import Sequence, Tuple


def find_image(name: str, folders: Sequence[Path]) -> Tuple[str, Path]:
    """Return the name of an image in its folder, with "/" and without "./", and its path.

    Looked for, in each of the folders in turn: the name as it is; with slashes for backslashes; with other letter case.
    Where nothing is found, the name as it is in the first folder: whether it is missing, or leaves the folder, is
    answered where it is read.
    """
    names = dict.fromkeys((name, name.replace("\\", "/")))
    for one in names:
        for folder in folders:
            path = folder / one
            if os.path.isfile(path) or os.path.islink(path):
                return _plain(one), path
    for folder in folders:
        for one in names:
            if (found := _find_in_other_case(folder, _plain(one))) is not None:
                return found, folder / found
    return name, folders[0] / name


def _plain(name: str) -> str:
    """Return a relative path without "./" and doubled slashes; "a/../b" stays, since "a" may be a symbolic link."""
    return name if posixpath.isabs(name) else "/".join(part for part in name.split("/") if part not in ("", "."))


def _find_in_other_case(folder: Path, name: str):
    """Return the one name that differs in letter case only; None where there is none, or several."""
    found = []
    for part in name.split("/"):
        if part == ".." or posixpath.isabs(name):
            return None
        entries = _names_by_case(str(folder.joinpath(*found)))
        names = entries.get(part.casefold(), ())
        chosen = part if part in names else names[0] if len(names) == 1 else None
        if chosen is None:
            return None
        found.append(chosen)
    path = "/".join(found)
    return path if os.path.isfile(folder / path) else None


@lru_cache(maxsize=64)
def _names_by_case(folder: str) -> dict:
    names = {}
    try:
        for name in os.listdir(folder):
            names.setdefault(name.casefold(), []).append(name)
    except OSError:
        pass
    return names
