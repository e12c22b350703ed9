"""Load training faces with MXNet's reader, ImageRecordIter (`data.cache=native`)."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence, Tuple, Union

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.batches import warn_of_bad_images
from agedge.labels import LAYOUT, to_contract
from agedge.records import RecordWriter, check_index, decode, label_layout, read_crop, read_raw
from agedge.training.data.dataset import warn_of_other_crops
from agedge.training.data.loader import FaceBatch
from agedge.training.recipe import AugmentSection

log = logging.getLogger(__name__)


UNSUPPORTED = ("blur", "jpeg", "cutout", "grey")  # transforms that the reader does not have


class ImageRecordLoader:
    """Iterate over the batches of an epoch, starting at step `first`, like `agedge.training.data.loader.FaceLoader`.

    The reader does not return which faces are in a batch (`index` is -1), nor which are mirrored (`mirrored` is None).

    `path` and `layout` are those of `prepare_training_file`. The epoch has `steps` batches; the last one is filled with
    faces from the beginning. `part` (i, n): this worker reads the i-th of n parts of the file, and its batches are its
    share of `batch_size`. Raises `UsageError` if `augment` has a transform that the reader does not support.
    """

    def __init__(
        self,
        path: Union[str, Path],
        layout: str,
        size: int,
        batch_size: int,
        augment: AugmentSection,
        seed: int,
        epoch: int,
        steps: int,
        threads: int = 1,
        first: int = 0,
        part: Tuple[int, int] = (0, 1),
    ):
        for key in UNSUPPORTED:
            if augment[key]:
                raise UsageError(f"augment.{key}={augment[key]}: not supported by MXNet's reader (data.cache=native)")
        self.waited, self.steps = 0.0, steps
        share = batch_size * (part[0] + 1) // part[1] - batch_size * part[0] // part[1]
        seeds = np.random.SeedSequence([seed, epoch]).generate_state(steps) >> 1
        # Several passes, if this worker's part of the file has fewer batches than the epoch has steps.
        batches = (
            batch
            for number in seeds
            for batch in _read(Path(path), layout, size, share, augment, int(number), threads, part)
        )
        self._batches: Iterator[FaceBatch] = islice(batches, first, steps)

    def __iter__(self) -> "ImageRecordLoader":
        return self

    def __next__(self) -> FaceBatch:
        started = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.waited += time.perf_counter() - started

    def close(self) -> None:
        """Close the reader."""
        self._batches = iter(())

    def __enter__(self) -> "ImageRecordLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(
    path: Path,
    layout: str,
    size: int,
    batch_size: int,
    augment: AugmentSection,
    seed: int,
    threads: int,
    part: Tuple[int, int],
) -> Iterator[FaceBatch]:
    """Yield the batches of one shuffled pass. Each pass needs a new reader: after its first pass, MXNet's reader
    counts wrongly and skips 20% of the faces."""
    import mxnet as mx

    pixels = round(augment.shift * size)
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
        rand_mirror=augment.mirror > 0,
        max_rotate_angle=int(augment.rotate),
        max_shear_ratio=augment.shear,
        min_random_scale=1 - augment.scale,
        max_random_scale=1 + augment.scale,
        # A face that is scaled down is padded to its size, so that it can be cropped.
        min_img_size=size if augment.scale else 0,
        pad=pixels,
        rand_crop=pixels > 0,
        fill_value=127,
        brightness=augment.brightness,
        contrast=augment.contrast,
        saturation=augment.saturation,
        pca_noise=augment.noise,
    )
    for batch in reader:
        labels = to_contract(batch.label[0].asnumpy(), layout)
        yield FaceBatch(batch.data[0].asnumpy(), labels, np.full(len(labels), -1), None)


class TrainingFile(NamedTuple):
    """A .rec whose records are all readable: its path, its number of records, and the layout of its labels."""

    path: Path
    count: int
    layout: str


def prepare_training_file(paths: Sequence[Path], cache: Path, labels: str = "auto") -> TrainingFile:
    """Return one .rec for training.

    MXNet's reader takes one file, and ends the process at a bad image. So several files, or a file with bad images, are
    first copied to `cache` without the bad records, which are named in a warning. Raises `AgedgeError`
    if a file is damaged or no record is left.
    """
    counts = {path: check_index(path) for path in paths}
    bad = {path: _find_bad_images(path, labels) for path in paths}
    for path, numbers in bad.items():
        warn_of_bad_images(path, numbers)
    if len(paths) == 1 and not bad[paths[0]]:
        return TrainingFile(paths[0], counts[paths[0]], label_layout(paths[0], labels))
    warn_of_other_crops(paths)
    first = read_crop(paths[0])
    with RecordWriter(cache) as writer:
        for path in paths:
            skip = set(bad[path])
            for number, (label, jpeg) in enumerate(read_raw(path, labels)):
                if number not in skip:
                    writer.write_labels(label, jpeg)
        if writer.count == 0:
            raise AgedgeError(f"{paths[0]}: contains no readable image")
        writer.info = {"crop": first.to_json() if first else None, "merged": [str(path) for path in paths]}
    return TrainingFile(cache, writer.count, ",".join(LAYOUT))


def _find_bad_images(path: Path, labels: str = "auto") -> List[int]:
    """Return the numbers of the records that cannot be decoded (at an eighth of their size, as a quick check)."""

    def readable(record: tuple) -> bool:
        return decode(record[1], cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None

    bad: List[int] = []
    records, first = read_raw(path, labels), 0
    with ThreadPoolExecutor(2) as pool:
        while chunk := list(islice(records, 4096)):
            bad += [first + number for number, good in enumerate(pool.map(readable, chunk)) if not good]
            first += len(chunk)
    return bad
