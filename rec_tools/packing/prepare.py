"""Prepare rows for packing: read images, find, crop and encode faces. Runs in the worker processes of `pack`."""

import hashlib
import math
import os
import stat
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Union

import cv2
import numpy as np

from agedge import sources
from agedge.images.header import JPEG, UPRIGHT, Header
from agedge.records import encode
from agedge.sources import BYTES_PER_PIXEL, EXTRA_BYTES, check_image, decode_pixels
from rec_tools.formats.image_folder import is_inside
from rec_tools.packing.crop_faces import crop_faces, to_array
from rec_tools.packing.duplicates import fingerprint
from rec_tools.packing.options import Preparation
from rec_tools.rows import Dropped, Row
from rec_tools.worker_pool import set_time_limit

REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
BATCH_PIXELS = 16e6  # decoded images in memory at a time: 48 MB
SECONDS = 60  # per image: far more than the slowest good image takes on a busy machine
UNCHANGED = "unchanged"


class Prepared(NamedTuple):
    """A face ready to be written.

    `digest`: 32 hexadecimal digits of the image file's bytes. `fingerprint` (4,) uint64 of its pixels, if computed.
    `method`: how the face was cropped. `landmarks` (5, 2) in pixels of the packed face, if known.
    """

    row: Row
    jpeg: bytes
    digest: str
    method: str
    fingerprint: Optional[np.ndarray] = None
    landmarks: Optional[np.ndarray] = None


class OpenedImage(NamedTuple):
    """An image file that was read.

    `content`: its bytes. `unchanged`: whether these bytes are packed as they are. `image`: the pixels (h, w, 3) BGR; of
    an unchanged image (h / 2, w / 2) grey, or None if no fingerprint is needed.
    """

    row: Row
    content: bytes
    image: Optional[np.ndarray]
    unchanged: bool

    @property
    def pixels(self) -> np.ndarray:
        """Return the pixels of an image that is not unchanged."""
        assert self.image is not None
        return self.image


def prepare_all(rows: Sequence[Union[Row, Dropped]], preparation: Preparation) -> List[Union[Prepared, Dropped]]:
    """Prepare a chunk of rows, in order: each becomes `Prepared`, or `Dropped` with the reason."""
    results: Dict[int, Union[Prepared, Dropped]] = {}
    batch: Dict[int, OpenedImage] = {}
    pixels = 0
    for number, row in enumerate(rows):
        set_time_limit(SECONDS)
        opened = row if isinstance(row, Dropped) else open_image(row, preparation)
        if isinstance(opened, Dropped):
            results[number] = opened
        elif opened.unchanged:
            results[number] = keep_jpeg(opened, preparation)
        else:
            batch[number] = opened
            pixels += opened.pixels.size / 3
            if pixels > BATCH_PIXELS:
                results.update(zip(batch, crop_all(list(batch.values()), preparation)))
                batch, pixels = {}, 0
    results.update(zip(batch, crop_all(list(batch.values()), preparation)))
    set_time_limit(math.inf)  # writing the results to a slow disk is not limited
    return [results[number] for number in sorted(results)]


def open_image(row: Row, preparation: Preparation) -> Union[OpenedImage, Dropped]:
    """Read and decode the image of a row; a row whose image has a fault becomes `Dropped`."""
    try:
        if isinstance(row.image, bytes):
            content = row.image
        elif preparation.root is not None and not is_inside(row.image, preparation.root):
            return Dropped(row.id, "path leaves the folder")
        else:
            content = read_file(row.image, BYTES_PER_PIXEL * preparation.max_pixels + EXTRA_BYTES)
        header = check_image(content, preparation.max_pixels)
        unchanged = can_keep_jpeg(header, preparation)
        form = cv2.IMREAD_REDUCED_GRAYSCALE_2 if unchanged else choose_decoding(header, row, preparation)
        image = decode_pixels(content, form, header) if preparation.fingerprints or not unchanged else None
    except FileNotFoundError:
        return Dropped(row.id, "image missing")
    except (ValueError, OSError) as error:
        return Dropped(row.id, "image not readable", getattr(error, "strerror", None) or str(error))
    return OpenedImage(row, content, image, unchanged)


def read_file(path: Path, most: float) -> bytes:
    """Return the bytes of a file. Raises `ValueError` if it is not a regular file (reading a pipe could block) or has
    more than `most` bytes."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a file")
    return sources.read_file(path, most)


def can_keep_jpeg(header: Optional[Header], preparation: Preparation) -> bool:
    """Return whether a JPEG file can be packed as it is: encoding it again would only lose quality."""
    if header is None or header.kind != JPEG or header.orientation != UPRIGHT or header.channels not in (1, 3):
        return False
    return (
        preparation.align == "none"
        and preparation.size in (0, header.width)
        and (preparation.size == 0 or header.width == header.height)
    )


def choose_decoding(header: Optional[Header], row: Row, preparation: Preparation) -> int:
    """Return the flag of `cv2.imdecode` for an image.

    A JPEG that is packed as a whole is decoded at an eighth, a quarter or half of its size if that is large enough:
    this takes 35%, 40% or 55% of the time (photographs of 500 pixels).
    """
    if preparation.align == "none" and preparation.size and header and header.kind == JPEG and row.landmarks is None:
        for factor, form in REDUCED.items():
            if min(header.width, header.height) >= factor * preparation.size:
                return form
    return cv2.IMREAD_COLOR


def keep_jpeg(opened: OpenedImage, preparation: Preparation) -> Prepared:
    """Return an image that is packed as it is."""
    row = opened.row
    code = None if opened.image is None else fingerprint(opened.image)  # decoded only if fingerprints are needed
    return Prepared(row, opened.content, digest(opened.content), UNCHANGED, code, to_array(row.landmarks))


def digest(content: bytes) -> str:
    """Return a checksum of the bytes of a file as 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def crop_all(batch: List[OpenedImage], preparation: Preparation) -> Iterator[Union[Prepared, Dropped]]:
    """Crop and encode the faces of a batch of images, in order."""
    rows, images = [opened.row for opened in batch], [opened.pixels for opened in batch]
    set_time_limit(SECONDS * (1 + len(batch)))  # one more: before the first batch, the detector is loaded
    try:
        faces = crop_faces(images, rows, preparation)
    except cv2.error as error:
        if len(batch) == 1:
            yield Dropped(rows[0].id, "image not usable", " ".join(str(error).split()))
        else:  # one of them has a fault; find out which
            for opened in batch:
                yield from crop_all([opened], preparation)
        return
    for (row, content, *_), image, face in zip(batch, images, faces):
        if face.image is None:
            yield Dropped(row.id, face.method)
            continue
        try:
            jpeg = encode(face.image, preparation.quality)
        except ValueError as error:
            yield Dropped(row.id, "image not usable", str(error))
            continue
        code = fingerprint(image) if preparation.fingerprints else None
        yield Prepared(row, jpeg, digest(content), face.method, code, face.landmarks)
