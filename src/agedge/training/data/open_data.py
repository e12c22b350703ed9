"""Check and open the data of a run, and create the loader for its `data.cache`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple, Union

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.records import read_crop, read_raw
from agedge.training.data.dataset import FaceDataset, checksum, open_dataset
from agedge.training.data.image_record_iter import ImageRecordLoader, prepare_training_file
from agedge.training.data.loader import FaceLoader
from agedge.training.data.sampling import age_weights, draw_order
from agedge.training.recipe import AugmentSection, DataSection

if TYPE_CHECKING:
    from mxnet.gluon import HybridBlock

log = logging.getLogger(__name__)

LABELS = (("age", "age", 1), ("p_male", "gender", 0))  # (output of a network, name of its label, column of the label)


@dataclass(frozen=True)
class TrainingData:
    """The open data of a run.

    The `count` training faces of `size` pixels are in `faces`. With MXNet's reader `faces` is None, and they are in
    `file`, with labels in the order `layout`. `threads`, `balance`: see `DataSection`. `val`: the .rec files for
    validation, with labels in the order `val_layout`. `crop`: the crop of the training faces, or None if unknown.
    """

    count: int
    size: int
    faces: Optional[FaceDataset]
    file: Path
    layout: str
    threads: int
    balance: float
    val: List[Path]
    val_layout: str
    crop: Optional[Crop]

    def load_epoch(
        self, augment: AugmentSection, batch_size: int, seed: int, epoch: int, first: int, part: Tuple[int, int]
    ) -> Union[FaceLoader, ImageRecordLoader]:
        """Return a loader for the batches of an epoch, starting at number `first`.

        `part` (i, n): this worker gets the i-th of n shares of every batch. `batch_size`: faces per worker.
        """
        batch_size *= part[1]
        if self.faces is None:
            steps = -(-self.count // batch_size)
            source = (self.file, self.layout, self.size, batch_size)
            return ImageRecordLoader(*source, augment, seed, epoch, steps, self.threads, first, part)
        weights = age_weights(self.faces.labels, self.balance) if self.balance else None
        order = draw_order(self.count, batch_size, seed, epoch, weights)
        return FaceLoader(self.faces, order, batch_size, augment, seed, epoch, first, part)


def open_data(
    data: DataSection, network: "HybridBlock", batch_size: int, cache: Path, teachers: Sequence[str] = ()
) -> TrainingData:
    """Check the files of a recipe for a network, and open them.

    `cache`: where a file for MXNet's reader is written, if one is needed. `teachers`: teachers of the recipe. Raises
    `AgedgeError` if a file cannot be used, has too few faces, or has no known label for the network's outputs;
    `UsageError` if MXNet's reader does not support a setting of the recipe.
    """
    known = {label: column for output, label, column in LABELS if output in network.answers}
    columns = list(known.values())
    paths, val, test = (find_files(data, split) for split in ("train", "val", "test"))
    for path in (*paths, *val, *test):
        if not any(label[columns].max() >= 0 for label, _ in read_raw(path, data.labels)):
            raise AgedgeError(f"{path}: no record with a known {' or '.join(known)}")
    faces, file, layout = None, paths[0], ""
    if data.cache == "native":
        for key, value in (("data.balance", data.balance), ("distill.teachers", teachers)):
            if value:
                raise UsageError(f"{key}={value}: MXNet's reader (data.cache=native) does not identify faces")
        file, count, layout = prepare_training_file(paths, cache, data.labels)
        sums = np.array([checksum(jpeg) for _, jpeg in read_raw(file, layout)], np.uint64)
    else:
        faces = open_dataset(paths, network.size, data.labels, data.cache, data.threads)
        count, sums = faces.count, faces.checksums
    if batch_size > count:
        raise AgedgeError(f"{file}: {count} faces, too few for train.batch_size={batch_size}")
    warn_of_shared_records(sums, (*val, *test), data.labels)
    crop = read_crop(paths[0])
    return TrainingData(count, network.size, faces, file, layout, data.threads, data.balance, val, data.labels, crop)


def warn_of_shared_records(checksums: np.ndarray, files: Sequence[Path], labels: str) -> None:
    """Log a warning for each validation or test file with images whose checksums are in `checksums` (training)."""
    for path in files:
        measured = np.array([checksum(jpeg) for _, jpeg in read_raw(path, labels)], np.uint64)
        if shared := int(np.isin(measured, checksums).sum()):
            log.warning(
                "%s: %d of its %d images are also training images: its metrics will be too good",
                path,
                shared,
                len(measured),
            )


def find_files(data: DataSection, split: str) -> List[Path]:
    """Return the files of the split "train", "val" or "test". Raises `AgedgeError` if a required file is not in the
    recipe."""
    value = data[split]
    paths = [Path(path) for path in (value if isinstance(value, (list, tuple)) else [value]) if path]
    if not paths and split != "test":
        raise AgedgeError(f"data.{split}: must be given as data.{split}=FILE.rec (created by python -m rec_tools pack)")
    return paths
