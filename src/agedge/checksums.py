"""Check records against their checksums: a CRC-32 a record in NAME.csv; NAME.json has the SHA-256 of NAME.rec.

A CRC-32 covers the record (header, label and image) without the frame around it. It finds damage, not forgery: whoever
can change the file can change the table beside it. Files of older versions have no checksums.
"""

import csv
import zlib
from pathlib import Path
from typing import Iterator, Optional, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.recordio import read_frames

COLUMN = "crc32"  # of NAME.csv: eight hexadecimal digits
UNKNOWN = -1  # the row of a record has no checksum


def checksum(record: bytes) -> int:
    """Return the CRC-32 of a record."""
    return zlib.crc32(record)


def record_checksums(path: Union[str, Path]) -> Optional[np.ndarray]:
    """Return the CRC-32 of each record of NAME.rec from NAME.csv, (n,) int64; `UNKNOWN` where a row has none.

    None where the table does not exist, has no checksums, or is not valid.
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


def read_checked_frames(path: Union[str, Path]) -> Iterator[Tuple[int, bytes]]:
    """Yield (offset, record) in the file's order; each record is compared with its checksum, if it has one.

    Raises `AgedgeError` that names the file and the record where they differ, and as `read_frames` does.
    """
    found = record_checksums(path)
    checksums = [] if found is None else found.tolist()
    for number, (offset, record) in enumerate(read_frames(path)):
        if number < len(checksums) and not matches(record, checksums[number]):
            raise AgedgeError(
                f"{path}: record {number} is damaged: its checksum differs from that in "
                f"{Path(path).with_suffix('.csv').name} (inspect --verify lists all such records)"
            )
        yield offset, record


def matches(record: bytes, known: int) -> bool:
    """Return whether a record matches its checksum `known`, or `known` is `UNKNOWN`."""
    return known == UNKNOWN or zlib.crc32(record) == known


def _parse(cell: str) -> int:
    try:
        return int(cell, 16) if len(cell) == 8 else UNKNOWN
    except ValueError:
        return UNKNOWN
