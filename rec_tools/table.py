"""Tables of labels, CSV or TSV, as data sets are distributed and as spreadsheets save them.

The separator is what the header is separated by. A line is a row: a quote left open spoils its own line and no other.
"""

import csv
import logging
import math
import re
from pathlib import Path
from typing import Iterable, Iterator, Sequence, Tuple, Union

from agedge.errors import AgedgeError
from agedge.labels import FEMALE, MALE, UNKNOWN, Label
from rec_tools.age_groups import parse_age
from rec_tools.rows import Dropped

log = logging.getLogger(__name__)

SEPARATORS = (",", ";", "\t", "|")
GENDERS = {"f": FEMALE, "female": FEMALE, "0": FEMALE, "m": MALE, "male": MALE, "1": MALE}
GENDERS.update(dict.fromkeys(("", "-1", "u", "none", "nan", "unknown"), UNKNOWN))

_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how Python carries bytes that are no UTF-8


def read_table(
    path, needs: Sequence[str] = (), file_columns: Sequence[str] = ()
) -> Iterator[Tuple[int, Union[dict, Dropped]]]:
    """(line number, cells) of every line below the header; empty lines are passed over.

    `cells` are {column: text}, columns in small letters, both without the blanks around them. A line with cells missing
    or too many, or with nothing in one of the `file_columns`, is `Dropped`. Raises `AgedgeError` where the file is
    missing, empty or not UTF-8, or has not the columns that it `needs`.
    """
    path = Path(path)
    lines = read_lines(path)
    columns, separator = _read_header(path, lines)
    if not {*needs, *file_columns} <= set(columns):
        raise lacks_columns(path, ", ".join((*file_columns, *needs)), columns)
    for number, line in lines:
        where = f"{path.name}, line {number}"
        try:
            cells = _split(line, separator)
        except csv.Error as error:
            yield number, Dropped(where, "line not understood", str(error))
            continue
        while len(cells) > len(columns) and not cells[-1]:  # separators at the end, as spreadsheets leave them
            cells.pop()
        if not any(cells):
            continue
        row = dict(zip(columns, cells))
        if len(cells) != len(columns):
            detail = f"{len(cells)} cells under {len(columns)} columns"
            yield number, Dropped(where, "line with cells missing or too many", detail)
        elif not all(row[column] for column in file_columns):
            yield number, Dropped(where, "row without a file")
        else:
            yield number, row


def read_columns(path) -> tuple:
    """The names in a table's header, in small letters. Raises `AgedgeError` as `read_table` does."""
    return _read_header(Path(path), read_lines(Path(path)))[0]


def lacks_columns(path, needs: str, columns: Iterable[str]) -> AgedgeError:
    """The answer to a table of other columns: what it needs, and what it has."""
    return AgedgeError(f"{path}: needs the columns {needs}; it has {', '.join(filter(None, columns)) or 'none'}")


def read_lines(path: Path) -> Iterator[Tuple[int, str]]:
    """(number, text without its end) of every line, of a text in UTF-8 with whatever ends of lines, with a byte order
    mark or without. Raises `AgedgeError` that names the line where it is of another encoding."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                if not line.isascii() and (wrong := _NOT_UTF8.search(line)):
                    byte = ord(wrong[0]) - 0xDC00
                    raise AgedgeError(f"{path}: line {number}: not UTF-8 (byte 0x{byte:02X}); save it as UTF-8")
                yield number, line.rstrip("\n")
    except FileNotFoundError:
        raise AgedgeError(f"{path}: missing") from None


def find_tables(root, names: dict, places: Sequence[str] = ("",)) -> dict:
    """{part: path} of the tables `names` {part: file name}, each from the first of `places` in `root` that holds it.

    A part without its table is logged. Raises `AgedgeError` that names what was looked for where there is none at all.
    """
    if not Path(root).is_dir():
        raise AgedgeError(f"{root}: no such folder")
    candidates = {part: [Path(root) / place / name for place in places] for part, name in names.items()}
    found = {part: next((path for path in paths if path.is_file()), None) for part, paths in candidates.items()}
    if not any(found.values()):
        where = " or ".join(f"in {place or 'it'}" for place in places)
        raise AgedgeError(f"{root}: none of {', '.join(names.values())} {where}")
    for part, path in found.items():
        if not path:
            log.info("%s: no %s: that part of the set is left out", root, names[part])
    return {part: path for part, path in found.items() if path}


def read_label(row_id: str, gender: str, age: str) -> Union[Label, Dropped]:
    """The label of two cells: gender as in GENDERS, and what `parse_age` knows; or why there is none."""
    known = GENDERS.get(gender.lower().removesuffix(".0"))  # 1.0: a column of numbers with gaps, as pandas writes it
    if known is None:
        return Dropped(row_id, "gender not understood", gender)
    try:
        return Label(known, *parse_age(age))
    except ValueError as error:
        return Dropped(row_id, "age not understood", str(error))


def read_box(texts: Sequence[str]) -> Tuple[float, float, float, float]:
    """x1, y1, x2, y2 in pixels. Raises `ValueError` where they are no box."""
    x1, y1, x2, y2 = map(float, texts)
    if not (x1 < x2 and y1 < y2 and all(map(math.isfinite, (x1, y1, x2, y2)))):
        raise ValueError(f"{x1:g}, {y1:g} to {x2:g}, {y2:g} is no box")
    return x1, y1, x2, y2


def _read_header(path: Path, lines: Iterator[Tuple[int, str]]) -> Tuple[tuple, str]:
    """The columns and the separator, from the first line that is not empty."""
    header = next((line for _, line in lines if line.strip()), None)
    if header is None:
        raise AgedgeError(f"{path}: empty")
    columns = {separator: _columns(header, separator) for separator in SEPARATORS}
    separator = max(SEPARATORS, key=lambda one: len(columns[one]))
    names = columns[separator]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise AgedgeError(f"{path}: its header has the column {', '.join(twice)} twice")
    return names, separator


def _columns(header: str, separator: str) -> tuple:
    try:
        return tuple(name.lower() for name in _split(header, separator))
    except csv.Error:  # quotes that end elsewhere: another separator
        return ()


def _split(line: str, separator: str) -> list:
    """The cells of a line without the blanks around them. Raises `csv.Error`, as where a quote is left open."""
    return [cell.strip() for cell in next(csv.reader((line,), delimiter=separator, strict=True), ())]
