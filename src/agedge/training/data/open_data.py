"""The records of a run: opened, checked, and given as batches from wherever `data.cache` keeps them."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.records import read_crop, read_raw
from agedge.training.data.dataset import TrainingFaces, checksum, open_faces
from agedge.training.data.image_record_iter import NativeStream, prepare_training_file
from agedge.training.data.loader import Stream
from agedge.training.data.sampling import age_weights, draw_order

log = logging.getLogger(__name__)

LABELS = (("age", "age", 1), ("p_male", "gender", 0))  # an answer, what it is of, its column in the labels


@dataclass(frozen=True)
class TrainingData:
    """`faces` to train on, or with MXNet's reader the `file` of them and the `layout` of its labels; `count` of them.
    `val`: the .rec files to validate on, whose labels are of `val_layout`. `crop`: how the training faces were cut,
    where that is known."""

    count: int
    faces: Optional[TrainingFaces]
    file: Path
    layout: str
    val: list
    val_layout: str
    crop: Optional[Crop]

    def stream(self, recipe, size: int, epoch: int, first: int, part: tuple):
        """The batches of an epoch from number `first` on, as `stream.Stream` gives them: this worker's `part` (i, n) of
        those of all n."""
        seed, batch_size = recipe.train.seed, recipe.train.batch_size * part[1]
        if self.faces is None:
            steps, threads = -(-self.count // batch_size), recipe.data.threads
            how = (size, batch_size, recipe.augment, seed, epoch, steps, threads, first, part)
            return NativeStream(self.file, self.layout, *how)
        weights = age_weights(self.faces.labels, recipe.data.balance) if recipe.data.balance else None
        order = draw_order(self.count, batch_size, seed, epoch, weights)
        return Stream(self.faces, order, batch_size, recipe.augment, seed, epoch, first, part)


def open_data(recipe, cache: Path, network) -> TrainingData:
    """Check the data that a recipe names for a network, and open it; `cache`: where MXNet's reader may have a file made
    for it. Raises `AgedgeError` where a file cannot be used, holds too few faces, or no known label of what the network
    answers, `UsageError` where MXNet's reader is to do what it cannot."""
    known = {what: column for answer, what, column in LABELS if answer in network.answers}
    columns = list(known.values())
    paths, val, test = (find_files(recipe, part) for part in ("train", "val", "test"))
    for path in (*paths, *val, *test):
        if not any(label[columns].max() >= 0 for label, _ in read_raw(path, recipe.data.labels)):
            raise AgedgeError(f"{path}: no record with a known {' or '.join(known)}")
    labels, faces, file, layout = recipe.data.labels, None, paths[0], ""
    if recipe.data.cache == "native":
        for key, value in (("data.balance", recipe.data.balance), ("distill.teachers", recipe.distill.teachers)):
            if value:
                raise UsageError(f"{key}={value}: MXNet's reader (data.cache=native) does not say which face is which")
        file, count, layout = prepare_training_file(paths, cache, labels)
        sums = np.array([checksum(jpeg) for _, jpeg in read_raw(file, layout)], np.uint64)
    else:
        faces = open_faces(paths, network.size, labels, recipe.data.cache, recipe.data.threads)
        count, sums = faces.count, faces.checksums
    if recipe.train.batch_size > count:
        raise AgedgeError(f"{file}: {count} faces, too few for train.batch_size={recipe.train.batch_size}")
    warn_of_shared_records(sums, (*val, *test), labels)
    return TrainingData(count, faces, file, layout, val, labels, read_crop(paths[0]))


def warn_of_shared_records(checksums: np.ndarray, files, labels: str) -> None:
    """A line for each of the files to measure on that has images which are trained on, by their `checksums`."""
    for path in files:
        there = np.array([checksum(jpeg) for _, jpeg in read_raw(path, labels)], np.uint64)
        if shared := int(np.isin(there, checksums).sum()):
            log.warning(
                "%s: %d of its %d images are trained on too: errors on them look better than they are",
                path,
                shared,
                len(there),
            )


def find_files(recipe, part: str) -> list:
    """The files of `data.train`, `data.val` or `data.test`. Raises `AgedgeError` where a run needs them and the recipe
    names none."""
    value = recipe.data[part]
    paths = [Path(path) for path in (value if isinstance(value, (list, tuple)) else [value]) if path]
    if not paths and part != "test":
        raise AgedgeError(f"data.{part}: not given; say data.{part}=FILE.rec (python -m rec_tools pack makes one)")
    return paths
