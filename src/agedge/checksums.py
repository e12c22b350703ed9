"""Checksums of records: a CRC-32 a record in NAME.csv, and the SHA-256 of the whole NAME.rec in NAME.json.

A CRC-32 is over the record: header, label and image, without the frame around it in the file. It finds damage, not
forgery: who can change the file can change the table beside it. Files of older versions have no checksums.
"""

import csv
import zlib
from pathlib import Path
from typing import Iterator, Optional, Tuple

import numpy as np

from agedge.errors import AgedgeError
from agedge.recordio import read_frames

COLUMN = "crc32"  # of NAME.csv: eight hexadecimal digits
UNKNOWN = -1


def checksum(record: bytes) -> int:
    """Return the CRC-32 of a record."""
    return zlib.crc32(record)


def record_checksums(path) -> Optional[np.ndarray]:
    """Return the CRC-32 of each record of NAME.rec, (n,) int64, as NAME.csv has them; `UNKNOWN` where a row has none.

    None where there is no such table, or one without checksums, or one that is not understood.
    """
    found = []
    try:
        with open(Path(path).with_suffix(".csv"), encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.reader(file)
            columns = next(rows, [])
            if COLUMN not in columns or "id" not in columns:
                return None
            place, id_place = columns.index(COLUMN), columns.index("id")
            for number, row in enumerate(rows):
                if len(row) != len(columns) or row[id_place] != str(number):
                    return None
                found.append(_parse(row[place]))
    except (OSError, csv.Error):
        return None
    return np.array(found, np.int64) if found else None


def read_checked_frames(path) -> Iterator[Tuple[int, bytes]]:
    """Give (offset, record) in the file's order, each compared with its checksum where there is one.

    Raises `AgedgeError` that names the file and the record where they differ, and as `read_frames` does.
    """
    checksums = record_checksums(path)
    known = 0 if checksums is None else len(checksums)
    for number, (offset, record) in enumerate(read_frames(path)):
        if number < known and not matches(record, checksums[number]):
            raise AgedgeError(
                f"{path}: record {number} is damaged: its checksum is not the one in "
                f"{Path(path).with_suffix('.csv').name} (inspect --verify names all such records)"
            )
        yield offset, record


def matches(record: bytes, known: int) -> bool:
    """Return whether a record has a checksum from `record_checksums`, or that one is `UNKNOWN`."""
    return known == UNKNOWN or zlib.crc32(record) == known


def _parse(cell: str) -> int:
    try:
        return int(cell, 16) if len(cell) == 8 else UNKNOWN
    except ValueError:
        return UNKNOWN
