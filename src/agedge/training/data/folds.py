"""Cross-validation: the folds that each split trains, validates and tests on, and their files.

A packed dataset is a folder of fold0.rec, fold1.rec, .., or, where its split is fixed, of train.rec, val.rec and
optionally test.rec. `python -m agedge.training.data.folds DIR` prints the numbers of the splits of the folds in a
folder.
"""

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from agedge.errors import AgedgeError, UsageError


class Split(NamedTuple):
    """The numbers of the folds that a split trains, validates and tests on."""

    train: Tuple[int, ...]
    val: Tuple[int, ...]
    test: Tuple[int, ...]


# The five splits in use over ten folders, such as those of the facial age benchmark (Paplham and Franc, CVPR 2024).
# Kept as they are, for comparison: folders 3 and 4 are tested on twice, 6 and 7 never.
TEN_FOLDERS = (
    Split((0, 1, 2, 3, 4, 5), (6, 7), (8, 9)),
    Split((2, 3, 4, 5, 6, 7), (8, 9), (0, 1)),
    Split((4, 5, 6, 7, 8, 9), (0, 1), (2, 3)),
    Split((5, 6, 7, 8, 9, 0), (1, 2), (3, 4)),
    Split((6, 7, 8, 9, 0, 1), (2, 3), (4, 5)),
)


def count_splits(folds: int) -> int:
    """Return the number of splits of so many folds: five of ten, else one a fold. Raises `UsageError` below 3."""
    if folds < 3:
        raise UsageError(f"{folds} folds: at least 3 are needed, to train, validate and test on")
    return len(TEN_FOLDERS) if folds == 10 else folds


def split_of_folds(folds: int, number: int) -> Split:
    """Return the split of a number. Raises `UsageError` where that does not exist.

    Ten folds follow the benchmark's table. With any other number of folds, fold `number` is tested on, the next one is
    validated on, and the rest are trained on. With one person a fold, that is leave-one-person-out.
    """
    if not 0 <= number < count_splits(folds):
        raise UsageError(f"--split {number}: of {folds} folds, a number from 0 to {count_splits(folds) - 1}")
    if folds == 10:
        return TEN_FOLDERS[number]
    after = (number + 1) % folds
    return Split(tuple(fold for fold in range(folds) if fold not in (number, after)), (after,), (number,))


def find_folds(folder: Path) -> List[Path]:
    """Return the paths of fold0.rec, fold1.rec, .. Raises `AgedgeError` where there are none or one is missing,
    `UsageError` where the folder has a fixed split."""
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


def find_splits(folder: Path, number: Optional[int] = None) -> Dict[str, List[Path]]:
    """Return the files to train, validate and test on as {"train": ..., "val": ..., "test": ...}.

    They are those of split `number` of the folds in a folder or, where that is None, those of its fixed split (test.rec
    only where it exists).
    """
    if number is not None:
        folds = find_folds(folder)
        split = split_of_folds(len(folds), number)
        return {name: [folds[fold] for fold in numbers] for name, numbers in split._asdict().items()}
    if (folder / "fold0.rec").is_file() and not (folder / "train.rec").is_file():
        raise UsageError(f"{folder}: holds folds: choose a split of them by --split 0, --split 1, ..")
    test = folder / "test.rec"
    return {"train": [folder / "train.rec"], "val": [folder / "val.rec"], "test": [test] if test.is_file() else []}


def main(folder: Path) -> None:
    """Print the numbers of the splits of the folds in FOLDER."""
    print(*range(count_splits(len(find_folds(folder)))))


if __name__ == "__main__":
    from agedge.cli import run_command

    run_command(main)
