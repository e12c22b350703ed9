"""A user's own faces: a table (CSV) with a header and one row a face.

Columns: `file` (relative to the table); `age` in years or a group ("20-29", "more than 70"), or `age_min` and
`age_max`; `gender` (f, m, female, male, 0 female, 1 male, or empty: unknown); and if wanted `identity`, `fold` (a
number or a word), `race`, and `x1`, `y1`, `x2`, `y2`: the box of the face in pixels, where a photograph shows several.
"""

import re
from pathlib import Path
from typing import Optional

from rec_tools.rows import Dropped, Row, Rows
from rec_tools.table import lacks_columns, read_box, read_columns, read_label, read_table

SOURCE = "faces of a user's CSV"
TERMS = "as the owner of the pictures allows"
BOX = ("x1", "y1", "x2", "y2")


def read(root: Path, *, table: Optional[Path] = None) -> Rows:
    """The rows of `table`, by default `root/faces.csv`, in its order. A row's id is its file, with the box if it has
    one."""
    table = find_table(root, table)
    columns = read_columns(table)
    if "file" not in columns or not ({"age", "gender"} & set(columns) or {"age_min", "age_max"} <= set(columns)):
        raise lacks_columns(table, "file and age (or age_min, age_max) or gender", columns)
    for _, cells in read_table(table, file_columns=("file",)):
        yield cells if isinstance(cells, Dropped) else read_row(cells, table.parent)


def find_table(root: Path, table: Optional[Path] = None) -> Path:
    return Path(table) if table else Path(root) / "faces.csv"


def find_images(root: Path, *, table: Optional[Path] = None) -> Path:
    """The table's folder: what lies outside of it is not read."""
    return find_table(root, table).parent


def read_row(cells: dict, folder: Path):
    """A row, or why it is none."""
    name, fold, corners = cells["file"], cells.get("fold", ""), [cells.get(key, "") for key in BOX]
    box, row_id = None, name
    if any(corners):
        row_id = f"{name}#{','.join(corners)}"
        try:
            box = read_box(corners)
        except ValueError as error:
            return Dropped(row_id, "box not understood", str(error))
    if not re.fullmatch(r"[\w-]*", fold.removesuffix(".0")):
        return Dropped(row_id, "fold not understood", fold)
    label = read_label(row_id, cells.get("gender", ""), read_age(cells))
    if isinstance(label, Dropped):
        return label
    return Row(
        row_id,
        folder / name,
        label,
        identity=cells.get("identity") or None,
        fold=fold.removesuffix(".0") or None,
        race=cells.get("race") or None,
        box=box,
    )


def read_age(cells: dict) -> str:
    """The text of a row's age: of `age_min` and `age_max` where it has them, else of `age`."""
    low, high = cells.get("age_min", ""), cells.get("age_max", "")
    return f"{low} to {high}" if low or high else cells.get("age", "")
