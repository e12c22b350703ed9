"""Check an ONNX file before ONNX Runtime opens it: its size, its structure, and that it holds its own weights.

ONNX is Protocol Buffers: fields, each a key (number * 8 + kind) and its value. Only fields that lead to tensors and
operators are followed; their numbers are those of `onnx.proto`.
"""

import mmap
from pathlib import Path
from typing import Any, Dict, Tuple, Union

from agedge.errors import AgedgeError

MOST_BYTES = 1 << 30
DEEPEST = 16  # graphs in graphs
DOMAINS = (b"", b"ai.onnx")
# The fields that are followed: {message: {number of the field: message}}.
FIELDS: Dict[str, Dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
DATA_LOCATION, EXTERNAL_DATA, DOMAIN = 14, 13, 7


def check_onnx(path: Union[str, Path]) -> None:
    """Check an ONNX file.

    Raises `AgedgeError`, one line, if it is missing, damaged, too large, or refers to other files or to operators
    that are not ONNX's own.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"over {MOST_BYTES >> 20} MB")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _walk(content, 0, len(content), "model", 0)
    except FileNotFoundError:
        raise AgedgeError(f"{path}: no such file") from None
    except ValueError as error:  # of mmap too, where the file is empty
        raise AgedgeError(f"{path}: not an ONNX model, or damaged: {error}") from None


def _walk(content: Any, start: int, end: int, message: str, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    while start < end:
        key, start = _read_varint(content, start, end)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, start = _read_varint(content, start, end)
            if message == "tensor" and number == DATA_LOCATION and value:
                raise ValueError("its weights are in another file, which is not read")
            continue
        if kind == 2:
            size, start = _read_varint(content, start, end)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("a field of an unknown kind")
        if size > end - start:
            raise ValueError("it ends too early")
        if message == "tensor" and number == EXTERNAL_DATA:
            raise ValueError("its weights are in another file, which is not read")
        if message == "node" and number == DOMAIN and content[start : start + size] not in DOMAINS:
            raise ValueError("an operator that is not ONNX's own")
        if kind == 2 and number in FIELDS[message]:
            _walk(content, start, start + size, FIELDS[message][number], depth + 1)
        start += size


def _read_varint(content: Any, start: int, end: int) -> Tuple[int, int]:
    """Return the number at `start`, and where the next byte begins."""
    value = 0
    for place in range(10):
        if start >= end:
            break
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, start
    raise ValueError("it ends too early, or a number does not end")
