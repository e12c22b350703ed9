"""Compare a finished .rec with its checksums: the SHA-256 in NAME.json and the CRC-32 of each record in NAME.csv."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, Optional, Tuple, Union

from agedge.checksums import UNKNOWN, matches, record_checksums
from agedge.errors import AgedgeError
from agedge.recordio import read_at, read_frames, read_index
from agedge.records import read_info, table_of
from rec_tools.records.stored import join_first

PIECE = 1 << 20  # bytes read at a time


@dataclass
class Verification:
    """The result of a comparison.

    `records`: how many have a checksum. `damaged`: numbers of those that differ from it or cannot be read. `whole`:
    whether the whole file matches its SHA-256, None if it has none. `fault`: what else is wrong, or "".
    """

    path: Path
    records: int = 0
    damaged: List[int] = field(default_factory=list)
    whole: Optional[bool] = None
    fault: str = ""

    @property
    def good(self) -> bool:
        """Return whether nothing is damaged."""
        return not self.damaged and not self.fault and self.whole is not False

    def __str__(self) -> str:
        if self.damaged:
            return (
                f"{self.path}: {len(self.damaged)} of {self.records} records damaged: {join_first(self.damaged, 100)}"
            )
        if self.fault:
            return f"{self.path}: {self.fault}"
        if self.whole is False:
            return (
                f"{self.path}: differs from the SHA-256 in NAME.json"
                + (", although each record matches its checksum" if self.records else "")
            ).replace("NAME.json", self.path.with_suffix(".json").name)
        if self.whole is None and not self.records:
            return f"{self.path}: no checksums: packed by an older version"
        kinds = [f"{self.records} records"] * bool(self.records) + ["the whole file"] * bool(self.whole)
        return f"{self.path}: checksums right: {' and '.join(kinds)}"


def verify(path: Union[str, Path]) -> Verification:
    """Compare a .rec with its checksums. Raises `AgedgeError` if it is missing or its NAME.json is damaged."""
    path = Path(path)
    found, known = Verification(path), read_info(path).get("sha256")
    checksums = record_checksums(path)
    if checksums is not None:
        found.records = int((checksums != UNKNOWN).sum())
        count = 0
        try:
            for count, record in enumerate(read_each(path, len(checksums)), 1):
                if count > len(checksums):
                    continue
                if record is None or not matches(record, checksums[count - 1]):
                    found.damaged.append(count - 1)
        except AgedgeError as error:
            found.fault = str(error)[len(f"{path}: ") :]
        if not found.fault and count != len(checksums):
            found.fault = f"{count} records, but {table_of(path).name} has {len(checksums)} rows"
    if known is not None:
        found.whole = hash_file(path) == known
    return found


def read_each(path: Path, count: int) -> Iterator[Optional[bytes]]:
    """Yield the records. If the index has `count` of them, they are read by it, so that a damaged frame, which yields
    None, does not hide those after it; else they are read one after the other."""
    offsets = find_offsets(path)
    if len(offsets) == count:
        yield from read_at(path, offsets)
    else:
        yield from (record for _, record in read_frames(path))


def find_offsets(path: Path) -> Tuple[int, ...]:
    """Return the offsets of the records in NAME.idx, sorted; none if it cannot be read."""
    try:
        return tuple(sorted(offset for _, offset in read_index(path.with_suffix(".idx"))))
    except AgedgeError:
        return ()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal. Raises `AgedgeError` if it is missing."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
    except FileNotFoundError:
        raise AgedgeError(f"{path}: missing") from None
    return digest.hexdigest()
