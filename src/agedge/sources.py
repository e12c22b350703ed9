"""Images in: files, folders, videos and cameras, always as BGR uint8 (h, w, 3), upright."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, List, Optional

import cv2
import numpy as np

from agedge.errors import AgedgeError
from agedge.image_header import Header, is_cut_off, read_header

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jp2", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm"}
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"}

MAX_PIXELS = 100e6  # an image decodes to three bytes a pixel
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"II*\0", b"MM\0*")  # JPEG, PNG, WebP, BMP, TIFF


@dataclass(frozen=True)
class Picture:
    """One image of a source, or the reason why there is none.

    `file`: the image's path; of a video's or camera's frame its path or number with "#" and the frame, from 0.
    `image`: BGR uint8 (h, w, 3), None where `error` says why.
    """

    file: str
    image: Optional[np.ndarray] = None
    error: str = ""


def read_image(path) -> np.ndarray:
    """An image file as BGR uint8 (h, w, 3), turned upright by its EXIF orientation.

    Grey becomes three equal channels, alpha is dropped, 16 bits are scaled to 8, CMYK is converted. Raises
    `AgedgeError` where the file is missing, empty, cut off, or no image.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise AgedgeError(f"{path}: no such file or folder") from None
    except IsADirectoryError:
        raise AgedgeError(f"{path}: a folder, not an image") from None
    except OSError as error:
        raise AgedgeError(f"{path}: {error.strerror or error}") from None
    try:
        return decode_image(content)
    except ValueError as error:
        raise AgedgeError(f"{path}: {error}") from None


def decode_image(content: bytes, max_pixels: float = MAX_PIXELS) -> np.ndarray:
    """What `read_image` gives, of a file's bytes. Raises `ValueError` with the reason."""
    check_image(content, max_pixels)
    return decode_pixels(content)


def decode_pixels(content: bytes, form: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """The pixels of an image that `check_image` found nothing wrong with. Raises `ValueError` with the reason."""
    try:
        # IMREAD_COLOR does all that read_image promises, EXIF included; IMREAD_UNCHANGED would not turn the image.
        image = cv2.imdecode(np.frombuffer(content, np.uint8), form)
    except cv2.error as error:
        raise ValueError(f"cannot be decoded: {error.err}") from None
    if image is None:
        raise ValueError(_why_no_image(content))
    return image


def check_image(content: bytes, max_pixels: float = MAX_PIXELS) -> Header:
    """The header of an encoded image. Raises `ValueError` where the bytes are none of a format whose size can be read
    beforehand, are cut off, or would decode to more than `max_pixels`."""
    if not content:
        raise ValueError("empty file")
    header = read_header(content)
    if is_cut_off(content, header):
        raise ValueError("truncated")
    if header is None:
        raise ValueError(_why_no_image(content))
    if header.width * header.height > max_pixels:
        raise ValueError(f"{header.width}x{header.height} pixels, more than {max_pixels / 1e6:g} million")
    return header


def read_images(sources: Iterable, left_out: Optional[Counter] = None) -> Iterator[Picture]:
    """The images of files, folders (recursive, by name), videos and cameras ("0", "1"), one after the other.

    What cannot be read is a `Picture` with an error, and the next follows. `left_out`: counts by suffix the files of
    folders that are not images by their names.
    """
    for source in map(str, sources):
        path = Path(source)
        try:
            if source.isdigit() and not path.exists():
                yield from _read_frames(source, cv2.VideoCapture(int(source)), "no such camera")
            elif path.is_dir():
                source = str(path)  # without a slash at its end, as errors name it
                yield from map(_read_picture, list_images(path))
            elif path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
                yield from _read_frames(source, cv2.VideoCapture(source), "not a video that OpenCV can read")
            else:
                yield _read_picture(path)
        except AgedgeError as error:
            yield Picture(source, error=_reason(error, source))


def list_images(folder) -> List[Path]:
    """The image files, by suffix, of a folder and its subfolders, sorted. Raises `AgedgeError` where there is none."""
    folder = Path(folder)
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise AgedgeError(f"{folder}: no images in it")
    return paths


def _read_picture(path: Path) -> Picture:
    try:
        return Picture(str(path), read_image(path))
    except AgedgeError as error:
        return Picture(str(path), error=_reason(error, path))


def _read_frames(source: str, capture: cv2.VideoCapture, fault: str) -> Iterator[Picture]:
    try:
        number = 0
        while capture.isOpened():
            there, frame = capture.read()
            if not there:
                break
            yield Picture(f"{source}#{number:06d}", frame)
            number += 1
        if not number:
            raise AgedgeError(f"{source}: {fault}")
    finally:
        capture.release()


def _reason(error: AgedgeError, source) -> str:
    return str(error)[len(f"{source}: ") :]


def _why_no_image(content: bytes) -> str:
    head = content[:1024]
    if head.startswith(SIGNATURES):
        return "truncated or damaged"
    if b"\0" not in head and sum(byte < 32 and byte not in b"\t\n\r\f" for byte in head) == 0:
        return "not an image (a text file?)"
    return "not an image of a known format"
