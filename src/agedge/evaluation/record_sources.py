"""Which record of which file an answer is of, its row in NAME.csv, and its picture."""

import csv
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.evaluation.batches import fitting
from agedge.evaluation.evaluate import Answers
from agedge.recordio import read_frames
from agedge.records import decode, read_raw


class Origin(NamedTuple):
    """A .rec and the number of a record in it."""

    file: str
    number: int


def find_origins(answers: Answers) -> List[Origin]:
    """The record of each of n answers: they are in the order of the files, without the records that no one could read.

    Raises `AgedgeError` where the files do not hold as many records as were answered.
    """
    files = list(answers.bad)
    counts = [sum(1 for _ in read_frames(path)) for path in files] if len(files) > 1 else []
    counts = counts or [len(answers.labels) + len(answers.bad[files[0]])]
    origins: List[Origin] = []
    for path, count in zip(files, counts):
        left_out = set(answers.bad[path])
        origins += [Origin(path, number) for number in range(count) if number not in left_out]
    if len(origins) != len(answers.labels):
        raise AgedgeError(f"{files[0]}: changed since it was read: {len(origins)} faces, not {len(answers.labels)}")
    return origins


def read_rows(path) -> Dict[int, dict]:
    """The rows of the NAME.csv beside a .rec, by record number; {} where there is none. Raises `AgedgeError` where it
    is damaged."""
    file = Path(path).with_suffix(".csv")
    if not file.is_file():
        return {}
    with open(file, encoding="utf-8", errors="replace", newline="") as lines:
        try:
            return {int(row["id"]): row for row in csv.DictReader(lines)}
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise AgedgeError(f"{file}: not the table of {Path(path).name}: {error!r}") from None


def find_rows(origins: List[Origin], rows: Dict[str, Dict[int, dict]]) -> List[dict]:
    """The row of each origin, {} where its table, `rows` by file, has none."""
    return [rows.get(file, {}).get(number, {}) for file, number in origins]


def read_faces(origins: Iterable[Origin], size: int, labels: str = "auto", crop=None) -> Dict[Origin, np.ndarray]:
    """{origin: (size, size, 3) BGR uint8}, cut as `crop` says; a record that is no image is left out. Only the faces
    that are asked for are decoded."""
    wanted: Dict[str, set] = {}
    for file, number in origins:
        wanted.setdefault(file, set()).add(number)
    found: Dict[Origin, np.ndarray] = {}
    for file, numbers in wanted.items():
        refit, last = fitting(file, size, crop), max(numbers)
        for number, (_, jpeg) in enumerate(read_raw(file, labels)):
            image: Optional[np.ndarray] = refit(decode(jpeg)) if number in numbers else None
            if image is not None:
                found[Origin(file, number)] = image
            if number == last:
                break
    return found
