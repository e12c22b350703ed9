"""The RecordIO container of MXNet, byte for byte: frames, and the image record's header.

A frame is a magic number, a word with the length (29 bits) and a continuation flag (3 bits), the data, and zeros to the
next multiple of four. Data that holds the magic number at a multiple of four is cut there into several frames.
Reading needs no MXNet, names what is wrong with a file, and does not abort the process, as MXNet's own reader does.
"""

import mmap
import struct
from pathlib import Path
from typing import Iterator, Tuple

import numpy as np

from agedge.errors import AgedgeError

MAGIC = struct.pack("<I", 0xCED7230A)
WHOLE, FIRST, MIDDLE, LAST = 0, 1, 2, 3
_HEADER = struct.Struct("<IfQQ")  # flag (numbers in the label), label, id, id2


def pack_frame(data: bytes) -> bytes:
    """One record as it lies in the file."""
    cuts = _magic_at_multiple_of_four(data)
    if not cuts:
        return _frame(data, WHOLE)
    starts = [0] + [cut + 4 for cut in cuts]
    ends = cuts + [len(data)]
    flags = [FIRST] + [MIDDLE] * (len(cuts) - 1) + [LAST]
    return b"".join(_frame(data[start:end], flag) for start, end, flag in zip(starts, ends, flags))


def _frame(part: bytes, flag: int) -> bytes:
    return MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + b"\0" * (-len(part) % 4)


def _magic_at_multiple_of_four(data: bytes) -> list:
    cuts, at = [], data.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            cuts.append(at)
        at = data.find(MAGIC, at + (4 if at % 4 == 0 else 1))
    return cuts


def pack_image(label: np.ndarray, index: int, jpeg: bytes) -> bytes:
    """An image record: header with a label of several numbers (float32), then the JPEG."""
    label = np.asarray(label, "<f4")
    return _HEADER.pack(label.size, 0.0, index, 0) + label.tobytes() + jpeg


def unpack_image(record: bytes) -> Tuple[np.ndarray, int, bytes]:
    """(label float32 (k,), id, JPEG). A header with a single number gives a label of one. Raises `ValueError`."""
    if len(record) < _HEADER.size:
        raise ValueError("too short for an image record")
    flag, number, index, _ = _HEADER.unpack_from(record)
    if flag == 0:
        return np.array([number], np.float32), index, record[_HEADER.size :]
    if len(record) < _HEADER.size + 4 * flag:
        raise ValueError(f"its label of {flag} numbers runs over its end")
    label = np.frombuffer(record, "<f4", flag, _HEADER.size)
    return label, index, record[_HEADER.size + 4 * flag :]


def read_frames(path: Path) -> Iterator[Tuple[int, bytes]]:
    """(offset, record) in the file's order. Raises `AgedgeError` that names file, record and byte of a fault."""
    path = Path(path)
    if not path.is_file():
        raise AgedgeError(f"{path}: missing")
    size = path.stat().st_size
    if size == 0:
        raise AgedgeError(f"{path}: empty")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        at, number = 0, 0
        while at < size:
            start, parts, flag = at, [], FIRST
            while flag in (FIRST, MIDDLE):
                if size - at < 8:
                    raise AgedgeError(f"{path}: truncated in record {number} at byte {at} of {size}")
                if view[at : at + 4] != MAGIC:
                    raise AgedgeError(f"{path}: damaged at record {number}, byte {at}: no RecordIO magic number")
                word = struct.unpack_from("<I", view, at + 4)[0]
                flag, length = word >> 29, word & (1 << 29) - 1
                end = at + 8 + length
                if end > size:
                    raise AgedgeError(f"{path}: truncated in record {number} at byte {start} of {size}")
                parts.append(view[at + 8 : end])
                at = end + -length % 4
            yield start, MAGIC.join(parts)
            number += 1


def read_index(path: Path) -> list:
    """[(key, offset)] of an .idx file. Raises `AgedgeError`."""
    try:
        lines = [line.split("\t") for line in Path(path).read_text().splitlines()]
        return [(int(key), int(offset)) for key, offset in lines]
    except FileNotFoundError:
        raise AgedgeError(f"{path}: missing") from None
    except ValueError as error:
        raise AgedgeError(f"{path}: not a RecordIO index: {error}") from None
