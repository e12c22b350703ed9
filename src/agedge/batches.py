"""Batches of faces from a .rec: for training by MXNet's native reader, for evaluation every record exactly once."""

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.faces.align import align, resize_square
from agedge.faces.crop import Crop
from agedge.labels import LAYOUT, to_contract
from agedge.records import RecordWriter, check_index, decode, label_layout, read_crop, read_raw

log = logging.getLogger(__name__)

# Random changes of a training face, all off. In ImageRecordIter's terms, but as shares where it counts pixels.
NO_AUGMENTATION = {
    "mirror": 0.0,  # probability: 0 or 0.5
    "rotate": 0.0,  # degrees to either side
    "shear": 0.0,  # tangent of the angle, to either side
    "scale": 0.0,  # share of the side, larger or smaller
    "shift": 0.0,  # share of the side, to every side
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "noise": 0.0,  # along the colours' principal components (Krizhevsky et al. 2012)
}


def check_augmentation(augment: dict) -> None:
    """Raises `UsageError` on a value that means nothing."""
    if augment["mirror"] not in (0, 0.5):
        raise UsageError(f"augment.mirror={augment['mirror']}: half of the faces are mirrored (0.5) or none (0)")
    for key, value in augment.items():
        if not 0 <= value <= (180 if key == "rotate" else 0.9):
            raise UsageError(f"augment.{key}={value}: out of range")


def training_batches(
    path, size: int, batch_size: int, augment: dict, seed: int, threads: int, labels: str = "auto", part: tuple = (0, 1)
) -> Iterator:
    """One shuffled pass: (data (N, 3, size, size) RGB 0..255 float32, labels (N, 3)), both NDArrays on the CPU.

    The last batch is filled up with faces from the start. A reader lives for one pass: after its first, MXNet's counts
    are wrong (20% of the faces missing). `seed` fixes the order and the augmentation; `part` is (index, of how many).
    """
    import mxnet as mx

    path, layout = Path(path), label_layout(path, labels)
    pixels = round(augment["shift"] * size)
    reader = mx.io.ImageRecordIter(
        path_imgrec=str(path),
        path_imgidx=str(path.with_suffix(".idx")),
        label_width=len(layout.split(",")),
        data_shape=(3, size, size),
        batch_size=batch_size,
        shuffle=True,
        seed=seed,
        seed_aug=seed,
        preprocess_threads=threads,
        part_index=part[0],
        num_parts=part[1],
        round_batch=True,
        verbose=False,
        resize=size,
        rand_mirror=augment["mirror"] > 0,
        max_rotate_angle=int(augment["rotate"]),
        max_shear_ratio=augment["shear"],
        min_random_scale=1 - augment["scale"],
        max_random_scale=1 + augment["scale"],
        # A face scaled down keeps its canvas, so that what is cut out always fits.
        min_img_size=size if augment["scale"] else 0,
        pad=pixels,
        rand_crop=pixels > 0,
        fill_value=127,
        brightness=augment["brightness"],
        contrast=augment["contrast"],
        saturation=augment["saturation"],
        pca_noise=augment["noise"],
    )
    cpu = mx.cpu()  # what the reader gives is "pinned", which operators refuse
    for batch in reader:
        labels = mx.nd.array(to_contract(batch.label[0].asnumpy(), layout))
        yield batch.data[0].as_in_context(cpu), labels


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


def prepare_training_file(paths: list, cache: Path, labels: str = "auto") -> tuple:
    """(the one .rec to train on, its number of records, its label layout), every record of it known to be readable.

    MXNet's reader takes one file and ends the program at a bad image. So where several files are given, or one has bad
    images, the good records go to `cache` first; what is left out is named in a warning. Raises `AgedgeError` where a
    file is damaged or none is left.
    """
    counts = {path: check_index(path) for path in paths}
    bad = {path: find_bad_images(path, labels) for path in paths}
    for path, numbers in bad.items():
        warn_of_bad_images(path, numbers)
    if len(paths) == 1 and not bad[paths[0]]:
        return paths[0], counts[paths[0]], label_layout(paths[0], labels)
    crops = {path: read_crop(path) for path in paths}
    first = crops[paths[0]]
    for path, crop in crops.items():
        if (crop is None) != (first is None) or crop and not crop.same_as(first):
            log.warning("%s: its faces are cut in another way than those of %s", path, paths[0])
    with RecordWriter(cache) as writer:
        for path in paths:
            skip = set(bad[path])
            for number, (label, jpeg) in enumerate(read_raw(path, labels)):
                if number not in skip:
                    writer.write_labels(label, jpeg)
        if writer.count == 0:
            raise AgedgeError(f"{paths[0]}: not one readable image in it")
        writer.info = {"crop": first.to_json() if first else None, "merged": [str(path) for path in paths]}
    return cache, writer.count, ",".join(LAYOUT)


def find_bad_images(path, labels: str = "auto") -> list:
    """Numbers of the records that cannot be decoded (at an eighth of their size: a quick look at every one)."""

    def readable(record):
        return decode(record[1], cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None

    bad, records, first = [], read_raw(path, labels), 0
    with ThreadPoolExecutor(2) as pool:
        while chunk := list(islice(records, 4096)):
            bad += [first + number for number, good in enumerate(pool.map(readable, chunk)) if not good]
            first += len(chunk)
    return bad


def warn_of_bad_images(path, numbers: list) -> None:
    """A line that names the records of a file that are left out, if there are any."""
    if numbers:
        shown = ", ".join(map(str, numbers[:10])) + (", .." if len(numbers) > 10 else "")
        log.warning("%s: %d records are no images and are left out: %s", path, len(numbers), shown)
