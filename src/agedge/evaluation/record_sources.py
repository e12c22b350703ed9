"""Find the record of a prediction: its file and number, its row in NAME.csv, and its image."""

from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Union

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.evaluation.batches import make_refit
from agedge.evaluation.evaluate import Predictions
from agedge.recordio import read_frames
from agedge.records import decode, read_raw, read_rows, table_of


class RecordSource(NamedTuple):
    """A .rec file and the number of a record in it."""

    file: str
    number: int


def find_sources(predictions: Predictions) -> List[RecordSource]:
    """Return the record of each prediction. Unreadable records, which have no prediction, are skipped.

    Raises `AgedgeError` if the number of records has changed since the files were read.
    """
    files = list(predictions.bad)
    counts = [sum(1 for _ in read_frames(path)) for path in files] if len(files) > 1 else []
    counts = counts or [len(predictions.labels) + len(predictions.bad[files[0]])]
    sources: List[RecordSource] = []
    for path, count in zip(files, counts):
        left_out = set(predictions.bad[path])
        sources += [RecordSource(path, number) for number in range(count) if number not in left_out]
    if len(sources) != len(predictions.labels):
        raise AgedgeError(f"{files[0]}: changed since it was read: {len(sources)} faces, not {len(predictions.labels)}")
    return sources


def read_rows_by_number(path: Union[str, Path]) -> Dict[int, Dict[str, str]]:
    """Return the rows of the NAME.csv beside a .rec, by record number; {} where there is none.

    Raises `AgedgeError` if it is damaged.
    """
    file = table_of(path)
    if not file.is_file():
        return {}
    try:
        return {int(row["id"]): row for row in read_rows(path, columns=["id"])}
    except ValueError as error:
        raise AgedgeError(f"{file}: not the table of {Path(path).name}: {error}") from None


def find_rows(sources: List[RecordSource], rows: Dict[str, Dict[int, Dict[str, str]]]) -> List[Dict[str, str]]:
    """Return the row of each record; {} if its table, `rows` by file, has none."""
    return [rows.get(file, {}).get(number, {}) for file, number in sources]


def read_faces(
    sources: Iterable[RecordSource], size: int, labels: str = "auto", crop: Optional[Crop] = None
) -> Dict[RecordSource, np.ndarray]:
    """Return {source: image (size, size, 3) BGR uint8}, realigned to `crop`. Unreadable records are left out.

    Only the faces of `sources` are decoded.
    """
    wanted: Dict[str, set] = {}
    for file, number in sources:
        wanted.setdefault(file, set()).add(number)
    found: Dict[RecordSource, np.ndarray] = {}
    for file, numbers in wanted.items():
        refit, last = make_refit(file, size, crop), max(numbers)
        for number, (_, jpeg) in enumerate(read_raw(file, labels)):
            image: Optional[np.ndarray] = refit(decode(jpeg)) if number in numbers else None
            if image is not None:
                found[RecordSource(file, number)] = image
            if number == last:
                break
    return found
