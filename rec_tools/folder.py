"""What lies in a data set's folder: its images in an order that depends on their names alone, and nothing outside."""

import os
from functools import lru_cache
from typing import Iterator, Union

from agedge.errors import AgedgeError
from agedge.sources import IMAGE_SUFFIXES
from rec_tools.rows import Dropped


def list_images(root, folder: str = "") -> Iterator[Union[str, Dropped]]:
    """Paths relative to `root`, with "/", of the image files in `root/folder` and its folders, each folder by name.

    A folder that cannot be read is `Dropped` with its name, and the next follows. Symbolic links to folders are not
    followed. Raises `AgedgeError` where `root/folder` itself is no folder or cannot be read.
    """
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            found = sorted(entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        raise AgedgeError(f"{os.path.join(root, folder).rstrip('/')}: no such folder") from None
    for name in found:
        path = f"{folder}/{name}".rstrip("/") if folder else name.rstrip("/")
        if name.endswith("/"):
            try:
                yield from list_images(root, path)
            except OSError as error:
                yield Dropped(path, "folder not readable", error.strerror or str(error))
        elif os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith("."):
            yield path


def is_inside(path, root) -> bool:
    """Whether a path, its symbolic links followed, lies in `root`."""
    folder, name = os.path.split(path)
    if os.path.islink(path) or name in ("", "..", "."):
        return _is_below(os.path.realpath(path), _real_path(str(root)))
    return _is_below(_real_path(folder), _real_path(str(root)), or_same=True)


@lru_cache(maxsize=4096)
def _real_path(folder: str) -> str:
    return os.path.realpath(folder)


def _is_below(path: str, root: str, or_same: bool = False) -> bool:
    return path.startswith(root.rstrip(os.sep) + os.sep) or (or_same and path == root)
