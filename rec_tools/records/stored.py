"""Finished records together with their rows of NAME.csv: what inspect, merge, convert and sample read."""

import csv
import itertools
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, Optional, Sequence

import numpy as np

from agedge.checksums import COLUMN, read_checked_frames
from agedge.errors import AgedgeError
from agedge.labels import LAYOUT, Label
from agedge.recordio import unpack_image
from agedge.records import CSV_COLUMNS, RecordWriter, check_all_labels, label_layout, read_info, read_raw
from agedge.value_equality import compare_by_value

log = logging.getLogger(__name__)


@compare_by_value
@dataclass(frozen=True)
class Stored:
    """One record: its number, `label` (3,) float32 by the contract, JPEG, and what NAME.csv says of it ("": nothing).

    `landmarks` (5, 2): x, y in pixels of the packed image, if known.
    """

    index: int
    label: np.ndarray
    jpeg: bytes
    file: str = ""
    identity: str = ""
    fold: str = ""
    race: str = ""
    landmarks: Optional[np.ndarray] = None

    @property
    def details(self) -> dict:
        """What `RecordWriter.write` takes beside label and JPEG."""
        return {name: getattr(self, name) for name in ("file", "identity", "fold", "race", "landmarks")}


def read_stored(path, labels: str = "auto") -> Iterator[Stored]:
    """Every record in the file's order, one at a time, with its row where NAME.csv is the table of NAME.rec.

    A table that is not is warned of, once, and left aside as a whole; so are labels that become unknown. Raises
    `AgedgeError` where the file is damaged, before the first record.
    """
    known = read_labels(path, labels)
    fault = find_table_fault(path, known)
    if fault not in ("", "missing"):
        log.warning("%s: %s; going on without it", table_of(path), fault)
    rows = itertools.repeat({}) if fault else read_rows(path)
    for index, (label, (_, jpeg), row) in enumerate(zip(known, read_raw(path, labels), rows)):
        yield Stored(index, label, jpeg, **parse_details(row))


def told_layout(path, labels: str) -> str:
    """`labels`, the layout that was told for several files, is that of the files that do not say theirs themselves."""
    return "auto" if "labels" in read_info(path) else labels


def read_labels(path, labels: str = "auto") -> np.ndarray:
    """Return (n, 3) by the contract; single ones that it does not know are logged.

    Raises `AgedgeError` as `agedge.records.read_labelled` does.
    """
    layout, raw = label_layout(path, labels), []
    for number, (_, record) in enumerate(read_checked_frames(path)):
        try:
            raw.append(unpack_image(record)[0])
        except ValueError as error:
            raise AgedgeError(f"{path}: record {number}: {error}") from None
        if raw[-1].size != len(layout.split(",")):
            raise AgedgeError(f"{path}: record {number}: labels {layout}: it carries {raw[-1].size} numbers")
    return check_all_labels(np.array(raw), layout, path, read_info(path).get("labels") == layout)


def name_some(values: Sequence, most: int = 10) -> str:
    """The first of several values, on one line."""
    return ", ".join(map(str, values[:most])) + (", .." if len(values) > most else "")


def write_stored(writer: RecordWriter, stored: Stored) -> None:
    """Append a record of another file, by the contract, and its row."""
    writer.write(as_label(stored.label), stored.jpeg, **stored.details)


def as_label(label: np.ndarray) -> Label:
    """A (3,) array by the contract as a `Label`."""
    return Label(int(label[0]), float(label[1]), float(label[2]))


def table_of(path) -> Path:
    """NAME.csv of NAME.rec."""
    return Path(path).with_suffix(".csv")


def read_rows(path) -> Iterator[dict]:
    """The rows of NAME.csv by column. Raises `AgedgeError` where it is no table of records."""
    try:
        with open(table_of(path), encoding="utf-8", errors="backslashreplace", newline="") as file:
            rows = csv.DictReader(file, restval="")
            columns = rows.fieldnames or ()
            if not set(CSV_COLUMNS[:2] + LAYOUT) <= set(columns):
                raise AgedgeError(f"{table_of(path)}: no table of records: no columns {', '.join(CSV_COLUMNS[:5])}")
            yield from rows
    except FileNotFoundError:
        raise AgedgeError(f"{table_of(path)}: missing") from None
    except csv.Error as error:
        raise AgedgeError(f"{table_of(path)}: no table of records: {error}") from None


def parse_details(row: dict) -> dict:
    """What a row says beside its id and label, as `Stored` has it. Raises `ValueError` on landmarks that are none."""
    points = np.array(row.get("landmarks", "").split(), np.float64)
    return {
        **{name: row.get(name, "") for name in ("file", "identity", "fold", "race")},
        "landmarks": points.reshape(5, 2) if points.size else None,
    }


def find_table_fault(path, labels: Iterable[np.ndarray]) -> str:
    """Why NAME.csv is not the table of records with these labels (3,): "" where it is, "missing" where there is none.

    A table of no rows at all, as written for records that never had any, counts as missing.
    """
    if not table_of(path).is_file():
        return "missing"
    try:
        pairs = itertools.zip_longest(read_rows(path), labels)
        for index, (row, label) in enumerate(pairs):
            if row is None and index == 0:
                return "missing"
            if row is None or label is None:
                more = index + 1 + sum(1 for _ in pairs)
                return f"{index} rows for {more} records" if row is None else f"{more} rows for {index} records"
            if fault := find_row_fault(row, index, label):
                return f"row {index}: {fault}"
    except AgedgeError as error:
        if not str(error).startswith(f"{table_of(path)}: "):
            raise  # of the .rec
        return str(error)[len(f"{table_of(path)}: ") :]
    return ""


def find_row_fault(row: dict, index: int, label: np.ndarray) -> str:
    """Why a row does not belong to the record with this number and label (3,); "" where it does."""
    try:
        if int(row["id"]) != index:
            return f"its id is {row['id']}"
        if not np.allclose([float(row[name]) for name in LAYOUT], label, rtol=1e-5, atol=1e-3):
            return "not the record's label"
        parse_details(row)
        if row.get(COLUMN) and not re.fullmatch("[0-9a-f]{8}", row[COLUMN]):
            return f"not understood: checksum {row[COLUMN]!r}"
    except (ValueError, TypeError) as error:
        return f"not understood: {error}"
    return ""
