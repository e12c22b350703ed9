"""Check a parameter file of MXNet before MXNet reads it: its loader allocates whatever a length in the file says.

The format (MXNet's `src/ndarray/ndarray.cc`, little-endian): 0x112, a reserved number and the number of arrays, 8 bytes
each; the arrays; the number of names, then each name after its length. An array is a version, its storage type, its
shape, a device, a type and the numbers. Files of MXNet before 0.12 have no storage type, those before 1.0 no version.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO, Optional, Union

from agedge.errors import AgedgeError

MAGIC = 0x112
V1, V2 = 0xF993FAC8, 0xF993FAC9
DENSE = 0
DEVICES = (1, 2, 3, 5)  # CPU, GPU, pinned and shared memory
# Bytes of a number, by MXNet's number of the type: float32, 64, 16, uint8, int32, int8, int64, bool, bfloat16.
SIZES = {0: 4, 1: 8, 2: 2, 3: 1, 4: 4, 5: 1, 6: 8, 7: 1, 12: 2}
MOST_AXES = 32
LONGEST_NAME = 4096  # bytes; names of modules in modules have some hundred


def check_params(path: Union[str, Path], shown_as: Optional[Union[str, Path]] = None) -> None:
    """Check the structure of a parameter file without reading its numbers; `shown_as`: what errors call the file.

    Raises `AgedgeError`, one line, if the file is missing or is not a complete file of dense arrays.
    """
    path, shown_as = Path(path), shown_as or path
    try:
        with path.open("rb") as file:
            _walk(file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise AgedgeError(f"{shown_as}: no such file") from None
    except ValueError as error:
        raise AgedgeError(f"{shown_as}: not an MXNet parameter file, or damaged: {error}") from None


def _walk(file: BinaryIO, total: int) -> None:
    if _read(file, "<Q") != MAGIC:
        raise ValueError("it does not begin with MXNet's magic number")
    _read(file, "<Q")
    count = _read(file, "<Q")
    if count > total:
        raise ValueError(f"it cannot hold {count} arrays")
    for _ in range(count):
        _skip(file, _bytes_of_array(file), total, "an array")
    names = _read(file, "<Q")
    if names not in (0, count):
        raise ValueError(f"{count} arrays with {names} names")
    known = set()
    for _ in range(names):
        length = _read(file, "<Q")
        if length > min(LONGEST_NAME, total - file.tell()):
            raise ValueError(f"a name of {length} bytes")
        name = file.read(length).decode("utf-8")  # its error is a ValueError
        if not name.isprintable() or name in known:
            raise ValueError("a name that is not printable, or occurs twice")
        known.add(name)
    if file.tell() != total:
        raise ValueError(f"{total - file.tell()} bytes too many")


def _bytes_of_array(file: BinaryIO) -> int:
    """Read the header of an array and return how many bytes of numbers follow it."""
    version = _read(file, "<I")
    if version == V2 and _read(file, "<i") != DENSE:
        raise ValueError("a sparse array")
    axes = _read(file, "<I") if version in (V1, V2) else version
    if axes > MOST_AXES:
        raise ValueError("an array of an unknown version" if version not in (V1, V2) else f"an array of {axes} axes")
    if not axes:
        return 0
    count = 1
    for _ in range(axes):
        side = _read(file, "<q" if version in (V1, V2) else "<I")
        if side < 0:
            raise ValueError(f"an array with a side of {side}")
        count *= side
    device, _, kind = _read(file, "<i"), _read(file, "<i"), _read(file, "<i")
    if device not in DEVICES or kind not in SIZES:
        raise ValueError("an array of an unknown device or type")
    return count * SIZES[kind]


def _read(file: BinaryIO, form: str) -> int:
    size = struct.calcsize(form)
    found = file.read(size)
    if len(found) < size:
        raise ValueError("it ends too early")
    return struct.unpack(form, found)[0]


def _skip(file: BinaryIO, size: int, total: int, what: str) -> None:
    if size > total - file.tell():
        raise ValueError(f"{what} of {size} bytes, which the file does not have")
    file.seek(size, os.SEEK_CUR)
