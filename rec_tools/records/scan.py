"""What is in a finished .rec: labels, image sizes, bad records, the state of the files beside it, prints of its faces.

A face is remembered by a digest and a fingerprint only, so that millions fit into memory; `summary.py` puts what was
seen into words.
"""

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from agedge.errors import AgedgeError
from agedge.label_check import find_label_faults, find_misfit
from agedge.labels import to_contract
from agedge.recordio import read_frames, unpack_image
from agedge.records import compare_index, label_layout, read_info
from agedge.sources import decode_image
from agedge.value_equality import compare_by_value
from rec_tools.packing.duplicates import fingerprint
from rec_tools.packing.prepare import digest
from rec_tools.records.stored import find_table_fault, read_rows

log = logging.getLogger(__name__)

CHUNK = 256  # records in memory at a time


@compare_by_value
@dataclass(frozen=True)
class Survey:
    """One file. Of all its records: `labels` (n, 3) by the contract. Of those that are images: their `numbers` (m,),
    `digests` (m,) uint64 of the bytes and `fingerprints` (m, 4) uint64 of the pixels.

    `size`: bytes. `sizes`: how many images are (width, height). `bad`: numbers of records by what is wrong with them.
    `index`, `table`: what is wrong with NAME.idx and NAME.csv, "" where nothing is. `damage`: where the file cannot be
    read on. `people`: the identities in NAME.csv.
    """

    path: Path
    layout: str
    info: dict
    size: int
    labels: np.ndarray
    numbers: np.ndarray
    digests: np.ndarray
    fingerprints: np.ndarray
    sizes: Counter
    bad: Dict[str, List[int]]
    index: str
    table: str
    damage: str
    people: frozenset


class Seen(NamedTuple):
    """One record, looked at. `label`: its numbers as they lie in the file; `fault`: why it is no image."""

    label: Optional[np.ndarray] = None
    size: tuple = ()
    digest: int = 0
    fingerprint: Optional[np.ndarray] = None
    fault: str = ""


def survey(path, labels: str = "auto", workers: int = 2, progress: bool = False) -> Survey:
    """Look at every record of a file, in `workers` threads. A file that is damaged later on is surveyed up to there.

    Raises `AgedgeError` where nothing can be read, or nobody knows the layout of the labels.
    """
    path = Path(path)
    layout = label_layout(path, labels)
    width, damage, offsets, notes, faults = len(layout.split(",")), [], [], [], {}
    frames = iter(tqdm(_read_up_to_damage(path, damage), path.name, disable=None if progress else True))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while chunk := list(islice(frames, CHUNK)):
            seen = list(pool.map(lambda frame: look_at(frame[1], width), chunk))
            faults.update({len(offsets) + place: one.fault for place, one in enumerate(seen) if one.fault})
            offsets += [offset for offset, _ in chunk]
            notes.append(note(seen, width))
    if not notes:
        raise AgedgeError(damage[0])
    noted = np.concatenate(notes)
    contract = to_contract(noted["label"], layout)
    if misfit := find_misfit(noted["label"], layout, read_info(path).get("labels") == layout):
        log.warning("%s: labels %s: %s", path, layout, misfit)
    bad = {}
    for number, fault in enumerate(find_label_faults(noted["label"], contract, layout)):
        if fault := faults.get(number, fault):
            bad.setdefault(fault, []).append(number)
    table = find_table_fault(path, contract)
    images = np.flatnonzero(noted["size"][:, 0])
    return Survey(
        path=path,
        layout=layout,
        info=read_info(path),
        size=path.stat().st_size,
        labels=contract,
        numbers=images,
        digests=noted["digest"][images],
        fingerprints=noted["fingerprint"][images],
        sizes=Counter(map(tuple, noted["size"][images].tolist())),
        bad=bad,
        index="" if damage else find_index_fault(path, offsets),
        table=table,
        damage="".join(damage),
        people=frozenset(row["identity"] for row in read_rows(path) if row.get("identity"))
        if not table
        else frozenset(),
    )


def note(seen: List[Seen], width: int) -> np.ndarray:
    """What there is to remember of records, in some seventy bytes each; of size 0 are those that are no images."""
    fields = [("label", "f4", (width,)), ("size", "i4", 2), ("digest", "u8"), ("fingerprint", "u8", 4)]
    notes = np.zeros(len(seen), fields)
    notes["label"] = np.nan
    for place, one in enumerate(seen):
        if one.label is not None:
            notes[place]["label"] = one.label
        if one.size:
            notes[place]["size"], notes[place]["digest"] = one.size, one.digest
            notes[place]["fingerprint"] = one.fingerprint
    return notes


def _read_up_to_damage(path: Path, damage: list) -> Iterator:
    try:
        yield from read_frames(path)
    except AgedgeError as error:
        damage.append(str(error))


def look_at(record: bytes, width: int) -> Seen:
    """One record of a file whose labels have `width` numbers."""
    try:
        label, _, jpeg = unpack_image(record)
    except ValueError:
        return Seen(fault="not a labelled image")
    if label.size != width:
        return Seen(fault=f"label not of {width} numbers")
    try:
        image = decode_image(jpeg)
    except ValueError as error:
        return Seen(label, fault="cut-off image" if "truncated" in str(error) else "not an image")
    return Seen(label, image.shape[1::-1], int(digest(jpeg)[:16], 16), fingerprint(image))


def find_index_fault(path: Path, offsets: list) -> str:
    """What is wrong with NAME.idx: "missing", a reason, or ""."""
    try:
        compare_index(path, offsets)
    except AgedgeError as error:
        return str(error)[len(f"{path.with_suffix('.idx')}: ") :]
    return ""
