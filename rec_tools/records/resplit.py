"""Split a finished .rec: every person and every image with its copies in one part; copies left out if so wished."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Iterator

import numpy as np
from tqdm import tqdm

from agedge.errors import AgedgeError
from agedge.records import decode, read_info
from rec_tools.packing.assign_splits import plan
from rec_tools.packing.chunks import working_folder
from rec_tools.packing.duplicates import fingerprint
from rec_tools.packing.prepare import Prepared, digest
from rec_tools.packing.split import Split
from rec_tools.packing.write_splits import Report, find_replaced, note, publish, write_parts
from rec_tools.records.stored import Stored, as_label, read_stored
from rec_tools.rows import Row

CHUNK = 256  # records in memory at a time


def resplit(
    path: Path,
    out: Path,
    split: Split,
    drop: tuple = (),
    labels: str = "auto",
    workers: int = 2,
    progress: bool = False,
) -> Report:
    """Write `out/PART.rec` for every part of `path`, its records as they are, and `out/dropped.csv`.

    Raises `AgedgeError` where the file is damaged, or where a part would take its name.
    """
    faces = look_through(path, labels, workers)
    whole = plan(note(tqdm(faces, path.name, unit=" faces", disable=None if progress else True)), split, drop)
    if any(replaced.samefile(path) for replaced in find_replaced(out, whole.parts)):
        raise AgedgeError(f"{path}: would be replaced by its own parts; name another folder with --out")
    info = read_info(path)

    def describe(report: Report) -> dict:
        told = {"split": whole.by, "packed": dict(report.packed), "copies": report.copies, "split_of": str(path)}
        kept = {key: value for key, value in info.items() if key not in ("labels", "count", "dropped")}
        return {**kept, **told}

    with working_folder(out / ".splitting") as folder:
        report = write_parts(map(as_prepared, read_stored(path, labels)), whole, folder, describe)
        publish(folder, out, whole.parts)
    return report


def look_through(path: Path, labels: str, workers: int) -> Iterator[Prepared]:
    """Every record with its fingerprint; an image that cannot be decoded looks like nobody's copy."""

    def look(stored: Stored) -> Prepared:
        image = decode(stored.jpeg)
        return as_prepared(stored, np.zeros(4, np.uint64) if image is None else fingerprint(image))

    records = read_stored(path, labels)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while chunk := list(islice(records, CHUNK)):
            yield from pool.map(look, chunk)


def as_prepared(stored: Stored, marks=None) -> Prepared:
    """A record as pack has it before it is written."""
    name = stored.file or f"record {stored.index}"
    row = Row(name, Path(), as_label(stored.label), stored.identity, stored.fold, stored.race)
    return Prepared(row, stored.jpeg, digest(stored.jpeg), "", marks, stored.landmarks)
