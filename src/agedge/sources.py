"""Read images from files, folders, videos, cameras and streams, always as upright BGR uint8 (h, w, 3)."""

import os
import stat
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, Optional, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.folders import IMAGE_SUFFIXES, explain_no_images, list_images, walk_images
from agedge.images.decode import MAX_PIXELS, check_image, decode_image, decode_pixels
from agedge.images.kinds import is_image, is_text, is_video
from agedge.images.videos import (
    HEAD,
    NOT_A_VIDEO,
    STREAM,
    VIDEO_SUFFIXES,
    read_camera,
    read_stream,
    read_video,
    without_password,
)
from agedge.value_equality import compare_by_value

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "VIDEO_SUFFIXES",
    "SourceImage",
    "check_image",
    "decode_image",
    "decode_pixels",
    "list_images",
    "read_file",
    "read_image",
    "read_images",
]

STANDARD_INPUT = "-"
# The largest image file: bytes for each pixel of the limit, and bytes on top.
BYTES_PER_PIXEL, EXTRA_BYTES = 4, 1e6


@compare_by_value
@dataclass(frozen=True)
class SourceImage:
    """One image of a source, or the reason why it cannot be read.

    `file`: the path of the image. A frame has the path of its video, the number of its camera or the URL of its stream,
    then "#" and the frame number from 0. `image`: BGR uint8 (h, w, 3), or None if `error` is set.
    """

    file: str
    image: Optional[np.ndarray] = None
    error: str = ""


def read_image(path: Union[str, Path]) -> np.ndarray:
    """Return an image file as BGR uint8 (h, w, 3), turned upright by its EXIF orientation.

    The format is recognised by the content, not the name: JPEG, PNG, WebP, BMP, TIFF (first page), PNM, GIF and MPO
    (first image), JPEG 2000, AVIF and HEIC. Grey becomes three equal channels, alpha is dropped, more than 8 bits are
    scaled by the range in use, CMYK is converted. Raises `AgedgeError` if the file is missing, empty, damaged, too
    large, or not an image.
    """
    path = Path(path)
    try:
        return decode_image(read_file(path))
    except FileNotFoundError:
        raise AgedgeError(f"{path}: does not exist") from None
    except IsADirectoryError:
        raise AgedgeError(f"{path}: is a folder, not an image") from None
    except OSError as error:
        raise AgedgeError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise AgedgeError(f"{path}: {error}") from None


def read_file(path: Union[str, Path], max_bytes: float = BYTES_PER_PIXEL * MAX_PIXELS + EXTRA_BYTES) -> bytes:
    """Return the bytes of a file. Raises `ValueError` if it has more than `max_bytes`, before it is read; `OSError`."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        size = status.st_size if stat.S_ISREG(status.st_mode) else int(max_bytes)  # a pipe has none
        if size > max_bytes:
            raise ValueError(f"a file of {size / 1e6:.0f} MB, more than {max_bytes / 1e6:.0f}")
        content = file.read(size + 1)
    if len(content) > max_bytes:
        raise ValueError(f"more than {max_bytes / 1e6:.0f} MB")
    return content


def read_images(sources: Iterable[Union[str, Path]], left_out: Optional[Counter] = None) -> Iterator[SourceImage]:
    """Yield the images of files, folders (recursive, sorted), videos, cameras ("0", "1"), streams (URLs) and standard
    input ("-", one image).

    A source that cannot be read yields a `SourceImage` with an error, and the next source follows. A video that ends
    early yields such an error after its last frame. `left_out`: updated with the number of files in folders that are
    not images, by suffix.
    """
    left_out = Counter() if left_out is None else left_out
    for source in map(str, sources):
        path = Path(source)
        name = without_password(source)
        try:
            if source == STANDARD_INPUT:
                yield _read_standard_input()
            elif STREAM.match(source):
                yield from _name_frames(name, read_stream(source))
            elif source.isdigit() and not path.exists():
                yield from _name_frames(name, read_camera(int(source)))
            elif path.is_dir():
                name = str(path)  # without a trailing slash, as in error texts
                yield from _read_folder(path, left_out)
            elif path.is_file() and _is_video_file(path):
                yield from _name_frames(name, read_video(path))
            else:
                yield _read_image_file(path)
        except AgedgeError as error:
            yield SourceImage(name, error=_reason(error, name))
        except OSError as error:
            yield SourceImage(name, error=error.strerror or str(error))


def _read_folder(folder: Path, left_out: Counter) -> Iterator[SourceImage]:
    here: Counter = Counter()
    paths, unreadable = walk_images(folder, here)
    left_out.update(here)
    for path, reason in unreadable:
        yield SourceImage(str(path), error=reason)
    if not paths and not unreadable:
        raise AgedgeError(f"{folder}: {explain_no_images(here)}")
    yield from map(_read_image_file, paths)


def _read_image_file(path: Path) -> SourceImage:
    try:
        return SourceImage(str(path), read_image(path))
    except AgedgeError as error:
        return SourceImage(str(path), error=_reason(error, path))


def _read_standard_input() -> SourceImage:
    max_bytes = int(BYTES_PER_PIXEL * MAX_PIXELS + EXTRA_BYTES)
    try:
        content = sys.stdin.buffer.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ValueError(f"more than {max_bytes / 1e6:.0f} MB")
        return SourceImage(STANDARD_INPUT, decode_image(content))
    except ValueError as error:
        return SourceImage(STANDARD_INPUT, error=str(error))


def _is_video_file(path: Path) -> bool:
    """Return whether a file is a video by its content, or by its name if the content is not recognised.

    Raises `AgedgeError` for a text file: FFmpeg would take it for a list of other files and addresses to open.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head or is_image(head):
        return False
    if is_video(head):
        return True
    if path.suffix.lower() in VIDEO_SUFFIXES:
        if is_text(head):
            raise AgedgeError(f"{path}: {NOT_A_VIDEO}")
        return True
    return False


def _name_frames(source: str, frames: Iterator[Tuple[int, np.ndarray]]) -> Iterator[SourceImage]:
    for number, frame in frames:
        yield SourceImage(f"{source}#{number:06d}", frame)


def _reason(error: AgedgeError, source: Union[str, Path]) -> str:
    """Return the text of an error without the name of the file at its start."""
    return str(error)[len(f"{source}: ") :]
