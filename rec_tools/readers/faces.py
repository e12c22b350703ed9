"""A user's own faces: a CSV with a header and one row a face.

Columns: `file` (relative to the CSV); `age` in years or a group ("20-29", "more than 70"), or `age_min` and `age_max`;
`gender` (f, m, female, male, 0 female, 1 male, or empty: unknown); and if wanted `identity`, `fold`, `race`.
"""

import csv
import re
from pathlib import Path
from typing import Optional

from agedge.errors import AgedgeError
from agedge.labels import FEMALE, MALE, MAX_AGE, UNKNOWN, Label
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "faces of a user's CSV"
TERMS = "as the owner of the pictures allows"
GENDERS = {"f": FEMALE, "female": FEMALE, "0": FEMALE, "m": MALE, "male": MALE, "1": MALE, "": UNKNOWN, "-1": UNKNOWN}

_GROUP = re.compile(r"(\d+)\s*(?:-|to)\s*(\d+)$")
_OPEN_GROUP = re.compile(r"(?:more than|over)\s*(\d+)$|(\d+)\+$")


def read(root: Path, *, table: Optional[Path] = None) -> Rows:
    """The rows of `table`, by default `root/faces.csv`, in its order."""
    table = Path(table) if table else Path(root) / "faces.csv"
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front of the header
        with open(table, encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            columns = set(lines.fieldnames or ())
            if "file" not in columns or not ({"age", "gender"} & columns or {"age_min", "age_max"} <= columns):
                raise AgedgeError(
                    f"{table}: needs the columns file and age (or age_min, age_max) or gender; it has "
                    f"{', '.join(sorted(columns)) or 'none'}"
                )
            for line in lines:
                yield read_line(line, table.parent)
    except FileNotFoundError:
        raise AgedgeError(f"{table}: missing") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise AgedgeError(f"{table}: not a CSV in UTF-8: {error}") from None


def read_line(line: dict, folder: Path):
    """A row, or why it is none."""
    value = {key: (text or "").strip() for key, text in line.items() if isinstance(key, str)}
    name = value["file"]
    if not name:
        return Dropped("(no file)", "row without a file")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return Dropped(name, "path leaves the folder")
    try:
        age = (value["age_min"], value.get("age_max", "")) if value.get("age_min") else parse_age(value.get("age", ""))
        gender = GENDERS.get(value.get("gender", "").lower())
        if gender is None:
            return Dropped(name, "gender not understood", value["gender"])
        label = Label(gender, *map(float, age))
    except ValueError as error:
        return Dropped(name, "age not understood", str(error))
    return Row(name, folder / name, label, value.get("identity"), value.get("fold"), value.get("race"))


def parse_age(text: str) -> tuple:
    """(age_min, age_max) of "", "34", "20-29", "more than 70", "70+". Raises `ValueError`."""
    text = text.lower()
    if not text:
        return UNKNOWN, UNKNOWN
    if group := _GROUP.match(text):
        return group[1], group[2]
    if group := _OPEN_GROUP.match(text):
        return group[1] or group[2], MAX_AGE
    return float(text), float(text)
