"""Cross-validation: the folds, and their files, that each split uses for training, validation and test.

A packed dataset is a folder of fold0.rec, fold1.rec, .. or, with a fixed split, of train.rec, val.rec and an optional
test.rec. `python -m agedge.training.data.folds DIR` prints the split numbers of a folder of folds.
"""

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from agedge.errors import AgedgeError, UsageError


class Split(NamedTuple):
    """The numbers of the folds that a split uses for training, validation and test."""

    train: Tuple[int, ...]
    val: Tuple[int, ...]
    test: Tuple[int, ...]


# The usual five splits of ten folds, such as those of the facial age benchmark (Paplham and Franc, CVPR 2024).
# They are unchanged, so that results can be compared: folds 3 and 4 are in two test sets, folds 6 and 7 in none.
TEN_FOLDS = (
    Split((0, 1, 2, 3, 4, 5), (6, 7), (8, 9)),
    Split((2, 3, 4, 5, 6, 7), (8, 9), (0, 1)),
    Split((4, 5, 6, 7, 8, 9), (0, 1), (2, 3)),
    Split((5, 6, 7, 8, 9, 0), (1, 2), (3, 4)),
    Split((6, 7, 8, 9, 0, 1), (2, 3), (4, 5)),
)


def count_splits(folds: int) -> int:
    """Return the number of splits: 5 for ten folds, else one per fold. Raises `UsageError` for fewer than 3 folds."""
    if folds < 3:
        raise UsageError(f"{folds} folds: must be at least 3, for training, validation and test")
    return len(TEN_FOLDS) if folds == 10 else folds


def split_of_folds(folds: int, number: int) -> Split:
    """Return the split with a number. Raises `UsageError` if it does not exist.

    Ten folds use the benchmark's table. For any other number of folds, fold `number` is the test set, the next fold is
    the validation set, and the rest are the training set. With one person per fold, this is leave-one-person-out.
    """
    if not 0 <= number < count_splits(folds):
        raise UsageError(f"--split {number}: must be from 0 to {count_splits(folds) - 1} for {folds} folds")
    if folds == 10:
        return TEN_FOLDS[number]
    after = (number + 1) % folds
    return Split(tuple(fold for fold in range(folds) if fold not in (number, after)), (after,), (number,))


def find_folds(folder: Path) -> List[Path]:
    """Return the paths of fold0.rec, fold1.rec, .. Raises `AgedgeError` if there are none or one is missing,
    `UsageError` if the folder has a fixed split."""
    names = (re.fullmatch(r"fold(0|[1-9]\d*)", path.stem) for path in folder.glob("fold*.rec"))
    numbers = sorted(int(name[1]) for name in names if name)
    if not numbers and (folder / "train.rec").is_file():
        raise UsageError(f"{folder}: has a fixed split (train.rec), not folds: use --data-dir without --split")
    if not numbers:
        raise AgedgeError(
            f"{folder}: fold0.rec, fold1.rec, .. do not exist (create them with python -m rec_tools pack --folds 5)"
        )
    for expected, number in enumerate(numbers):
        if number != expected:
            raise AgedgeError(f"{folder / f'fold{expected}.rec'}: does not exist, but fold{number}.rec does")
    return [folder / f"fold{number}.rec" for number in numbers]


def find_splits(folder: Path, number: Optional[int] = None) -> Dict[str, List[Path]]:
    """Return the files for training, validation and test as {"train": ..., "val": ..., "test": ...}.

    They belong to split `number` of the folds in a folder or, if that is None, to its fixed split (test.rec only if it
    exists).
    """
    if number is not None:
        folds = find_folds(folder)
        split = split_of_folds(len(folds), number)
        return {name: [folds[fold] for fold in numbers] for name, numbers in split._asdict().items()}
    if (folder / "fold0.rec").is_file() and not (folder / "train.rec").is_file():
        raise UsageError(f"{folder}: has folds, not a fixed split: choose a split with --split 0, --split 1, ..")
    test = folder / "test.rec"
    return {"train": [folder / "train.rec"], "val": [folder / "val.rec"], "test": [test] if test.is_file() else []}


def main(folder: Path) -> None:
    """Print the split numbers of the folds in FOLDER."""
    print(*range(count_splits(len(find_folds(folder)))))


if __name__ == "__main__":
    from agedge.cli import run_command

    run_command(main)
