"""Read and write labelled faces: NAME.rec and NAME.idx, whose records hold [gender, age_min, age_max] and a JPEG.

NAME.json (source, label layout, image size, crop, counts) and NAME.csv (a row a record) lie beside them, both with
checksums (`agedge.checksums`); readers need neither. Files of other tools hold other labels and are read with their
layout, such as `labels="age,gender"`.
"""

import csv
import hashlib
import json
import logging
from array import array
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Type, Union

import cv2
import numpy as np

from agedge.checksums import COLUMN as CHECKSUM_COLUMN
from agedge.checksums import checksum, read_checked_frames
from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.images.decode import check_image, decode_pixels
from agedge.label_check import check_guess, check_labels, find_label_faults, warn_of_faults
from agedge.labels import LAYOUT, LAYOUTS, Label, parse_layout, to_contract
from agedge.recordio import pack_frame, pack_image, read_frames, read_index, unpack_image
from agedge.safe_write import PartialFile

log = logging.getLogger(__name__)

SAMPLE = 1000  # records whose labels are checked before the first one is used
CSV_COLUMNS = ("id", "file", *LAYOUT, "identity", "fold", "race", "landmarks", CHECKSUM_COLUMN)


class RecordWriter:
    """Write NAME.rec, .idx, .csv and .json, which appear under their names together when the writer is closed.

    A context manager; where the block raises an error, no file stays behind. Raises `AgedgeError` where another process
    is writing the same files, and `OSError` that names the file where the disk does not take it.

    Attributes:
        path: NAME.rec.
        count: number of records that were appended.
        info: content of NAME.json beside label layout, count and checksum; set it before the writer is closed.
    """

    def __init__(self, path: Union[str, Path]):
        self.path = Path(path)
        self.count = 0
        self.info: Dict[str, Any] = {}
        self._offset = 0
        self._checksum = 0  # of the record that was appended last
        self._sha256 = hashlib.sha256()
        self._rec, self._idx, self._csv, self._json = (
            PartialFile(self.path.with_suffix(f".{ext}")) for ext in ("rec", "idx", "csv", "json")
        )
        self._table = csv.writer(self._csv)
        self._table.writerow(CSV_COLUMNS)

    def write(self, label: Label, jpeg: bytes, **details: Any) -> None:
        """Append one face, whose id is its position, with its row in the CSV. `details`: see `write_row`."""
        self.write_labels(label.as_array(), jpeg)
        self.write_row(label, **details)

    def write_labels(self, label: np.ndarray, jpeg: bytes) -> None:
        """Append a face with a label (k,) of any layout, without a row in the CSV."""
        self.write_record(pack_image(label, self.count, jpeg))

    def write_record(self, record: bytes) -> None:
        """Append a whole record of another file, its header and id unchanged, without a row in the CSV."""
        frame = pack_frame(record)
        self._rec.write(frame)
        self._idx.write(f"{self.count}\t{self._offset}\n")
        self._sha256.update(frame)
        self._checksum = checksum(record)
        self._offset += len(frame)
        self.count += 1

    def write_row(
        self,
        label: Label,
        *,
        file: str = "",
        identity: str = "",
        fold: str = "",
        race: str = "",
        landmarks: Optional[np.ndarray] = None,
    ) -> None:
        """Append the CSV row of the face that was appended last.

        `landmarks` (5, 2), if known, are pixels of the packed image; the CSV holds them as ten numbers, x before y,
        separated by spaces.
        """
        ages = (f"{label.age_min:g}", f"{label.age_max:g}")
        points = "" if landmarks is None else " ".join(f"{value:.2f}" for value in np.ravel(landmarks))
        more = (identity or "", fold or "", race or "", points, f"{self._checksum:08x}")
        self._table.writerow([self.count - 1, file, label.gender, *ages, *more])

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        files = (self._idx, self._csv, self._json, self._rec)  # the .rec last: where it exists, the others do
        try:
            if kind is None:
                info = {"labels": LAYOUTS[0], "count": self.count, **self.info, "sha256": self._sha256.hexdigest()}
                self._json.write(json.dumps(info, indent=1) + "\n")
                PartialFile.finish(files)
        finally:
            for one in files:
                one.discard()


class Record(NamedTuple):
    """One face: `label` (3,) float32 by the contract; `image` (h, w, 3) BGR uint8, None where it cannot be decoded."""

    index: int
    label: np.ndarray
    image: Optional[np.ndarray]


def read_info(path: Union[str, Path]) -> Dict[str, Any]:
    """Return the content of NAME.json beside a .rec; {} without one. Raises `AgedgeError` where it is damaged."""
    file = Path(path).with_suffix(".json")
    if not file.is_file():
        return {}
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AgedgeError(f"{file}: not JSON: {error}") from None
    if not isinstance(info, dict):
        raise AgedgeError(f"{file}: not what pack writes: must be an object with labels of {'; '.join(LAYOUTS)}")
    if "labels" in info:
        try:
            info["labels"] = parse_layout(info["labels"])
        except UsageError as error:
            raise AgedgeError(f"{file}: not what pack writes: {error}") from None
    for key, kind in (("source", str), ("terms", str), ("packed", dict), ("sha256", str)):
        if not isinstance(info.get(key), (kind, type(None))):
            raise AgedgeError(f"{file}: not what pack writes: {key} must be {'a text' if kind is str else 'an object'}")
    return info


def table_of(path: Union[str, Path]) -> Path:
    """Return NAME.csv of NAME.rec."""
    return Path(path).with_suffix(".csv")


def read_rows(path: Union[str, Path], columns: Sequence[str] = CSV_COLUMNS[:5]) -> Iterator[Dict[str, str]]:
    """Yield the rows of NAME.csv as {column: text}.

    Raises `AgedgeError` if the table is missing, damaged, or does not have all of `columns`.
    """
    try:
        with open(table_of(path), encoding="utf-8", errors="backslashreplace", newline="") as file:
            rows = csv.DictReader(file, restval="")
            if not set(columns) <= set(rows.fieldnames or ()):
                raise AgedgeError(f"{table_of(path)}: not a table of records: no columns {', '.join(columns)}")
            yield from rows
    except FileNotFoundError:
        raise AgedgeError(f"{table_of(path)}: missing") from None
    except csv.Error as error:
        raise AgedgeError(f"{table_of(path)}: not a table of records: {error}") from None


def read_crop(path: Union[str, Path]) -> Optional[Crop]:
    """Return the crop of a .rec file's faces, from NAME.json; None where it is unknown."""
    crop = read_info(path).get("crop")
    return Crop.from_json(crop, Path(path).with_suffix(".json")) if crop else None


def label_layout(path: Union[str, Path], labels: str = "auto") -> str:
    """Return the layout of a file's labels: `labels` unless "auto", else that of NAME.json, else a guess by values.

    The guess is logged. Raises `UsageError` for an unknown layout, and `AgedgeError` that names the layouts to pass
    where no guess fits the labels.
    """
    if labels != "auto":
        return parse_layout(labels)
    if "labels" in (info := read_info(path)):
        return info["labels"]
    found = Path(path).stat() if Path(path).is_file() else None
    return _guess_once(str(path), found and (found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=256)
def _guess_once(path: str, state: Optional[Tuple[int, int]]) -> str:
    """Guess the layout of a file, once for each `state`: its time of change and size."""
    layout = check_guess(read_first_labels(path), path)
    log.info("%s: labels: %s (guessed: no JSON beside it)", path, layout)
    return layout


def read_first_labels(path: Union[str, Path], width: int = 0) -> np.ndarray:
    """Return the labels (n, k) of the first `SAMPLE` records, or of those before a damaged one.

    Only labels of `width` numbers are returned; 0: of as many as the first label has. Raises `AgedgeError` where the
    first record cannot be read.
    """
    found = []
    try:
        for number, (_, record) in enumerate(islice(read_frames(path), SAMPLE)):
            try:
                found.append(unpack_image(record)[0])
            except ValueError as error:
                raise AgedgeError(f"{path}: record {number}: {error}") from None
    except AgedgeError:
        if not found:
            raise
    width = width or (found[0].size if found else 0)
    return np.array([label for label in found if label.size == width], np.float32).reshape(-1, width)


def read_labelled(path: Union[str, Path], labels: str = "auto") -> Iterator[Tuple[int, np.ndarray, bytes]]:
    """Yield (offset in bytes, label (3,), JPEG) of every record, in the file's order.

    `agedge.label_check` checks the labels of `SAMPLE` records before the first one, and all labels after the last one.
    Single bad labels become unknown and are logged. Raises `AgedgeError` where the file is damaged or its labels do not
    fit the layout.
    """
    layout = label_layout(path, labels)
    declared = read_info(path).get("labels") == layout
    first = read_first_labels(path, len(layout.split(",")))
    if len(first):
        check_labels(first, layout, path, declared)
    raw = array("f")
    for number, (start, record) in enumerate(read_checked_frames(path)):
        try:
            numbers, _, jpeg = unpack_image(record)
            label = to_contract(numbers[None], layout)[0]
        except (ValueError, UsageError) as error:
            raise AgedgeError(f"{path}: record {number}: {error}") from None
        raw.extend(numbers)
        yield start, label, jpeg
    if raw:
        check_all_labels(np.array(raw).reshape(-1, numbers.size), layout, path, declared)


def check_all_labels(raw: np.ndarray, layout: str, path: Union[str, Path], declared: bool) -> np.ndarray:
    """Return labels (n, k) of a whole file by the contract, (n, 3); single bad ones are logged.

    Raises `AgedgeError` where the labels do not fit the layout. `declared`: the layout comes from NAME.json.
    """
    check_labels(raw, layout, path, declared)
    contract = to_contract(raw, layout)
    faults = find_label_faults(raw, contract, layout)
    bad = [number for number, fault in enumerate(faults) if fault]
    warn_of_faults(path, bad, [faults[number] for number in bad[:1]], raw[bad[:1]].tolist())
    return contract


def read_raw(path: Union[str, Path], labels: str = "auto") -> Iterator[Tuple[np.ndarray, bytes]]:
    """Yield (label (3,), JPEG) in the file's order. Raises `AgedgeError` as `read_labelled` does."""
    for _, label, jpeg in read_labelled(path, labels):
        yield label, jpeg


def read_records(path: Union[str, Path], labels: str = "auto") -> Iterator[Record]:
    """Yield every record once, in the file's order, with its image decoded."""
    for index, (label, jpeg) in enumerate(read_raw(path, labels)):
        yield Record(index, label, decode(jpeg))


def encode(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode an image (h, w, 3) BGR uint8 as JPEG. Raises `ValueError` where it is too wide or too high for one."""
    good, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise ValueError(f"{image.shape[1]}x{image.shape[0]}: too large for a JPEG")
    return jpeg.tobytes()


def decode(jpeg: bytes, form: int = cv2.IMREAD_COLOR) -> Optional[np.ndarray]:
    """Decode an image to (h, w, 3) BGR uint8; None where the bytes are not a valid image. `form`: `cv2.IMREAD_...`."""
    try:
        return decode_pixels(jpeg, form, check_image(jpeg))
    except ValueError:
        return None


def check_index(path: Union[str, Path]) -> int:
    """Return the number of records. Raises `AgedgeError` where NAME.idx is not the index of NAME.rec.

    With a wrong index, MXNet reads from the middle of a record.
    """
    offsets = [offset for offset, _ in read_frames(path)]
    compare_index(path, offsets)
    return len(offsets)


def compare_index(path: Union[str, Path], offsets: List[int]) -> None:
    """Raise `AgedgeError` where NAME.idx does not list the records of NAME.rec, which begin at `offsets`."""
    index_file = Path(path).with_suffix(".idx")
    listed = sorted(offset for _, offset in read_index(index_file))
    if listed != offsets:
        raise AgedgeError(
            f"{index_file}: not the index of {Path(path).name}: {len(listed)} entries for {len(offsets)} records"
            + ("" if len(listed) != len(offsets) else ", at other offsets")
        )
