"""Find the image of a table's row, whose path may be written as on another system, inside the data set's folders."""

import os
import posixpath
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple


def find_image(name: str, folders: Sequence[Path]) -> Tuple[str, Path]:
    """Return the name of an image in its folder, with "/" and without "./", and its path.

    It is searched in each of the folders in turn: by the name as it is, with slashes for backslashes, with other letter
    case. If nothing is found, the result is the name as it is in the first folder; reading it reports the error.
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


def _find_in_other_case(folder: Path, name: str) -> Optional[str]:
    """Return the only name that differs in letter case alone; None if there is none, or several."""
    found: List[str] = []
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
def _names_by_case(folder: str) -> Dict[str, List[str]]:
    names: Dict[str, List[str]] = {}
    try:
        for name in os.listdir(folder):
            names.setdefault(name.casefold(), []).append(name)
    except OSError:
        pass
    return names
