"""Read and write MXNet's RecordIO container, byte for byte: frames, and the header of an image record.

A frame is a magic number, 32 bits with the length (29) and a continuation flag (3), the data, and zeros up to the next
multiple of four. Data that holds the magic number at a multiple of four is cut there into several frames.
Reading does not need MXNet. Errors name the file and the fault; MXNet's own reader aborts the process instead.
"""

import mmap
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError

MAGIC = struct.pack("<I", 0xCED7230A)
WHOLE, FIRST, MIDDLE, LAST = 0, 1, 2, 3
_HEADER = struct.Struct("<IfQQ")  # flag (count of numbers in the label), label, id, id2


def pack_frame(data: bytes) -> bytes:
    """Return a record as the bytes of its frames."""
    cuts = _magic_at_multiple_of_four(data)
    if not cuts:
        return _frame(data, WHOLE)
    starts = [0] + [cut + 4 for cut in cuts]
    ends = cuts + [len(data)]
    flags = [FIRST] + [MIDDLE] * (len(cuts) - 1) + [LAST]
    return b"".join(_frame(data[start:end], flag) for start, end, flag in zip(starts, ends, flags))


def _frame(part: bytes, flag: int) -> bytes:
    return MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + b"\0" * (-len(part) % 4)


def _magic_at_multiple_of_four(data: bytes) -> List[int]:
    cuts, at = [], data.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            cuts.append(at)
        at = data.find(MAGIC, at + (4 if at % 4 == 0 else 1))
    return cuts


def pack_image(label: np.ndarray, index: int, jpeg: bytes) -> bytes:
    """Return an image record: a header with the label (k,) as float32, then the JPEG."""
    label = np.asarray(label, "<f4")
    return _HEADER.pack(label.size, 0.0, index, 0) + label.tobytes() + jpeg


def unpack_image(record: bytes) -> Tuple[np.ndarray, int, bytes]:
    """Return (label (k,) float32, id, JPEG) of an image record. Raises `ValueError` where it is not one."""
    if len(record) < _HEADER.size:
        raise ValueError("too short for an image record")
    flag, number, index, _ = _HEADER.unpack_from(record)
    if flag == 0:
        return np.array([number], np.float32), index, record[_HEADER.size :]
    if len(record) < _HEADER.size + 4 * flag:
        raise ValueError(f"its label of {flag} numbers is longer than the record")
    label = np.frombuffer(record, "<f4", flag, _HEADER.size).copy()  # a view would keep the whole record in memory
    return label, index, record[_HEADER.size + 4 * flag :]


def read_frames(path: Union[str, Path]) -> Iterator[Tuple[int, bytes]]:
    """Yield (offset, record) in the file's order. Raises `AgedgeError` that names file, record and byte of a fault."""
    with _open_view(path) as view:
        size, at, number = len(view), 0, 0
        while at < size:
            try:
                record, end = read_frame(view, at)
            except ValueError as fault:
                raise AgedgeError(f"{path}: damaged at record {number}, byte {at}: {fault}") from None
            except EOFError:
                end = size + 1
            if end > size:
                raise AgedgeError(f"{path}: truncated in record {number} at byte {at} of {size}")
            yield at, record
            at, number = end, number + 1


def read_at(path: Union[str, Path], offsets: Iterable[int]) -> Iterator[Optional[bytes]]:
    """Yield the record at each offset; None where none is whole. Raises `AgedgeError` for a missing or empty file."""
    with _open_view(path) as view:
        for at in offsets:
            try:
                yield read_frame(view, at)[0] if 0 <= at < len(view) else None
            except (ValueError, EOFError):
                yield None


class Gap(NamedTuple):
    """Bytes of a damaged file, from `start` to before `end`, that do not belong to a whole record."""

    start: int
    end: int


def salvage_frames(path: Union[str, Path]) -> Iterator[Union[Tuple[int, bytes], Gap]]:
    """Yield (offset, record) for every whole record of a damaged file, and a `Gap` for the bytes between them.

    A record that lacks only the zeros at its end is whole; a `Gap` of length 0 follows it.
    """
    with _open_view(path) as view:
        size, at = len(view), 0
        while at < size:
            try:
                record, end = read_frame(view, at)
            except (ValueError, EOFError):
                record, end = None, at
            following = end
            if record is None or end > size or not _is_start(view, end):
                # Either the following frame is damaged, or this frame's length: then other frames lie within it.
                following = _find_frame(view, at + 1)
            if record is not None and min(end, size) <= following:
                yield at, record
                at = min(end, size)
            if following > at or end > size:
                yield Gap(at, following)
            at = following


@contextmanager
def _open_view(path: Union[str, Path]) -> Iterator[mmap.mmap]:
    """Map a file into memory. Raises `AgedgeError` where it is missing or empty."""
    path = Path(path)
    if not path.is_file():
        raise AgedgeError(f"{path}: missing")
    if path.stat().st_size == 0:
        raise AgedgeError(f"{path}: empty")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


def read_frame(view: Union[mmap.mmap, bytes], at: int) -> Tuple[bytes, int]:
    """Return the record at byte `at`, and the byte at which the next one begins.

    The latter is up to 3 bytes past the file's end where zeros are missing. Raises `EOFError` where the file ends
    within the record, and `ValueError` with the reason where there is no frame.
    """
    parts, flag = [], WHOLE
    while flag in (FIRST, MIDDLE) or not parts:
        if len(view) - at < 8:
            raise EOFError
        if view[at : at + 4] != MAGIC:
            raise ValueError("no RecordIO magic number")
        word = struct.unpack_from("<I", view, at + 4)[0]
        flag, length = word >> 29, word & (1 << 29) - 1
        if flag not in ((MIDDLE, LAST) if parts else (WHOLE, FIRST)):
            raise ValueError("a record without its last frame" if parts else "a frame without the first of its record")
        end = at + 8 + length
        if end > len(view):
            raise EOFError
        parts.append(view[at + 8 : end])
        at = end + -length % 4
    return MAGIC.join(parts), at


def _is_start(view: mmap.mmap, at: int) -> bool:
    """Return whether a frame begins or the file ends at a byte."""
    return at == len(view) or view[at : at + 4] == MAGIC


def _find_frame(view: mmap.mmap, at: int) -> int:
    """Return the byte of the next frame that is followed by another one or holds a JPEG; else the file's end."""
    while (at := view.find(MAGIC, at)) >= 0:
        try:
            record, end = read_frame(view, at)
            if _is_start(view, end) or unpack_image(record)[2].startswith(b"\xff\xd8\xff"):
                return at
        except (ValueError, EOFError):
            pass
        at += 1
    return len(view)


def read_index(path: Union[str, Path]) -> List[Tuple[int, int]]:
    """Return [(key, offset)] of an .idx file. Raises `AgedgeError` where it is missing or damaged."""
    try:
        lines = [line.split("\t") for line in Path(path).read_text().splitlines()]
        return [(int(key), int(offset)) for key, offset in lines]
    except FileNotFoundError:
        raise AgedgeError(f"{path}: missing") from None
    except ValueError as error:
        raise AgedgeError(f"{path}: not a RecordIO index: {error}") from None
