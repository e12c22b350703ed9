"""MegaAge-Asian: 43,945 faces of Asian people, ages 0 to 70, no gender, as images of 178x218 pixels.

Zhang, Liu, Li, Loy: "Quantifying facial age by posterior of age comparisons", BMVC 2017. The labels are four lists
with one value per line: the names of a split's images, and in the same order their ages.
"""

from pathlib import Path
from typing import List, Union

from agedge.errors import AgedgeError
from rec_tools.formats.table import find_tables, read_label, read_lines
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "MegaAge-Asian (Zhang et al., BMVC 2017)"
TERMS = "MegaAge-Asian: non-commercial research only; the images come from the Internet and belong to their owners"

NAMES = {"train": "list/train_name.txt", "test": "list/test_name.txt"}
PLACES = ("", "megaage_asian")  # the folder in its archive


def read(root: Path) -> Rows:
    """Yield the rows of the official splits that are present, train first; a row's id is "train/1.jpg".

    Raises `AgedgeError` if a list is missing, or if the lists of names and ages differ in length.
    """
    for fold, names in find_tables(root, NAMES, PLACES).items():
        ages = names.with_name(f"{fold}_age.txt")
        name_lines, age_lines = read_list(names), read_list(ages)
        if len(name_lines) != len(age_lines):
            raise AgedgeError(f"{names}: {len(name_lines)} names, but {len(age_lines)} ages in {ages}")
        for number, (name, age) in enumerate(zip(name_lines, age_lines), 1):
            if name:
                yield read_row(f"{fold}/{name}", age, names.parents[1], fold)
            else:
                yield Dropped(f"{names.name}, line {number}", "row without a file")


def read_row(path: str, age: str, folder: Path, fold: str) -> Union[Row, Dropped]:
    """Return the row of a line of the table, or why it is dropped."""
    label = read_label(path, "", age)
    return label if isinstance(label, Dropped) else Row(path, folder / path, label, fold=fold)


def read_list(path: Path) -> List[str]:
    """Return the lines of a list, without empty ones at its end; those in the middle keep their place."""
    lines = [line.strip() for _, line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    return lines
