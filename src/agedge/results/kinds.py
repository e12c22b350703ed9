"""The kinds of files that commands write. A kind is recognised by the content of a file, not by its name.

Images and pages are marked, since nothing else distinguishes an annotated photograph from a photograph: by a comment in
JPEG (ITU T.81, B.2.4.5), a tEXt chunk in PNG (PNG 1.2, 4.2.3), a generator in HTML.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Union

from agedge.recordio import MAGIC

MARK = b"made by agedge"
GENERATOR = '<meta name="generator" content="agedge">'
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_HEADER = 33  # bytes of a PNG's signature and its first chunk, IHDR
_MAX_JSON = 64 << 20  # bytes; the results of 100,000 faces have a few megabytes
_HEAD = 1 << 20  # bytes that are read from other files


class Kind(NamedTuple):
    """A kind of result: its name in error texts, and the function that recognises such a file."""

    name: str
    recognise: Callable[[Path], bool]


def mark_image(content: bytes) -> bytes:
    """Return an encoded PNG or JPEG with the mark added and the same pixels; other formats are returned unchanged."""
    if content.startswith(_PNG):
        chunk = b"tEXtSoftware\0" + MARK
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return content[:_HEADER] + chunk + content[_HEADER:]
    if content.startswith(_JPEG):
        end = 2 + 2 + int.from_bytes(content[4:6], "big") if content[2:4] == b"\xff\xe0" else 2  # after JFIF's APP0
        return content[:end] + b"\xff\xfe" + struct.pack(">H", len(MARK) + 2) + MARK + content[end:]
    return content


def is_marked(path: Union[str, Path]) -> bool:
    """Return whether a file is a PNG or JPEG with the mark of `mark_image`."""
    try:
        head = _read_head(path, 256)
    except OSError:  # a folder, or a file without read permission
        return False
    return head.startswith((_PNG, _JPEG)) and MARK in head


def _read_head(path: Union[str, Path], size: int = _HEAD) -> bytes:
    with open(path, "rb") as file:
        return file.read(size)


def _read_object(path: Union[str, Path]) -> Optional[dict]:
    """Return the JSON object in a file; None if the file is not one."""
    try:
        content = _read_head(path, _MAX_JSON + 1)
        value = json.loads(content) if len(content) <= _MAX_JSON else None
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def json_kind(name: str, *keys: str) -> Kind:
    """Return the kind of files that hold a JSON object with `keys`."""
    return Kind(name, lambda path: set(keys) <= set(_read_object(path) or ()))


def csv_kind(name: str, *columns: str) -> Kind:
    """Return the kind of CSV files whose first columns are `columns`."""
    first = ",".join(columns).encode()

    def recognise(path: Path) -> bool:
        line = _read_head(path).split(b"\n")[0].strip().replace(b"\xef\xbb\xbf", b"")
        return line == first or line.startswith(first + b",")

    return Kind(name, recognise)


def _is_predictions(path: Path) -> bool:
    """Return whether a file is a list of predictions: lines of one JSON object per image."""
    try:
        value = json.loads(_read_head(path, _MAX_JSON).split(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and {"file", "width", "height", "status", "faces"} <= set(value)


def _is_index(path: Path) -> bool:
    """Return whether a file is an index of records: a number, a tab and an offset on each line."""
    lines = _read_head(path).split(b"\n")[:-1]
    return bool(lines) and all(
        len(numbers) == 2 and all(number.strip().isdigit() for number in numbers)
        for numbers in (line.split(b"\t") for line in lines)
    )


def _is_annotations(path: Path) -> bool:
    """Return whether a file is a label.txt: a line "# relative/path.jpg" per image, a line of numbers per face."""
    lines = [line.strip() for line in _read_head(path).splitlines()[:200] if line.strip()]
    return bool(lines) and all(
        b"." in line if line.startswith(b"# ") else len(line.split()) >= 4 and _are_numbers(line.split())
        for line in lines
    )


def _are_numbers(fields: List[bytes]) -> bool:
    try:
        return all(float(field) is not None for field in fields)
    except ValueError:
        return False


def read_model_card(path: Union[str, Path]) -> Optional[dict]:
    """Return the JSON object of a model's card.json; None if the file is missing or is not a card."""
    value = _read_object(path)
    return value if value and {"format", "name", "files"} <= set(value) else None


FOLDER = Kind("a folder", lambda path: path.is_dir())
PREDICTIONS = Kind("a JSON result of test.py", _is_predictions)
FACES_TABLE = csv_kind("a CSV result of test.py", "file", "face", "x1", "y1", "x2", "y2", "score")
METRICS = json_kind("a JSON result of evaluate.py or val.py", "model", "runtime", "data", "bad_records")
DEPLOY_CHECK = json_kind("a JSON result of deploy check", "model", "exported", "data", "runtimes")
SUMMARY = json_kind("a JSON result of inspect", "files", "copies", "people_in_several_files")
MARKED_IMAGE = Kind("an image that agedge made", is_marked)
PAGE = Kind("a report that agedge made", lambda path: GENERATOR.encode() in _read_head(path, 2000))
ANNOTATIONS = Kind("a label.txt of annotated images", _is_annotations)
# MXNet's files of arrays begin with the number 0x112 (src/ndarray/ndarray.cc, kMXAPINDArrayListMagic).
PARAMETERS = Kind("a file of MXNet parameters", lambda path: _read_head(path, 8) == b"\x12\x01\0\0\0\0\0\0")
DROPPED = csv_kind("a table of dropped rows", "id", "reason", "detail")
# The files of a record file NAME.rec, by suffix.
RECORD_FILES = {
    ".rec": Kind("a record file", lambda path: _read_head(path, 4) == MAGIC),
    ".idx": Kind("the index of a record file", _is_index),
    ".json": json_kind("the JSON of a record file", "labels", "count"),
    ".csv": csv_kind("the table of a record file", "id", "file", "gender", "age_min", "age_max"),
}
