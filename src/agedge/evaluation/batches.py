"""Read batches of faces from a .rec file for evaluation: every record exactly once."""

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from agedge.crop import Crop
from agedge.faces.align import align, resize_square
from agedge.records import decode, read_crop, read_raw
from agedge.value_equality import compare_by_value

log = logging.getLogger(__name__)
Image = Optional[np.ndarray]  # BGR uint8


@compare_by_value
class EvaluationBatch(NamedTuple):
    """A batch of faces: `index` (n,) record numbers, `labels` (n, 3), `images` (n, size, size, 3) BGR uint8."""

    index: np.ndarray
    labels: np.ndarray
    images: np.ndarray


def evaluation_batches(
    path: Union[str, Path],
    size: int,
    batch_size: int = 64,
    labels: str = "auto",
    crop: Optional[Crop] = None,
    bad: Optional[List[int]] = None,
) -> Iterator[EvaluationBatch]:
    """Yield every readable record exactly once, in the file's order; the last batch may be shorter.

    Faces with another crop are realigned to `crop`. The numbers of unreadable records are appended to
    `bad`. Raises `AgedgeError` if the file is damaged.
    """
    refit = make_refit(path, size, crop)
    records = enumerate(read_raw(path, labels))
    with ThreadPoolExecutor(2) as pool:
        while chunk := list(islice(records, batch_size)):
            images = list(pool.map(lambda record: refit(decode(record[1][1])), chunk))
            good = [(i, image) for i, image in enumerate(images) if image is not None]
            if bad is not None:
                bad.extend(chunk[i][0] for i, image in enumerate(images) if image is None)
            if good:
                yield EvaluationBatch(
                    np.array([chunk[i][0] for i, _ in good]),
                    np.stack([chunk[i][1][0] for i, _ in good]),
                    np.stack([image for _, image in good]),
                )


def make_refit(path: Union[str, Path], size: int, crop: Optional[Crop]) -> Callable[[Image], Image]:
    """Return the function that resizes a file's faces to a network's input and realigns them to `crop`.

    It returns None for None, an image that could not be decoded.
    """
    packed = read_crop(path)
    if crop is None or packed is None or crop.same_as(packed):
        return lambda image: image if image is None else resize_square(image, size)
    log.info("%s: its crop differs from the model's: the faces are moved to the model's crop", path)
    wanted = crop.resized(size)

    def move(image: Image) -> Image:
        if image is None:
            return None
        square = resize_square(image, min(image.shape[:2]))
        return align(square, packed.resized(len(square)).points, wanted)

    return move


def warn_of_bad_images(path: Union[str, Path], numbers: Sequence[int]) -> None:
    """Log a warning that names the unreadable records of a file, if there are any."""
    if numbers:
        shown = ", ".join(map(str, numbers[:10])) + (", .." if len(numbers) > 10 else "")
        log.warning("%s: %d records are not images and are left out: %s", path, len(numbers), shown)
