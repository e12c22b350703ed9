"""Repair a finished .rec: a missing or wrong index, a truncated or damaged file. The original is kept."""

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Union

import numpy as np

from agedge.checksums import UNKNOWN, matches, record_checksums
from agedge.errors import AgedgeError
from agedge.label_check import check_guess
from agedge.labels import to_contract
from agedge.recordio import Gap, pack_image, salvage_frames, unpack_image
from agedge.records import SAMPLE, RecordWriter, compare_index, label_layout, read_info, read_rows, table_of
from agedge.safe_write import write_text
from agedge.sources import decode_image
from rec_tools.records.stored import find_row_fault, parse_details, to_label

NO_RECORD = -2  # neither an id nor a checksum


@dataclass
class Repair:
    """What was wrong with a file and what was done; all fields but `kept` are empty if nothing was wrong.

    `kept`: number of records kept. `index`: what was wrong with the index. `lost`: byte ranges and records that could
    not be read. `originals`: the new names of the damaged files. `rows_lost`: rows of NAME.csv whose records are gone.
    """

    path: Path
    kept: int = 0
    index: str = ""
    lost: List[str] = field(default_factory=list)
    originals: List[str] = field(default_factory=list)
    rows_lost: int = 0

    def __str__(self) -> str:
        if not self.index and not self.lost:
            return f"{self.path}: intact, {self.kept} records; nothing to repair"
        if not self.lost:
            return f"{self.path}: {self.index}; rewritten for {self.kept} records"
        rows = (
            f"; {self.rows_lost} rows of {table_of(self.path).name} no longer have a record" if self.rows_lost else ""
        )
        return (
            f"{self.path}: {self.kept} records kept; lost: {', '.join(self.lost)}{rows}; "
            f"the damaged file is now {', '.join(self.originals)}"
        )


def repair(path: Union[str, Path], labels: str = "auto") -> Repair:
    """Rebuild the index of an intact .rec; rewrite a damaged one with the records that can be read.

    The damaged files become NAME.rec.damaged and NAME.csv.damaged. If a file is only truncated, its records keep their
    bytes; else they are renumbered. A record that can be read but differs from its checksum is left out. Raises
    `AgedgeError` if no record can be read, or if the damaged original of an earlier repair would be overwritten.
    """
    path = Path(path)
    layout = _find_layout(path, labels)
    found, checksums = Repair(path), read_checksums_by_id(path)
    offsets, only_its_end = [], False
    for piece in salvage_frames(path):
        if isinstance(piece, Gap):
            only_its_end = piece.end == path.stat().st_size and not found.lost
            found.lost.append(f"bytes {piece.start} to {piece.end}" + (" at its end" if only_its_end else ""))
        elif fault := _find_fault(piece[1], layout, checksums):
            found.lost.append(f"record at byte {piece[0]}: {fault}")
        else:
            offsets.append(piece[0])
    found.kept = len(offsets)
    if not offsets:
        raise AgedgeError(f"{path}: no record in it can be read")
    if found.lost:
        _rewrite_records(found, layout, checksums, renumber=not only_its_end)
    else:
        _rewrite_index(found, offsets)
    return found


def _find_layout(path: Path, labels: str) -> str:
    """Return the label layout as `label_layout` does, of a file whose first record may be damaged."""
    if labels != "auto" or "labels" in read_info(path):
        return label_layout(path, labels)
    found = []
    for piece in salvage_frames(path):
        if not isinstance(piece, Gap):
            with contextlib.suppress(ValueError):
                found.append(unpack_image(piece[1])[0])
        if len(found) == SAMPLE:
            break
    if not found:
        raise AgedgeError(f"{path}: no record in it can be read")
    widths = [label.size for label in found]
    width = max(set(widths), key=widths.count)
    return check_guess(np.array([label for label in found if label.size == width]), path)


def _find_fault(record: bytes, layout: str, checksums: Optional[Dict[int, int]] = None) -> str:
    """Return why a complete frame is dropped, or "": it is not a labelled image, or its checksum differs.

    A record whose image cannot be decoded is kept, since `inspect` counts it.
    """
    try:
        numbers, index, jpeg = unpack_image(record)
    except ValueError as error:
        return str(error)
    if numbers.size != len(layout.split(",")):
        return f"its label has {numbers.size} numbers"
    if not checksums or matches(record, checksums.get(index, UNKNOWN)):
        return ""
    try:
        decode_image(jpeg)
    except ValueError:
        return ""
    return "differs from its checksum"


def read_checksums_by_id(path: Path) -> Dict[int, int]:
    """Return the CRC-32 of records by their ids, or {} if NAME.csv belongs to another file than NAME.rec."""
    checksums = record_checksums(path)
    if checksums is None:
        return {}
    records = (piece[1] for piece in salvage_frames(path) if not isinstance(piece, Gap))
    known = dict(enumerate(checksums.tolist()))
    return known if any(matches(record, known.get(_id_of(record), NO_RECORD)) for record in records) else {}


def _id_of(record: bytes) -> int:
    try:
        return unpack_image(record)[1]
    except ValueError:
        return NO_RECORD


def _rewrite_index(found: Repair, offsets: List[int]) -> None:
    file = found.path.with_suffix(".idx")
    try:
        compare_index(found.path, offsets)
    except AgedgeError as error:
        found.index = f"{file.name}{str(error)[len(str(file)) :]}"
        write_text(file, "".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)))


def _rewrite_records(found: Repair, layout: str, checksums: Dict[int, int], renumber: bool) -> None:
    rows = _read_rows_by_id(found.path)
    info = read_info(found.path)
    files = [found.path] + ([table_of(found.path)] if rows else [])
    for file in files:
        if _original_of(file).exists():
            raise AgedgeError(f"{_original_of(file)}: exists, from an earlier repair; move it away first")
    found.originals = [_original_of(file).name for file in files]
    with _keep_originals(files), RecordWriter(found.path) as writer:
        for piece in salvage_frames(found.path):
            if isinstance(piece, Gap) or _find_fault(piece[1], layout, checksums):
                continue
            numbers, index, jpeg = unpack_image(piece[1])
            label = to_contract(numbers[None], layout)[0]
            row = rows.pop(str(index), {})
            if row and find_row_fault(row, index, label):
                row = {}
                found.rows_lost += 1
            writer.write_record(pack_image(numbers, writer.count, jpeg) if renumber else piece[1])
            writer.write_row(to_label(label), **parse_details(row))
        found.rows_lost += len(rows)
        note = {"kept": found.kept, "lost": found.lost, "originals": found.originals}
        writer.info = {**info, "labels": layout, "count": writer.count, "repaired": note}


def _read_rows_by_id(path: Path) -> Dict[str, Dict[str, str]]:
    """Return the rows of NAME.csv by their ids, or {} if it cannot be read."""
    try:
        return {row["id"]: row for row in read_rows(path)}
    except AgedgeError:
        return {}


def _original_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.damaged")


@contextlib.contextmanager
def _keep_originals(files: List[Path]) -> Iterator[None]:
    """Give files a second name as damaged originals: by a hard link, or by a copy if the disk has no links.

    If the block fails before it has replaced a file, the second name of that file is removed.
    """
    before = {file: file.stat().st_ino for file in files}
    try:
        for file in files:
            try:
                os.link(file, _original_of(file))
            except OSError:
                shutil.copy2(file, _original_of(file))
        yield
    except BaseException:
        for file in files:
            if file.stat().st_ino == before[file]:
                _original_of(file).unlink(missing_ok=True)
        raise
