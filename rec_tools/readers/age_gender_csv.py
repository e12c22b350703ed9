"""age_gender.csv: UTKFace as 48x48 grey pixels in one table, 23,705 or 27,305 rows.

Columns: age, ethnicity, gender (0 male, 1 female), img_name, pixels (2,304 numbers 0 to 255, row by row). The name is
only the time in UTKFace's file name, so a few faces have the same name.
"""

from pathlib import Path
from typing import Dict, Union

import cv2
import numpy as np

from rec_tools.formats.table import check_columns, read_label, read_table, whole_rows
from rec_tools.readers.utkface import GENDERS, RACES
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "age_gender.csv (UTKFace as 48x48 grey pixels)"
TERMS = "age_gender.csv is made from UTKFace: non-commercial research only; the images belong to their owners"
TABLE = "age_gender.csv"
SIDE = 48


def read(root: Path) -> Rows:
    """Yield the rows of `root/age_gender.csv` in order, each with its image as the bytes of a BMP.

    A row's id is its name; if a name repeats, the line is appended. Raises `AgedgeError` if there is no such table.
    """
    seen, table = set(), Path(root) / TABLE
    check_columns(table, ((cells.get("gender", ""), cells.get("age", "")) for cells in whole_rows(table)))
    for number, cells in read_table(table, ("age", "ethnicity", "gender", "img_name", "pixels")):
        if isinstance(cells, Dropped):
            yield cells
            continue
        name = cells["img_name"]
        row_id = f"{name or TABLE}, line {number}" if name in seen or not name else name
        seen.add(name)
        yield read_row(cells, row_id)


def read_row(cells: Dict[str, str], row_id: str) -> Union[Row, Dropped]:
    """Return the row of a line of the table, or why it is dropped."""
    label = read_label(row_id, cells["gender"], cells["age"], coding=GENDERS)
    if isinstance(label, Dropped):
        return label
    try:
        pixels = np.frombuffer(bytes(map(int, cells["pixels"].split())), np.uint8)
        image = pixels.reshape(SIDE, SIDE)
    except ValueError as error:
        return Dropped(row_id, "pixels not understood", str(error))
    race = cells["ethnicity"]
    return Row(row_id, encode(image), label, race=RACES[int(race)] if race in tuple("01234") else race or None)


def encode(image: np.ndarray) -> bytes:
    """Encode a grey image (h, w) as a BMP, which is lossless and fast."""
    return cv2.imencode(".bmp", image)[1].tobytes()
