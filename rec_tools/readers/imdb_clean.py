"""IMDB-Clean: the faces of IMDB-WIKI, their ages and genders cleaned, with an official split.

Lin, Shen, Wang, Pantic: "FP-Age: Leveraging face parsing attention for facial age estimation in the wild", IEEE TIP
2022 (arXiv 2106.11145). Images are crops around the face with its own width and height as a margin on every side, at
most 1024 pixels; the tables give the box of the face in them.
"""

import re
from pathlib import Path
from typing import Dict, Union

from agedge.errors import AgedgeError
from rec_tools.formats.table import (
    FieldFaults,
    check_columns,
    find_tables,
    read_box,
    read_label,
    read_table,
    whole_rows,
)
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "IMDB-Clean (Lin et al., FP-Age, 2021)"
TERMS = (
    "IMDB-Clean: its annotations are under the MIT licence; its images are those of IMDB-WIKI, for academic research "
    "only, and belong to their owners"
)
ALIGN = "set"

TABLES = {"train": "imdb_train_new_1024.csv", "val": "imdb_valid_new_1024.csv", "test": "imdb_test_new_1024.csv"}
# The tables are in csvs/ of the authors' repository, or where its script writes them: among the images.
IMAGES = ("imdb-clean-1024", "data/imdb-clean-1024", "imdb-clean-1024/imdb-clean-1024", "")
BOX = ("x_min", "y_min", "x_max", "y_max")

_PERSON = re.compile(r"(nm\d+)_")  # 38/nm2679438_rm3695806976_1989-8-15_2009.jpg


def read(root: Path) -> Rows:
    """Yield the rows of the official splits that are present, train first; a row's id is its file name in the set.

    Raises `AgedgeError` that names the missing files if `root` holds no table, or no folder of images.
    """
    tables = find_tables(root, TABLES, ("", "csvs", *IMAGES[:-1]))
    images = find_images(Path(root))
    faults = FieldFaults()
    for fold, table in tables.items():
        check_columns(table, ((cells["gender"], cells["age"]) for cells in whole_rows(table, ("age", "gender"))))
        for _, cells in read_table(table, ("age", "gender", *BOX), ("filename",)):
            yield cells if isinstance(cells, Dropped) else read_row(cells, images, fold, faults)
    faults.log(root)


def find_images(root: Path) -> Path:
    """Return the first of the known folders that contains the folders of images, which are named by two digits."""
    for place in IMAGES:
        if any((root / place).glob("[0-9][0-9]")):
            return root / place
    if not root.is_dir():
        raise AgedgeError(f"{root}: no such folder")
    raise AgedgeError(f"{root}: no images: no folders 00, 01, ... in {', '.join(filter(None, IMAGES))}, or in it")


def read_row(cells: Dict[str, str], images: Path, fold: str, faults: FieldFaults) -> Union[Row, Dropped]:
    """Return the row of a line of the table, or why it is dropped."""
    name = cells["filename"]
    label = read_label(name, cells["gender"], cells["age"], faults)
    if isinstance(label, Dropped):
        return label
    try:
        box = read_box([cells[key] for key in BOX])
    except ValueError as error:
        return Dropped(name, "box not understood", str(error))
    person = _PERSON.match(name.rpartition("/")[2])
    return Row(name, images / name, label, identity=person[1] if person else None, fold=fold, box=box)
