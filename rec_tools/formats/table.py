"""Tables of labels, CSV or TSV, as data sets are distributed and as spreadsheets save them.

The separator is what the header is separated by. A line is a row: a quote left open spoils its own line and no other.
"""

import codecs
import contextlib
import csv
import logging
import math
import re
from array import array
from pathlib import Path
from typing import Iterable, Iterator, Optional, Sequence, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.label_check import FEW, find_misfit
from agedge.labels import FEMALE, LAYOUT, MALE, UNKNOWN, Label
from rec_tools.formats.age_groups import parse_age
from rec_tools.rows import Dropped

log = logging.getLogger(__name__)

SEPARATORS = (",", ";", "\t", "|")
FEMALE_WORDS = ("0", "f", "female", "females", "w", "woman", "women", "girl", "girls", "lady", "ladies")
MALE_WORDS = ("1", "m", "male", "males", "man", "men", "boy", "boys", "gentleman", "gentlemen")
UNKNOWN_WORDS = ("", "-1", "u", "none", "nan", "unknown", "unk", "null", "na", "n/a", "?", "-", "9999")
GENDERS = {
    **dict.fromkeys(FEMALE_WORDS, FEMALE),
    **dict.fromkeys(MALE_WORDS, MALE),
    **dict.fromkeys(UNKNOWN_WORDS, UNKNOWN),
}
_SEPARATOR_LINE = re.compile(r"sep=.?")  # how spreadsheets are told the separator, above the header
EXAMPLES = 3  # of each fault, in the line that counts them

_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how Python carries bytes that are not UTF-8


def read_table(
    path, needs: Sequence[str] = (), file_columns: Sequence[str] = ()
) -> Iterator[Tuple[int, Union[dict, Dropped]]]:
    """(line number, cells) of every line below the header; empty lines are passed over.

    `cells` are {column: text}, columns in small letters, both without the blanks around them. A line with cells missing
    or too many, or with nothing in one of the `file_columns`, is `Dropped`. Raises `AgedgeError` where the file is
    missing, empty or of an unknown encoding, or has not the columns that it `needs`.
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


def whole_rows(path, needs: Sequence[str] = ()) -> Iterator[dict]:
    """Yield the cells of the rows that `read_table` does not drop."""
    return (cells for _, cells in read_table(path, needs) if not isinstance(cells, Dropped))


def read_columns(path) -> tuple:
    """The names in a table's header, in small letters. Raises `AgedgeError` as `read_table` does."""
    return _read_header(Path(path), read_lines(Path(path)))[0]


def lacks_columns(path, needs: str, columns: Iterable[str]) -> AgedgeError:
    """The answer to a table of other columns: what it needs, and what it has."""
    return AgedgeError(f"{path}: needs the columns {needs}; it has {', '.join(filter(None, columns)) or 'none'}")


def read_lines(path: Path) -> Iterator[Tuple[int, str]]:
    """Yield (number, text without its end) of every line, whatever the ends of lines.

    The text is UTF-8 or UTF-16 with a byte order mark or without, or what spreadsheets of western systems write
    (cp1252), which is logged. Raises `AgedgeError` that names the line where it is of another encoding.
    """
    encoding = _find_encoding(path)
    with open(path, encoding=encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "strict") as file:
        try:
            for number, line in enumerate(file, 1):
                if not line.isascii() and (wrong := _NOT_UTF8.search(line)):
                    byte = ord(wrong[0]) - 0xDC00
                    raise AgedgeError(f"{path}: line {number}: not UTF-8 (byte 0x{byte:02X}); save it as UTF-8")
                yield number, line.rstrip("\n")
        except UnicodeError as error:
            raise AgedgeError(f"{path}: not {encoding}: {error.reason}; save it as UTF-8") from None


def _find_encoding(path: Path) -> str:
    """Return the encoding of a table. Raises `AgedgeError` where the file is missing."""
    try:
        with open(path, "rb") as file:
            begin = file.read(4)
            if begin[:2] in (b"\xff\xfe", b"\xfe\xff"):
                return "utf-16"
            if len(begin) == 4 and begin[1::2] == b"\0\0" and b"\0" not in begin[::2]:
                return "utf-16-le"
            file.seek(0)
            return _find_eight_bits(path, file)
    except FileNotFoundError:
        raise AgedgeError(f"{path}: missing") from None


def _find_eight_bits(path: Path, file) -> str:
    """Return "utf-8-sig", or "cp1252" where all bytes are of that and not of UTF-8."""
    utf8, other = (codecs.getincrementaldecoder(name)() for name in ("utf-8", "cp1252"))
    fits = {"utf-8-sig": utf8, "cp1252": other}
    while fits and (block := file.read(1 << 20)):
        for name, decoder in list(fits.items()):
            try:
                decoder.decode(block)
            except UnicodeError:
                del fits[name]
    with contextlib.suppress(UnicodeError):
        utf8.decode(b"", final=True)
        if "utf-8-sig" in fits:
            return "utf-8-sig"
    if "cp1252" in fits:
        log.info("%s: not UTF-8: read as cp1252, as spreadsheets write it", path)
        return "cp1252"
    return "utf-8-sig"


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


class FieldFaults:
    """Counts, with examples, of cells that were not understood and cost only their own field."""

    def __init__(self):
        self._found = {}

    def add(self, reason: str, detail: str) -> None:
        """Note a fault: what is counted, and the text of the cell."""
        examples = self._found.setdefault(reason, [0, []])
        examples[0] += 1
        if len(examples[1]) < EXAMPLES and detail not in examples[1]:
            examples[1].append(detail)

    def log(self, file) -> None:
        """Log a line for each kind of fault."""
        for reason, (count, examples) in self._found.items():
            shown = ", ".join(f"'{text[:40]}'" for text in examples)
            log.warning("%s: %s, and left unknown (%d): %s", file, reason, count, shown)


def parse_gender(text: str) -> int:
    """Return 0 female, 1 male, -1 unknown for a word of GENDERS. Raises `ValueError` for other words."""
    known = GENDERS.get(text.strip().lower().removesuffix(".0"))  # 1.0: a column of numbers with gaps, as pandas has it
    if known is None:
        raise ValueError(f"'{text}' is not a gender")
    return known


def read_label(
    row_id: str,
    gender: str,
    age: str,
    faults: Optional[FieldFaults] = None,
    coding: Optional[dict] = None,
    age_needed: bool = True,
) -> Union[Label, Dropped]:
    """Return the label of two cells: gender as in GENDERS (or `coding`), and an age that `parse_age` knows.

    With `faults`, a gender that is not understood is noted there and left unknown; so is an age, unless it is needed.
    Else the row is `Dropped`; so it is where neither is left.
    """
    reasons, known, years = [], UNKNOWN, (UNKNOWN, UNKNOWN)
    try:
        known = parse_gender(gender) if coding is None else coding[gender]
    except (ValueError, KeyError):
        reasons.append(("gender not understood", gender))
    try:
        years = parse_age(age)
        Label(known, *years)
    except ValueError as error:
        years = UNKNOWN, UNKNOWN
        reasons.append(("age not understood", str(error)))
    label = Label(known, *years)
    missed = {reason.partition(" ")[0] for reason, _ in reasons}
    if reasons and (faults is None or label == Label() or (age_needed and "age" in missed)):
        return Dropped(row_id, *reasons[-1])
    for reason, _ in reasons if faults is not None else ():
        faults.add(reason, gender if reason.startswith("gender") else age)
    return label


def check_columns(path, pairs: Iterable[Tuple[str, str]]) -> None:
    """Raise `AgedgeError` where the (gender, age) cells of a table are of another coding: genders of 1 and 2, or -1 and
    1, ages in months or as shares. Words are not looked at: what is not understood costs its own field."""
    numbers = array("f")
    for gender, age in pairs:
        numbers.extend((_read_code(gender), *_read_years(age)))
    check_numbers(path, np.array(numbers, np.float32).reshape(-1, 3))


def check_numbers(path, labels: np.ndarray) -> None:
    """Raise `AgedgeError` where labels (n, 3) [gender, age_min, age_max] of a data set are of another coding."""
    if misfit := find_misfit(labels, ",".join(LAYOUT), least=FEW):
        raise AgedgeError(f"{path}: {misfit}")


def _read_code(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _read_years(text: str) -> Tuple[float, float]:
    try:
        return parse_age(text)
    except ValueError:
        return math.nan, math.nan


def read_box(texts: Sequence[str]) -> Tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 in pixels. Raises `ValueError` where they are not a box."""
    x1, y1, x2, y2 = (float(text.replace(",", ".")) for text in texts)
    if not (x1 < x2 and y1 < y2 and all(map(math.isfinite, (x1, y1, x2, y2)))):
        raise ValueError(f"{x1:g}, {y1:g} to {x2:g}, {y2:g} is not a box")
    return x1, y1, x2, y2


def _read_header(path: Path, lines: Iterator[Tuple[int, str]]) -> Tuple[tuple, str]:
    """The columns and the separator, from the first line that is not empty."""
    header = next((line for _, line in lines if line.strip() and not _SEPARATOR_LINE.fullmatch(line.strip())), None)
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
