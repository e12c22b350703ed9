"""Split a finished .rec: each person, and each image with its copies, goes to one split; copies may be dropped."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np
from tqdm import tqdm

from agedge.errors import AgedgeError
from agedge.records import decode, read_info
from rec_tools.packing.assign_splits import assign_splits
from rec_tools.packing.chunks import working_folder
from rec_tools.packing.duplicates import fingerprint
from rec_tools.packing.prepare import Prepared, digest
from rec_tools.packing.split import SplitScheme
from rec_tools.packing.write_splits import PackReport, collect_metadata, find_replaced, publish, write_splits
from rec_tools.records.stored import StoredRecord, read_stored, to_label
from rec_tools.rows import Row

CHUNK = 256  # records in memory at a time


def resplit(
    path: Path,
    out: Path,
    split: SplitScheme,
    drop: Tuple[str, ...] = (),
    labels: str = "auto",
    workers: int = 2,
    progress: bool = False,
) -> PackReport:
    """Write `out/SPLIT.rec` for every split of `path`, its records unchanged, and `out/dropped.csv`.

    Raises `AgedgeError` if the file is damaged, or if a split would overwrite it.
    """
    faces = fingerprint_records(path, labels, workers)
    bar = tqdm(faces, path.name, unit=" faces", disable=None if progress else True)
    assignment = assign_splits(collect_metadata(bar), split, drop)
    if any(replaced.samefile(path) for replaced in find_replaced(out, assignment.splits)):
        raise AgedgeError(f"{path}: would be replaced by one of its splits; give another folder with --out")
    info = read_info(path)

    def describe(report: PackReport) -> Dict[str, Any]:
        kept = {key: value for key, value in info.items() if key not in ("labels", "count", "dropped")}
        new = {"split": assignment.by, "packed": dict(report.packed), "copies": report.copies, "split_of": str(path)}
        return {**kept, **new}

    with working_folder(out / ".splitting") as folder:
        report = write_splits(map(to_prepared, read_stored(path, labels)), assignment, folder, describe)
        publish(folder, out, assignment.splits)
    return report


def fingerprint_records(path: Path, labels: str, workers: int) -> Iterator[Prepared]:
    """Yield every record with its fingerprint; an image that cannot be decoded gets one that matches no other."""

    def add_fingerprint(stored: StoredRecord) -> Prepared:
        image = decode(stored.jpeg)
        return to_prepared(stored, np.zeros(4, np.uint64) if image is None else fingerprint(image))

    records = read_stored(path, labels)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while chunk := list(islice(records, CHUNK)):
            yield from pool.map(add_fingerprint, chunk)


def to_prepared(stored: StoredRecord, code: Optional[np.ndarray] = None) -> Prepared:
    """Return a record in the form that `write_splits` takes, with its fingerprint `code` (4,)."""
    name = stored.file or f"record {stored.index}"
    row = Row(name, Path(), to_label(stored.label), stored.identity, stored.fold, stored.race)
    return Prepared(row, stored.jpeg, digest(stored.jpeg), "", code, stored.landmarks)
