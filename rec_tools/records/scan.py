"""Scan a finished .rec: labels, image sizes, bad records, faults of its index and table, fingerprints of its images.

Of an image only a digest and a fingerprint are kept, so millions fit into memory. `summary.py` turns scans into text.
"""

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np
from tqdm import tqdm

from agedge.errors import AgedgeError
from agedge.label_check import find_label_faults, find_misfit
from agedge.labels import to_contract
from agedge.recordio import read_frames, unpack_image
from agedge.records import compare_index, label_layout, read_info, read_rows
from agedge.sources import decode_image
from agedge.value_equality import compare_by_value
from rec_tools.packing.duplicates import fingerprint
from rec_tools.packing.prepare import digest
from rec_tools.records.stored import find_table_fault

log = logging.getLogger(__name__)

CHUNK = 256  # records in memory at a time


@compare_by_value
@dataclass(frozen=True)
class FileScan:
    """The result of scanning one file of n records, m of which are images."""

    path: Path
    layout: str  # of the labels in the file
    info: Dict[str, Any]  # NAME.json
    size: int  # bytes
    labels: np.ndarray  # (n, 3) [gender, age_min, age_max]
    numbers: np.ndarray  # (m,) which records are images
    digests: np.ndarray  # (m,) uint64, of the bytes
    fingerprints: np.ndarray  # (m, 4) uint64, of the pixels
    sizes: Counter  # number of images by (width, height)
    bad: Dict[str, List[int]]  # numbers of records by fault
    index: str  # fault of NAME.idx, or ""
    table: str  # fault of NAME.csv, or ""
    damage: str  # the error at which reading the file ended, or ""
    people: FrozenSet[str]  # identities in NAME.csv


class ScannedRecord(NamedTuple):
    """One record. `label`: its numbers as stored; `size`: (width, height); `fault`: why it is not an image, or ""."""

    label: Optional[np.ndarray] = None
    size: Tuple[int, ...] = ()
    digest: int = 0
    fingerprint: Optional[np.ndarray] = None
    fault: str = ""


def scan_file(path: Union[str, Path], labels: str = "auto", workers: int = 2, progress: bool = False) -> FileScan:
    """Scan every record of a file in `workers` threads, up to the first damage.

    Raises `AgedgeError` if nothing can be read, or if the layout of the labels is unknown.
    """
    path = Path(path)
    layout = label_layout(path, labels)
    width = len(layout.split(","))
    damage: List[str] = []
    offsets: List[int] = []
    blocks: List[np.ndarray] = []
    faults: Dict[int, str] = {}
    frames = iter(tqdm(_read_up_to_damage(path, damage), path.name, disable=None if progress else True))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while chunk := list(islice(frames, CHUNK)):
            scanned = list(pool.map(lambda frame: scan_record(frame[1], width), chunk))
            faults.update({len(offsets) + place: one.fault for place, one in enumerate(scanned) if one.fault})
            offsets += [offset for offset, _ in chunk]
            blocks.append(to_array(scanned, width))
    if not blocks:
        raise AgedgeError(damage[0])
    records = np.concatenate(blocks)
    contract = to_contract(records["label"], layout)
    if misfit := find_misfit(records["label"], layout, read_info(path).get("labels") == layout):
        log.warning("%s: labels %s: %s", path, layout, misfit)
    bad = {}
    for number, fault in enumerate(find_label_faults(records["label"], contract, layout)):
        if fault := faults.get(number, fault):
            bad.setdefault(fault, []).append(number)
    table = find_table_fault(path, contract)
    images = np.flatnonzero(records["size"][:, 0])
    return FileScan(
        path=path,
        layout=layout,
        info=read_info(path),
        size=path.stat().st_size,
        labels=contract,
        numbers=images,
        digests=records["digest"][images],
        fingerprints=records["fingerprint"][images],
        sizes=Counter(map(tuple, records["size"][images].tolist())),
        bad=bad,
        index="" if damage else find_index_fault(path, offsets),
        table=table,
        damage="".join(damage),
        people=frozenset(row["identity"] for row in read_rows(path) if row.get("identity"))
        if not table
        else frozenset(),
    )


def to_array(scanned: List[ScannedRecord], width: int) -> np.ndarray:
    """Return records as a structured array of about seventy bytes each; those that are not images have size 0."""
    fields = [("label", "f4", (width,)), ("size", "i4", 2), ("digest", "u8"), ("fingerprint", "u8", 4)]
    records = np.zeros(len(scanned), fields)
    records["label"] = np.nan
    for place, one in enumerate(scanned):
        if one.label is not None:
            records[place]["label"] = one.label
        if one.size:
            records[place]["size"], records[place]["digest"] = one.size, one.digest
            records[place]["fingerprint"] = one.fingerprint
    return records


def _read_up_to_damage(path: Path, damage: List[str]) -> Iterator[Tuple[int, bytes]]:
    """Yield (offset, record); append the error that ends the file to `damage`."""
    try:
        yield from read_frames(path)
    except AgedgeError as error:
        damage.append(str(error))


def scan_record(record: bytes, width: int) -> ScannedRecord:
    """Scan one record of a file whose labels have `width` numbers."""
    try:
        label, _, jpeg = unpack_image(record)
    except ValueError:
        return ScannedRecord(fault="not a labelled image")
    if label.size != width:
        return ScannedRecord(fault=f"label not of {width} numbers")
    try:
        image = decode_image(jpeg)
    except ValueError as error:
        return ScannedRecord(label, fault="cut-off image" if "truncated" in str(error) else "not an image")
    return ScannedRecord(label, image.shape[1::-1], int(digest(jpeg)[:16], 16), fingerprint(image))


def find_index_fault(path: Path, offsets: List[int]) -> str:
    """Return what is wrong with NAME.idx: "missing", a reason, or ""."""
    try:
        compare_index(path, offsets)
    except AgedgeError as error:
        return str(error)[len(f"{path.with_suffix('.idx')}: ") :]
    return ""
