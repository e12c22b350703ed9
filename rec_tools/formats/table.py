"""Read tables of labels, CSV or TSV, as data sets distribute them and as spreadsheets save them.

The separator is that of the header. A row is one line, so an unclosed quote affects no other line.
"""

import codecs
import contextlib
import csv
import logging
import math
import re
from array import array
from collections import Counter
from pathlib import Path
from typing import BinaryIO, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.label_check import MIN_FOR_DISTRIBUTION, find_misfit
from agedge.labels import FEMALE, LAYOUT, MALE, UNKNOWN, Label
from rec_tools.formats.age_groups import parse_age
from rec_tools.rows import Dropped

log = logging.getLogger(__name__)

AnyPath = Union[str, Path]

SEPARATORS = (",", ";", "\t", "|")
FEMALE_WORDS = ("0", "f", "female", "females", "w", "woman", "women", "girl", "girls", "lady", "ladies")
MALE_WORDS = ("1", "m", "male", "males", "man", "men", "boy", "boys", "gentleman", "gentlemen")
UNKNOWN_WORDS = ("", "-1", "u", "none", "nan", "unknown", "unk", "null", "na", "n/a", "?", "-", "9999")
GENDERS = {
    **dict.fromkeys(FEMALE_WORDS, FEMALE),
    **dict.fromkeys(MALE_WORDS, MALE),
    **dict.fromkeys(UNKNOWN_WORDS, UNKNOWN),
}
_SEPARATOR_LINE = re.compile(r"sep=.?")  # a line above the header that sets the separator in spreadsheets
EXAMPLES = 3  # of each fault in its log line

_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how Python represents bytes that are not UTF-8


def read_table(
    path: AnyPath, needs: Sequence[str] = (), file_columns: Sequence[str] = ()
) -> Iterator[Tuple[int, Union[Dict[str, str], Dropped]]]:
    """Yield (line number, cells) of every line below the header; empty lines are skipped.

    `cells` are {column: text}, columns in lower case, both without surrounding blanks. A line with missing or surplus
    cells, or without a text in one of the `file_columns`, is `Dropped`. Raises `AgedgeError` if the file is missing,
    empty or of an unknown encoding, or lacks a column of `needs`.
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
        while len(cells) > len(columns) and not cells[-1]:  # trailing separators of spreadsheets
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


def whole_rows(path: AnyPath, needs: Sequence[str] = ()) -> Iterator[Dict[str, str]]:
    """Yield the cells of the rows that `read_table` does not drop."""
    return (cells for _, cells in read_table(path, needs) if not isinstance(cells, Dropped))


def read_columns(path: AnyPath) -> Tuple[str, ...]:
    """Return the names in a table's header, in lower case. Raises `AgedgeError` as `read_table` does."""
    return _read_header(Path(path), read_lines(Path(path)))[0]


def lacks_columns(path: AnyPath, needs: str, columns: Iterable[str]) -> AgedgeError:
    """Return the error for a table with other columns, which names those needed and those present."""
    return AgedgeError(f"{path}: needs the columns {needs}; it has {', '.join(filter(None, columns)) or 'none'}")


def read_lines(path: Path) -> Iterator[Tuple[int, str]]:
    """Yield (number, text) of every line, with any kind of line ends.

    The text is UTF-8 or UTF-16, with or without a byte order mark, or cp1252, as spreadsheets of western systems write
    it, which is logged. Raises `AgedgeError` that names the line if it is of another encoding.
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
            reason = getattr(error, "reason", error)
            raise AgedgeError(f"{path}: not {encoding}: {reason}; save it as UTF-8") from None


def _find_encoding(path: Path) -> str:
    """Return the encoding of a table. Raises `AgedgeError` if the file is missing."""
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


def _find_eight_bits(path: Path, file: BinaryIO) -> str:
    """Return "utf-8-sig", or "cp1252" if all bytes are valid in it and not in UTF-8."""
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


def find_tables(root: AnyPath, names: Dict[str, str], places: Sequence[str] = ("",)) -> Dict[str, Path]:
    """Return {split: path} of the tables `names` {split: file name}, each from the first of `places` that holds it.

    `places` are folders in `root`. A missing table is logged. Raises `AgedgeError` that names the tables if there is
    none.
    """
    if not Path(root).is_dir():
        raise AgedgeError(f"{root}: no such folder")
    candidates = {split: [Path(root) / place / name for place in places] for split, name in names.items()}
    found = {split: [path for path in paths if path.is_file()] for split, paths in candidates.items()}
    if not any(found.values()):
        where = " or ".join(f"in {place or 'it'}" for place in places)
        raise AgedgeError(f"{root}: none of {', '.join(names.values())} {where}")
    for split, paths in found.items():
        if not paths:
            log.info("%s: no %s: that split is left out", root, names[split])
    return {split: paths[0] for split, paths in found.items() if paths}


class FieldFaults:
    """Counts and examples of cells that were not understood and became unknown, without dropping their row."""

    def __init__(self):
        self._counts: Counter = Counter()
        self._examples: Dict[str, List[str]] = {}

    def add(self, reason: str, detail: str) -> None:
        """Count a fault by its reason; `detail` is the text of the cell."""
        self._counts[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES and detail not in examples:
            examples.append(detail)

    def log(self, file: AnyPath) -> None:
        """Log a line for each kind of fault."""
        for reason, count in self._counts.items():
            shown = ", ".join(f"'{text[:40]}'" for text in self._examples[reason])
            log.warning("%s: %s, and left unknown (%d): %s", file, reason, count, shown)


def parse_gender(text: str) -> int:
    """Return 0 female, 1 male, -1 unknown for a word of GENDERS. Raises `ValueError` for other words."""
    known = GENDERS.get(text.strip().lower().removesuffix(".0"))  # 1.0: pandas writes a column of numbers with gaps so
    if known is None:
        raise ValueError(f"'{text}' is not a gender")
    return known


def read_label(
    row_id: str,
    gender: str,
    age: str,
    faults: Optional[FieldFaults] = None,
    coding: Optional[Dict[str, int]] = None,
    age_needed: bool = True,
) -> Union[Label, Dropped]:
    """Return the label of two cells: gender as in GENDERS (or `coding`), and an age that `parse_age` understands.

    With `faults`, a gender that is not understood is counted there and becomes unknown; so does an age, unless
    `age_needed`. Otherwise, or if both are unknown, the row is `Dropped`.
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
    for reason, _ in reasons:
        assert faults is not None  # else the row is dropped
        faults.add(reason, gender if reason.startswith("gender") else age)
    return label


def check_columns(path: AnyPath, pairs: Iterable[Tuple[str, str]]) -> None:
    """Check the coding of the (gender, age) cells of a table; words are ignored.

    Raises `AgedgeError` for genders of 1 and 2 or -1 and 1, and for ages in months or as shares.
    """
    numbers = array("f")
    for gender, age in pairs:
        numbers.extend((_read_code(gender), *_read_years(age)))
    check_numbers(path, np.array(numbers, np.float32).reshape(-1, 3))


def check_numbers(path: AnyPath, labels: np.ndarray) -> None:
    """Check the coding of labels (n, 3) [gender, age_min, age_max] of a data set. Raises `AgedgeError`."""
    if misfit := find_misfit(labels, ",".join(LAYOUT), min_count=MIN_FOR_DISTRIBUTION):
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
    """Return x1, y1, x2, y2 in pixels. Raises `ValueError` if they are not a box."""
    x1, y1, x2, y2 = (float(text.replace(",", ".")) for text in texts)
    if not (x1 < x2 and y1 < y2 and all(map(math.isfinite, (x1, y1, x2, y2)))):
        raise ValueError(f"{x1:g}, {y1:g} to {x2:g}, {y2:g} is not a box")
    return x1, y1, x2, y2


def _read_header(path: Path, lines: Iterator[Tuple[int, str]]) -> Tuple[Tuple[str, ...], str]:
    """Return the columns and the separator, from the first line that is not empty."""
    header = next((line for _, line in lines if line.strip() and not _SEPARATOR_LINE.fullmatch(line.strip())), None)
    if header is None:
        raise AgedgeError(f"{path}: empty")
    columns = {separator: _columns(header, separator) for separator in SEPARATORS}
    separator = max(SEPARATORS, key=lambda one: len(columns[one]))
    names = columns[separator]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise AgedgeError(f"{path}: its header has the column {', '.join(twice)} twice")
    return names, separator


def _columns(header: str, separator: str) -> Tuple[str, ...]:
    try:
        return tuple(name.lower() for name in _split(header, separator))
    except csv.Error:  # badly placed quotes: it is another separator
        return ()


def _split(line: str, separator: str) -> List[str]:
    """Return the cells of a line without surrounding blanks. Raises `csv.Error`, for example for an unclosed quote."""
    return [cell.strip() for cell in next(csv.reader((line,), delimiter=separator, strict=True), ())]
