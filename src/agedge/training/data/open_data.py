"""Opening the data of a run: its files are checked, and give batches from wherever `data.cache` keeps the faces."""

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

LABELS = (("age", "age", 1), ("p_male", "gender", 0))  # an output of a network, its label, the column of that


@dataclass(frozen=True)
class TrainingData:
    """The open data of a run.

    `count` faces of `size` pixels are trained on: those of `faces`, or with MXNet's reader, where that is None, those
    of `file`, whose labels are of `layout`. `threads`, `balance`: see `DataSection`. `val`: the .rec files to validate
    on, whose labels are of `val_layout`. `crop`: that of the training faces, where known.
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
        """Return the batches of an epoch from number `first` on: worker i's share of those of all n, where `part` is
        (i, n). `batch_size` is that of a worker."""
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

    `cache`: where a file for MXNet's reader is written, if one is needed. `teachers`: those of the recipe. Raises
    `AgedgeError` where a file cannot be used, has too few faces, or has no known label of what the network predicts;
    `UsageError` where MXNet's reader does not have what the recipe sets.
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
    """Log a warning for each file to measure on that has images with the `checksums` of training images."""
    for path in files:
        measured = np.array([checksum(jpeg) for _, jpeg in read_raw(path, labels)], np.uint64)
        if shared := int(np.isin(measured, checksums).sum()):
            log.warning(
                "%s: %d of its %d images are trained on too: their metrics are too good",
                path,
                shared,
                len(measured),
            )


def find_files(data: DataSection, split: str) -> List[Path]:
    """Return the files of the split "train", "val" or "test". Raises `AgedgeError` if a run needs one and the recipe
    gives none."""
    value = data[split]
    paths = [Path(path) for path in (value if isinstance(value, (list, tuple)) else [value]) if path]
    if not paths and split != "test":
        raise AgedgeError(f"data.{split}: not given; set data.{split}=FILE.rec (python -m rec_tools pack makes one)")
    return paths
