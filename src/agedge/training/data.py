"""The records of a run: opened, checked, and brought into the one file that MXNet's reader takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agedge.batches import prepare_training_file
from agedge.errors import AgedgeError
from agedge.faces.crop import Crop
from agedge.records import read_crop, read_raw

LABELS = (("age", "age", 1), ("p_male", "gender", 0))  # an answer, what it is of, its column in the labels


@dataclass(frozen=True)
class TrainingData:
    """`train`: a .rec of readable faces, `count` of them, with labels of `layout`. `val`: the .rec files to validate
    on, whose labels are of `val_layout`. `crop`: how the training faces were cut, where that is known."""

    train: Path
    count: int
    layout: str
    val: list
    val_layout: str
    crop: Optional[Crop]


def open_data(recipe, cache: Path, answers: dict) -> TrainingData:
    """Check the data that a recipe names for a network with these `answers`. Raises `AgedgeError` where a file cannot
    be used, holds too few faces, or no known label of what the network answers."""
    known = {what: column for answer, what, column in LABELS if answer in answers}
    columns = list(known.values())
    paths, val = find_files(recipe, "train"), find_files(recipe, "val")
    for path in (*paths, *val, *find_files(recipe, "test")):
        if not any(label[columns].max() >= 0 for label, _ in read_raw(path, recipe.data.labels)):
            raise AgedgeError(f"{path}: no record with a known {' or '.join(known)}")
    file, count, layout = prepare_training_file(paths, cache, recipe.data.labels)
    if recipe.train.batch_size > count:
        raise AgedgeError(f"{file}: {count} faces, too few for train.batch_size={recipe.train.batch_size}")
    return TrainingData(file, count, layout, val, recipe.data.labels, read_crop(paths[0]))


def find_files(recipe, part: str) -> list:
    """The files of `data.train`, `data.val` or `data.test`. Raises `AgedgeError` where a run needs them and the recipe
    names none."""
    value = recipe.data[part]
    paths = [Path(path) for path in (value if isinstance(value, (list, tuple)) else [value]) if path]
    if not paths and part != "test":
        raise AgedgeError(f"data.{part}: not given; say data.{part}=FILE.rec (python -m rec_tools pack makes one)")
    return paths
