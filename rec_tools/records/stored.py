"""Read finished records together with their rows of NAME.csv, for merge, split, convert and sample."""

import itertools
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Optional, Sequence, Union

import numpy as np

from agedge.checksums import COLUMN, read_checked_frames
from agedge.errors import AgedgeError
from agedge.labels import LAYOUT, Label
from agedge.recordio import unpack_image
from agedge.records import (
    RecordWriter,
    check_all_labels,
    label_layout,
    read_info,
    read_raw,
    read_rows,
    table_of,
)
from agedge.value_equality import compare_by_value

log = logging.getLogger(__name__)

AnyPath = Union[str, Path]


@compare_by_value
@dataclass(frozen=True)
class StoredRecord:
    """One record with its row of NAME.csv; a field that the table does not have is "".

    `index`: its number. `label` (3,) float32 [gender, age_min, age_max]. `landmarks` (5, 2): x, y in pixels of the
    packed image, if known.
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
    def details(self) -> Dict[str, Any]:
        """Return the arguments of `RecordWriter.write` besides label and JPEG."""
        return {name: getattr(self, name) for name in ("file", "identity", "fold", "race", "landmarks")}


def read_stored(path: AnyPath, labels: str = "auto") -> Iterator[StoredRecord]:
    """Yield every record in the file's order, with its row of NAME.csv.

    If NAME.csv does not belong to NAME.rec, a warning is logged and the whole table is ignored. Labels that become
    unknown are logged too. Raises `AgedgeError` before the first record if the file is damaged.
    """
    known = read_labels(path, labels)
    fault = find_table_fault(path, known)
    if fault not in ("", "missing"):
        log.warning("%s: %s; it is ignored", table_of(path), fault)
    rows = itertools.repeat({}) if fault else read_rows(path)
    for index, (label, (_, jpeg), row) in enumerate(zip(known, read_raw(path, labels), rows)):
        yield StoredRecord(index, label, jpeg, **parse_details(row))


def choose_layout(path: AnyPath, labels: str) -> str:
    """Return "auto" for a file that declares its label layout, else `labels`, the layout given for several files."""
    return "auto" if "labels" in read_info(path) else labels


def read_labels(path: AnyPath, labels: str = "auto") -> np.ndarray:
    """Return the labels (n, 3) [gender, age_min, age_max]; those that become unknown are logged.

    Raises `AgedgeError` as `agedge.records.read_labelled` does.
    """
    layout, raw = label_layout(path, labels), []
    for number, (_, record) in enumerate(read_checked_frames(path)):
        try:
            raw.append(unpack_image(record)[0])
        except ValueError as error:
            raise AgedgeError(f"{path}: record {number}: {error}") from None
        if raw[-1].size != len(layout.split(",")):
            raise AgedgeError(f"{path}: record {number}: labels {layout}: it has {raw[-1].size} numbers")
    return check_all_labels(np.array(raw), layout, path, read_info(path).get("labels") == layout)


def join_first(values: Sequence, most: int = 10) -> str:
    """Return the first of several values on one line: "1, 2, 3, .."."""
    return ", ".join(map(str, values[:most])) + (", .." if len(values) > most else "")


def write_stored(writer: RecordWriter, stored: StoredRecord) -> None:
    """Append a record of another file with its row; its label becomes gender, age_min, age_max."""
    writer.write(to_label(stored.label), stored.jpeg, **stored.details)


def to_label(label: np.ndarray) -> Label:
    """Convert an array (3,) [gender, age_min, age_max] to a `Label`."""
    return Label(int(label[0]), float(label[1]), float(label[2]))


def parse_details(row: Dict[str, str]) -> Dict[str, Any]:
    """Return the fields of `StoredRecord` in a row besides id and label. Raises `ValueError` on bad landmarks."""
    points = np.array(row.get("landmarks", "").split(), np.float64)
    return {
        **{name: row.get(name, "") for name in ("file", "identity", "fold", "race")},
        "landmarks": points.reshape(5, 2) if points.size else None,
    }


def find_table_fault(path: AnyPath, labels: Iterable[np.ndarray]) -> str:
    """Return why NAME.csv is not the table of records with these labels (3,): "" if it is, "missing" if there is none.

    A table without rows, as written for records that never had any, counts as missing.
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
            raise  # an error of the .rec
        return str(error)[len(f"{table_of(path)}: ") :]
    return ""


def find_row_fault(row: Dict[str, str], index: int, label: np.ndarray) -> str:
    """Return why a row does not belong to the record with this number and label (3,), or ""."""
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
