"""The records of a run: opened, checked, and brought into the one file that MXNet's reader takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agedge.batches import prepare_training_file
from agedge.errors import AgedgeError, UsageError
from agedge.faces.crop import Crop
from agedge.records import read_crop, read_raw


@dataclass(frozen=True)
class TrainingData:
    """`train`: a .rec of readable faces, `count` of them, with labels of `layout`. `val`: the .rec to validate on,
    whose labels are of `val_layout`. `crop`: how the training faces were cut, where that is known."""

    train: Path
    count: int
    layout: str
    val: Path
    val_layout: str
    crop: Optional[Crop]


def open_data(recipe, cache: Path) -> TrainingData:
    """Check the data that a recipe names. Raises `AgedgeError` where a file cannot be used, or holds no known label or
    too few faces."""
    paths, val = train_paths(recipe), val_path(recipe)
    for path in (*paths, val):
        if not any(label[0] >= 0 or label[1] >= 0 for label, _ in read_raw(path, recipe.data.labels)):
            raise AgedgeError(f"{path}: no record with a known age or gender")
    file, count, layout = prepare_training_file(paths, cache, recipe.data.labels)
    if recipe.train.batch_size > count:
        raise AgedgeError(f"{file}: {count} faces, too few for train.batch_size={recipe.train.batch_size}")
    return TrainingData(file, count, layout, val, recipe.data.labels, read_crop(paths[0]))


def train_paths(recipe) -> list:
    """The files of `data.train`. Raises `AgedgeError` where it names none."""
    value = recipe.data.train
    paths = [Path(path) for path in (value if isinstance(value, (list, tuple)) else [value]) if path]
    if not paths:
        raise AgedgeError("data.train: not given; say data.train=FILE.rec (python -m rec_tools pack makes one)")
    return paths


def val_path(recipe) -> Path:
    """The file of `data.val`. Raises `AgedgeError` where it names none, `UsageError` where it names several."""
    if isinstance(recipe.data.val, (list, tuple)):
        raise UsageError("data.val: one FILE.rec, not a list")
    if not recipe.data.val:
        raise AgedgeError("data.val: not given; say data.val=FILE.rec (python -m rec_tools pack makes one)")
    return Path(recipe.data.val)
