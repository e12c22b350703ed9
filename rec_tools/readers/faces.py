"""A user's own faces: a table (CSV) with a header and one row per face.

Columns: `file` (relative to the table); `age` in years or a group ("20-29", "more than 70"), or `age_min` and
`age_max`; `gender` (f, m, female, male, woman, man, 0 female, 1 male, or empty: unknown). Optional: `identity`, `fold`
(a number or a word), `race`, and `x1`, `y1`, `x2`, `y2`: the box of the face in pixels, if a photograph shows several.
COLUMNS lists other names of these columns.
"""

import logging
import re
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Union

from agedge.errors import AgedgeError
from agedge.label_check import MIN_OVER_DECLARED, is_mostly
from rec_tools.formats.image_paths import find_image
from rec_tools.formats.table import (
    FieldFaults,
    check_columns,
    lacks_columns,
    read_box,
    read_columns,
    read_label,
    read_table,
)
from rec_tools.rows import Dropped, Row, Rows

log = logging.getLogger(__name__)

SOURCE = "faces of a user's CSV"
TERMS = "as the owner of the images allows"
BOX = ("x1", "y1", "x2", "y2")
SIDES = ("x", "y", "width", "height")
COLUMNS = {
    "file": "image path img filename file_name filepath file_path image_path img_path image_file image_name img_name "
    "full_path photo photo_path picture pic name",
    "gender": "sex",
    "age": "years age_years age_in_years real_age",
    "age_min": "min_age age_from age_low",
    "age_max": "max_age age_to age_high",
    "identity": "person person_id subject subject_id identity_id",
    "fold": "split part",
    "race": "ethnicity",
    "x1": "left xmin x_min",
    "y1": "top ymin y_min",
    "x2": "right xmax x_max",
    "y2": "bottom ymax y_max",
    "width": "w box_width",
    "height": "h box_height",
}
LANDMARKS = ("x3", "y3")  # further points: then x1 .. y2 are not the corners of a box


def read(root: Path, *, table: Optional[Path] = None) -> Rows:
    """Yield the rows of `table`, by default `root/faces.csv`, in its order.

    Files are looked for in the table's folder and, where the table lies in `root`, in `root` and `root/images`. A row's
    id is its file, with the box if it has one. Raises `AgedgeError` if columns are missing or of another
    coding.
    """
    root, table = Path(root), find_table(root, table)
    names = name_columns(read_columns(table))
    if "file" not in names or not ({"age", "gender"} & set(names) or {"age_min", "age_max"} <= set(names)):
        raise lacks_columns(table, "file and age (or age_min, age_max) or gender", read_columns(table))
    check_columns(table, ((cells.get("gender", ""), read_age(cells)) for _, cells in _named_rows(table, names)))
    check_boxes(table, names)
    base = find_images(root, table=table)
    folders = list(dict.fromkeys((table.parent, base, base / "images")))
    faults = FieldFaults()
    for cells, named in _named_rows(table, names, dropped=True):
        yield cells if isinstance(cells, Dropped) else read_row(named, folders, faults)
    faults.log(table)


def find_table(root: Path, table: Optional[Path] = None) -> Path:
    """Return the path of the table."""
    return Path(table) if table else Path(root) / "faces.csv"


def find_images(root: Path, *, table: Optional[Path] = None) -> Path:
    """Return the folder outside of which no image is read: `root` if the table lies in it, else the table's folder."""
    folder = find_table(root, table).parent
    inside = Path(root).is_dir() and Path(root).resolve() in (folder.resolve(), *folder.resolve().parents)
    return Path(root) if inside else folder


def name_columns(columns: Sequence[str]) -> Dict[str, str]:
    """Return {column of COLUMNS: column of the header}; the name itself is preferred to its synonyms."""
    plain = {re.sub(r"[\s.-]+", "_", re.sub(r"\s*[(\[].*", "", name).strip()): name for name in columns[::-1]}
    names: Dict[str, str] = {}
    for column, others in COLUMNS.items():
        found = next((name for name in (column, *others.split()) if name in plain), None)
        if found:
            names[column] = plain[found]
    if {"width", "height", "x", "y"} <= {*names, *plain}:
        names.update({"x": plain["x"], "y": plain["y"]})
    elif {"width", "height", "x1", "y1"} <= set(names) and not {"x2", "y2"} & set(names):
        names.update({"x": names.pop("x1"), "y": names.pop("y1")})
    return names


def _named_rows(
    table: Path, names: Dict[str, str], dropped: bool = False
) -> Iterator[Tuple[Union[Dict[str, str], Dropped], Dict[str, str]]]:
    """Yield (cells or `Dropped`, {column of COLUMNS: text}) of every row."""
    for _, cells in read_table(table, file_columns=(names["file"],)):
        if isinstance(cells, Dropped):
            if dropped:
                yield cells, {}
        else:
            yield cells, {column: cells[name] for column, name in names.items()}


def check_boxes(table: Path, names: Dict[str, str]) -> None:
    """Check that the columns of boxes hold boxes, by their header and their values. Raises `AgedgeError`."""
    if not set(BOX) <= set(names):
        return
    columns = read_columns(table)
    if set(LANDMARKS) & set(columns):
        raise AgedgeError(f"{table}: its columns x1, y1, .. {columns[-1]} are landmarks, not a box x1, y1, x2, y2")
    total, bad, example = 0, 0, ""
    for _, cells in _named_rows(table, names):
        corners = [cells[key] for key in BOX]
        if any(corners):
            total += 1
            try:
                read_box(corners)
            except ValueError as error:
                bad, example = bad + 1, example or f"{cells['file']}: {error}"
    if is_mostly(bad, total, MIN_OVER_DECLARED):
        raise AgedgeError(
            f"{table}: {bad} of {total} boxes are not x1, y1, x2, y2 with x1 < x2 and y1 < y2, such as {example} "
            "(x, y, width, height? landmarks?)"
        )


def read_row(cells: Dict[str, str], folders: List[Path], faults: FieldFaults) -> Union[Row, Dropped]:
    """Return the row of a line of the table, or why it is dropped."""
    name, image = find_image(cells["file"], folders)
    corners, box, row_id = [cells.get(key, "") for key in BOX], None, name
    sides = [cells.get(key, "") for key in SIDES]
    if any(sides) and "width" in cells:
        corners = sides
    if any(corners):
        row_id = f"{name}#{','.join(corners)}"
        try:
            box = read_box(_add_sides(sides) if corners is sides else corners)
        except ValueError as error:
            return Dropped(row_id, "box not understood", str(error))
    fold = cells.get("fold", "").removesuffix(".0")
    if not re.fullmatch(r"[\w-]*", fold):
        return Dropped(row_id, "fold not understood", cells["fold"])
    label = read_label(row_id, cells.get("gender", ""), read_age(cells), faults, age_needed=False)
    if isinstance(label, Dropped):
        return label
    return Row(
        row_id,
        image,
        label,
        identity=cells.get("identity") or None,
        fold=fold or None,
        race=cells.get("race") or None,
        box=box,
    )


def _add_sides(sides: Sequence[str]) -> List[str]:
    """Convert x, y, width, height to x1, y1, x2, y2, as texts. Raises `ValueError`."""
    x, y, width, height = (float(text.replace(",", ".")) for text in sides)
    return [str(value) for value in (x, y, x + width, y + height)]


def read_age(cells: Dict[str, str]) -> str:
    """Return the text of a row's age: from `age_min` and `age_max` if it has them, else from `age`."""
    low, high = cells.get("age_min", ""), cells.get("age_max", "")
    return f"{low} to {high}" if low or high else cells.get("age", "")
