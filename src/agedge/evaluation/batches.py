"""Batches of faces from a .rec for evaluation: every record exactly once."""

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Iterator, NamedTuple, Optional

import numpy as np

from agedge.crop import Crop
from agedge.faces.align import align, resize_square
from agedge.records import decode, read_crop, read_raw
from agedge.value_equality import compare_by_value

log = logging.getLogger(__name__)


@compare_by_value
class Faces(NamedTuple):
    """A batch for evaluation: `index` (n,) record numbers, `labels` (n, 3), `images` (n, size, size, 3) BGR uint8."""

    index: np.ndarray
    labels: np.ndarray
    images: np.ndarray


def evaluation_batches(
    path, size: int, batch_size: int = 64, labels: str = "auto", crop: Optional[Crop] = None, bad: Optional[list] = None
) -> Iterator[Faces]:
    """Every readable record exactly once, in the file's order, the last batch shorter.

    Where the file's faces were cut in another way than `crop`, they are moved to it. The numbers of records that are no
    images are appended to `bad`.
    """
    refit = fitting(path, size, crop)
    records = enumerate(read_raw(path, labels))
    with ThreadPoolExecutor(2) as pool:
        while chunk := list(islice(records, batch_size)):
            images = list(pool.map(lambda record: refit(decode(record[1][1])), chunk))
            good = [i for i, image in enumerate(images) if image is not None]
            if bad is not None:
                bad.extend(chunk[i][0] for i, image in enumerate(images) if image is None)
            if good:
                yield Faces(
                    np.array([chunk[i][0] for i in good]),
                    np.stack([chunk[i][1][0] for i in good]),
                    np.stack([images[i] for i in good]),
                )


def fitting(path, size: int, crop: Optional[Crop]):
    """The function that brings a file's faces (or None) to a network's input: resized, and moved where crops differ."""
    packed = read_crop(path)
    if crop is None or packed is None or crop.same_as(packed):
        return lambda image: image if image is None else resize_square(image, size)
    log.info("%s: its faces are cut in another way than the model's; moved to the model's crop", path)
    wanted = crop.resized(size)

    def move(image):
        if image is None:
            return None
        square = resize_square(image, min(image.shape[:2]))
        return align(square, packed.resized(len(square)).points, wanted)

    return move


def warn_of_bad_images(path, numbers: list) -> None:
    """A line that names the records of a file that are left out, if there are any."""
    if numbers:
        shown = ", ".join(map(str, numbers[:10])) + (", .." if len(numbers) > 10 else "")
        log.warning("%s: %d records are no images and are left out: %s", path, len(numbers), shown)
