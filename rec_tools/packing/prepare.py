"""Rows made ready: images read, faces found, cut and encoded. What the worker processes of `pack` do."""

import hashlib
import math
import os
import stat
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

import cv2
import numpy as np

from agedge import sources
from agedge.images.header import JPEG, UPRIGHT, Header
from agedge.records import encode
from agedge.sources import BYTES_A_PIXEL, LEAST_LIMIT, check_image, decode_pixels
from rec_tools.formats.image_folder import is_inside
from rec_tools.packing.crop_faces import cut_faces
from rec_tools.packing.duplicates import fingerprint
from rec_tools.packing.options import Preparation
from rec_tools.rows import Dropped, Row
from rec_tools.worker_pool import allow

REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
BATCH_PIXELS = 16e6  # images that are decoded at a time: 48 MB
SECONDS = 60  # an image: far more than the slowest that is good takes, on a machine with other work to do
UNCHANGED = "unchanged"


class Prepared(NamedTuple):
    """A face ready to be written.

    `digest`: 32 hexadecimal digits of the image file's bytes; `fingerprint` (4,) uint64 of its pixels, if asked for;
    `way`: how it was cut; `landmarks` (5, 2) in pixels of the packed face, where they are known.
    """

    row: Row
    jpeg: bytes
    digest: str
    way: str
    fingerprint: Optional[np.ndarray] = None
    landmarks: Optional[np.ndarray] = None


class Opened(NamedTuple):
    """An image that was read: its bytes; its pixels (h, w, 3) BGR; whether it `stays`, packed as it is: then its pixels
    are (h / 2, w / 2) grey, if they are looked at at all."""

    row: Row
    content: bytes
    image: Optional[np.ndarray]
    stays: bool


def prepare_all(rows, preparation: Preparation) -> list:
    """A chunk of rows, in order: each `Prepared`, or `Dropped` with the reason."""
    results, batch, pixels = {}, {}, 0
    for number, row in enumerate(rows):
        allow(SECONDS)
        opened = row if isinstance(row, Dropped) else open_image(row, preparation)
        if isinstance(opened, Dropped):
            results[number] = opened
        elif opened.stays:
            results[number] = keep(opened, preparation)
        else:
            batch[number] = opened
            pixels += opened.image.size / 3
            if pixels > BATCH_PIXELS:
                results.update(zip(batch, cut_all(list(batch.values()), preparation)))
                batch, pixels = {}, 0
    results.update(zip(batch, cut_all(list(batch.values()), preparation)))
    allow(math.inf)  # a slow disk that the results go to is no image's fault
    return [results[number] for number in sorted(results)]


def open_image(row: Row, preparation: Preparation):
    """`Opened`, or `Dropped`: whatever is wrong with an image is the reason why its row is dropped."""
    try:
        if isinstance(row.image, bytes):
            content = row.image
        elif preparation.root is not None and not is_inside(row.image, preparation.root):
            return Dropped(row.id, "path leaves the folder")
        else:
            content = read_file(row.image, BYTES_A_PIXEL * preparation.max_pixels + LEAST_LIMIT)
        header = check_image(content, preparation.max_pixels)
        stays = can_stay(header, preparation)
        form = cv2.IMREAD_REDUCED_GRAYSCALE_2 if stays else choose_form(header, row, preparation)
        image = decode_pixels(content, form, header) if preparation.fingerprints or not stays else None
    except FileNotFoundError:
        return Dropped(row.id, "image missing")
    except (ValueError, OSError) as error:
        return Dropped(row.id, "image not readable", getattr(error, "strerror", None) or str(error))
    return Opened(row, content, image, stays)


def read_file(path: Path, most: float) -> bytes:
    """Return the bytes of a file. Raises `ValueError` where it is not one (a pipe would be waited for), or where it has
    more than `most` bytes."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a file")
    return sources.read_file(path, most)


def can_stay(header: Optional[Header], preparation: Preparation) -> bool:
    """Whether a file is the JPEG that would be packed: encoding it again would only make it worse."""
    if header is None or header.kind != JPEG or header.orientation != UPRIGHT or header.channels not in (1, 3):
        return False
    return (
        preparation.align == "none"
        and preparation.size in (0, header.width)
        and (preparation.size == 0 or header.width == header.height)
    )


def choose_form(header: Optional[Header], row: Row, preparation: Preparation) -> int:
    """How OpenCV is to decode an image: a JPEG that is shrunk as a whole at an eighth, a quarter or half of its size,
    where that is enough: it takes 35%, 40% or 55% of the time (photographs of 500 pixels)."""
    if preparation.align == "none" and preparation.size and header and header.kind == JPEG and row.landmarks is None:
        for factor, form in REDUCED.items():
            if min(header.width, header.height) >= factor * preparation.size:
                return form
    return cv2.IMREAD_COLOR


def keep(opened: Opened, preparation: Preparation) -> Prepared:
    """A JPEG as it is."""
    marks = fingerprint(opened.image) if preparation.fingerprints else None
    return Prepared(opened.row, opened.content, digest(opened.content), UNCHANGED, marks, opened.row.landmarks)


def digest(content: bytes) -> str:
    """32 hexadecimal digits that tell whether two files hold the same bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def cut_all(batch: list, preparation: Preparation) -> Iterator:
    """`Prepared` or `Dropped` for every `Opened`."""
    rows, images = [opened.row for opened in batch], [opened.image for opened in batch]
    allow(SECONDS * (1 + len(batch)))  # one more: the first batch waits for the detector to be loaded
    try:
        faces = cut_faces(images, rows, preparation)
    except cv2.error as error:
        if len(batch) == 1:
            yield Dropped(rows[0].id, "image not usable", " ".join(str(error).split()))
        else:  # one of them is the matter, and the others are not to suffer for it
            for opened in batch:
                yield from cut_all([opened], preparation)
        return
    for (row, content, image, _), face in zip(batch, faces):
        if face.image is None:
            yield Dropped(row.id, face.way)
            continue
        try:
            jpeg = encode(face.image, preparation.quality)
        except ValueError as error:
            yield Dropped(row.id, "image not usable", str(error))
            continue
        marks = fingerprint(image) if preparation.fingerprints else None
        yield Prepared(row, jpeg, digest(content), face.way, marks, face.landmarks)
