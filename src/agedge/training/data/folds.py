"""Cross-validation: which folds of a data set a split trains, validates and tests on, and where their files are.

A packed data set is a folder of fold0.rec, fold1.rec, .., or of train.rec, val.rec and perhaps test.rec where its split
is fixed. `python -m agedge.training.data.folds DIR` prints the numbers of the splits over the folds in a folder.
"""

import re
from pathlib import Path
from typing import Optional

from agedge.errors import AgedgeError, UsageError

# Train, validation and test folders of the five splits in use over ten folders, such as the facial age benchmark's
# (Paplham and Franc, CVPR 2024). Kept as they are, for comparison: folders 3 and 4 are tested on twice, 6 and 7 never.
TEN_FOLDERS = (
    ((0, 1, 2, 3, 4, 5), (6, 7), (8, 9)),
    ((2, 3, 4, 5, 6, 7), (8, 9), (0, 1)),
    ((4, 5, 6, 7, 8, 9), (0, 1), (2, 3)),
    ((5, 6, 7, 8, 9, 0), (1, 2), (3, 4)),
    ((6, 7, 8, 9, 0, 1), (2, 3), (4, 5)),
)


def count_splits(folds: int) -> int:
    """How many splits there are over so many folds: five over ten, else one a fold. Raises `UsageError` below 3."""
    if folds < 3:
        raise UsageError(f"{folds} folds: at least 3 are needed, to train, validate and test on")
    return len(TEN_FOLDERS) if folds == 10 else folds


def split_of_folds(folds: int, number: int) -> tuple:
    """(train, validation, test) of a split, tuples of fold numbers. Raises `UsageError` where there is no such split.

    Ten folders follow the benchmark's table; of any other number of folds, fold `number` is tested on, the next one is
    validated on, and the rest trained on. With a person a fold, that is leave-one-person-out.
    """
    if not 0 <= number < count_splits(folds):
        raise UsageError(f"--split {number}: of {folds} folds, a number from 0 to {count_splits(folds) - 1}")
    if folds == 10:
        return TEN_FOLDERS[number]
    after = (number + 1) % folds
    return tuple(fold for fold in range(folds) if fold not in (number, after)), (after,), (number,)


def find_folds(folder: Path) -> list:
    """The paths of fold0.rec, fold1.rec, .. Raises `AgedgeError` where there are none or one is missing, `UsageError`
    where the folder's split is a fixed one."""
    names = (re.fullmatch(r"fold(0|[1-9]\d*)", path.stem) for path in folder.glob("fold*.rec"))
    numbers = sorted(int(name[1]) for name in names if name)
    if not numbers and (folder / "train.rec").is_file():
        raise UsageError(f"{folder}: holds train.rec, a fixed split, not folds: train.py --data-dir alone trains on it")
    if not numbers:
        raise AgedgeError(
            f"{folder}: no fold0.rec, fold1.rec, .. in it (python -m rec_tools pack --folds 5 makes them)"
        )
    for expected, number in enumerate(numbers):
        if number != expected:
            raise AgedgeError(f"{folder / f'fold{expected}.rec'}: missing, while fold{number}.rec is there")
    return [folder / f"fold{number}.rec" for number in numbers]


def find_parts(folder: Path, split: Optional[int] = None) -> dict:
    """The files to train, validate and test on, lists of paths by "train", "val" and "test": of a split over the folds
    in a folder, or, without a split, those of its fixed one (test.rec only where it is there)."""
    if split is not None:
        folds = find_folds(folder)
        return {
            part: [folds[number] for number in numbers]
            for part, numbers in zip(("train", "val", "test"), split_of_folds(len(folds), split))
        }
    if (folder / "fold0.rec").is_file() and not (folder / "train.rec").is_file():
        raise UsageError(f"{folder}: holds folds: say which split of them to train on by --split 0, --split 1, ..")
    test = folder / "test.rec"
    return {"train": [folder / "train.rec"], "val": [folder / "val.rec"], "test": [test] if test.is_file() else []}


def main(folder: Path) -> None:
    """The numbers of the splits over the folds in FOLDER."""
    print(*range(count_splits(len(find_folds(folder)))))


if __name__ == "__main__":
    from agedge.cli import run_command

    run_command(main)
