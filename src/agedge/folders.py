"""List the images of a folder by suffix, and count the files that are left out."""

import os
from collections import Counter
from pathlib import Path
from typing import List, Optional, Set, Tuple, Union

from agedge.errors import AgedgeError

IMAGE_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c", ".png"),
    *(".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".gif", ".avif", ".avifs"),
    *(".heic", ".heif", ".hif"),
}
BROKEN_LINK, NO_SUFFIX, NO_FILE, UNREADABLE = "broken link", "no suffix", "not a file", "unreadable folder"


def list_images(folder: Union[str, Path], left_out: Optional[Counter] = None) -> List[Path]:
    """Return the image files, by suffix, of a folder and its subfolders, sorted.

    Links to folders are followed, each folder once. `left_out`: updated with the number of files that are not listed,
    by suffix; files whose names begin with a dot do not count. Raises `AgedgeError` if there is no image.
    """
    left_out = Counter() if left_out is None else left_out
    here: Counter = Counter()
    paths, unreadable = walk_images(folder, here)
    here.update({UNREADABLE: len(unreadable)} if unreadable else {})
    left_out.update(here)
    if not paths:
        raise AgedgeError(f"{folder}: {explain_no_images(here)}")
    return paths


def explain_no_images(left_out: Counter) -> str:
    """Return the error text for a folder without images."""
    if not left_out:
        return "no images in it"
    return f"no images in it, but {sum(left_out.values())} of other kinds: {describe_counts(left_out)}"


def describe_counts(left_out: Counter) -> str:
    """Return counts as text, most frequent first: ".txt 12, no suffix 3"."""
    return ", ".join(
        f"{kind} {count}" for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    )


def walk_images(folder: Union[str, Path], left_out: Counter) -> Tuple[List[Path], List[Tuple[Path, str]]]:
    """Return the image files of a folder, sorted, and (folder, reason) for each folder that cannot be read."""
    paths: List[Path] = []
    unreadable: List[Tuple[Path, str]] = []
    waiting, links = [Path(folder)], []
    seen: Set[str] = set()
    while waiting or links:
        # Links come last, so that a folder is listed under its own path where it has one.
        here = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(here) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            unreadable.append((here, f"folder not readable: {error.strerror or error}"))
            continue
        for entry in found:
            path = here / entry.name
            if _is_folder(entry):
                (links if entry.is_symlink() else waiting).append(path)
            elif not entry.name.startswith("."):
                if kind := kind_left_out(path):
                    left_out[kind] += 1
                else:
                    paths.append(path)
    return sorted(paths), unreadable


def kind_left_out(path: Path) -> str:
    """Return the kind under which `list_images` counts a file that it leaves out; "" for an image."""
    if not path.is_file():
        return BROKEN_LINK if path.is_symlink() and not path.exists() else NO_FILE
    suffix = path.suffix.lower()
    return "" if suffix in IMAGE_SUFFIXES else suffix or NO_SUFFIX


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
