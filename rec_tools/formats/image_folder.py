"""List the images of a data set's folder, in an order that depends on their names alone."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Iterator, List, Optional, Union

from agedge.errors import AgedgeError
from agedge.folders import BROKEN_LINK, NO_FILE, kind_left_out
from agedge.images.kinds import is_image, is_video
from agedge.images.videos import HEAD, VIDEO_SUFFIXES
from rec_tools.rows import Dropped

AnyPath = Union[str, Path]

NOT_AN_IMAGE = "not an image by its name"
UNREAD_SUFFIXES = {  # of image formats that are not read
    *(".psd", ".svg", ".jxl", ".tga", ".ico", ".exr", ".hdr", ".pcx", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf"),
    *(".orf", ".rw2", ".raw", ".jxr", ".eps", ".pdf"),
}


def list_images(
    root: AnyPath, folder: str = "", left_out: Optional[List[Dropped]] = None
) -> Iterator[Union[str, Dropped]]:
    """Yield the paths relative to `root`, with "/", of the image files in `root/folder` and its folders, by name.

    A folder that cannot be read is `Dropped`. A link to a folder is not followed: inside of `root` its images are
    listed at their own place; a link that leaves `root` is `Dropped`. Files that are not images by their names but
    could be (see `could_be_an_image`) are appended to `left_out`. Raises `AgedgeError` if `root/folder` itself is not a
    folder or cannot be read.
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
                yield from list_images(root, path, left_out)
            except OSError as error:
                yield Dropped(path, "folder not readable", error.strerror or str(error))
        elif os.path.isdir(os.path.join(root, path)):
            if not is_inside(os.path.join(root, path), root):
                yield Dropped(path, "path leaves the folder", "a link to a folder")
        elif not name.startswith("."):
            kind = kind_left_out(Path(root, path))
            if not kind:
                yield path
            elif left_out is not None and could_be_an_image(os.path.join(root, path), kind):
                left_out.append(Dropped(path, NOT_AN_IMAGE, kind))


def could_be_an_image(path: str, kind: str) -> bool:
    """Return whether a file that is not an image by its name is one by its content, a video, a broken link, or of an
    image format that is not read. A data set's tables and notes are none of these."""
    if kind in (BROKEN_LINK, NO_FILE) or kind in UNREAD_SUFFIXES or kind in VIDEO_SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return True
    return is_image(head) or is_video(head)


def is_inside(path: AnyPath, root: AnyPath) -> bool:
    """Return whether a path, with its symbolic links resolved, lies in `root`."""
    folder, name = os.path.split(path)
    if os.path.islink(path) or name in ("", "..", "."):
        return _is_below(os.path.realpath(path), _real_path(str(root)))
    return _is_below(_real_path(folder), _real_path(str(root)), or_same=True)


@lru_cache(maxsize=4096)
def _real_path(folder: str) -> str:
    return os.path.realpath(folder)


def _is_below(path: str, root: str, or_same: bool = False) -> bool:
    return path.startswith(root.rstrip(os.sep) + os.sep) or (or_same and path == root)
