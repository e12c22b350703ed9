"""The dataset of training faces, with random access: decoded in memory, or decoded from disk at each access."""

import hashlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from agedge.errors import AgedgeError, choices
from agedge.evaluation.batches import warn_of_bad_images
from agedge.faces.align import resize_square
from agedge.recordio import read_frame, read_index, unpack_image
from agedge.records import compare_index, decode, read_crop, read_labelled
from agedge.training.data.available_memory import available_memory

log = logging.getLogger(__name__)

CACHES = ("auto", "memory", "disk")
MEMORY_SHARE = 0.5  # of the available memory that decoded faces may use with cache=auto
CHUNK = 512  # records that are decoded at a time while a file is opened


class _Table:
    """The positions, labels and checksums of all faces.

    `places` (n, 4) int64: number of the file, number of the record, first byte and length of the record; `labels` (n,
    3) float32; `checksums` (n,) uint64 of the JPEGs. The arrays have a row for every record of the index files; the
    first `count` rows are filled.
    """

    def __init__(self, capacity: int):
        self.count = 0
        self.places = np.empty((capacity, 4), np.int64)
        self.labels = np.empty((capacity, 3), np.float32)
        self.checksums = np.empty(capacity, np.uint64)


class FaceDataset:
    """Faces 0 .. count - 1 of one or several files, as squares of `size` pixels. Create it with `open_dataset`.

    `labels` (count, 3) float32 as in `agedge.labels`; `checksums` (count,) uint64 of their JPEGs; `cache` "memory" or
    "disk".
    """

    def __init__(self, files: List[Path], size: int, table: _Table, images: Optional[np.ndarray], threads: int):
        self.files, self.size, self.count = files, size, table.count
        self.labels, self.checksums = table.labels[: self.count], table.checksums[: self.count]
        self.cache = "disk" if images is None else "memory"
        self._places = table.places[: self.count]
        self._images = images  # (count, size, size, 4) BGRX uint8
        self._threads = threads
        self._workers = ThreadPoolExecutor(threads) if images is None and threads > 1 else None
        self._open: Dict[int, FileIO] = {}
        self._lock = threading.Lock()

    def describe_record(self, i: int) -> str:
        """Return the record of a face as "FILE record k"."""
        return f"{self.files[self._places[i, 0]]} record {self._places[i, 1]}"

    def read_record(self, i: int) -> Tuple[np.ndarray, bytes]:
        """Read the label (3,) and the JPEG of a face from its file. Raises `AgedgeError` if the file has changed."""
        number, _, start, length = map(int, self._places[i])
        path = self.files[number]
        try:
            with self._lock:  # seek and read must not be interrupted; other threads may decode
                if number not in self._open:
                    self._open[number] = open(path, "rb", buffering=0)
                self._open[number].seek(start)
                frame = self._open[number].read(length)
            jpeg = unpack_image(read_frame(frame, 0)[0])[2]
        except (OSError, ValueError, EOFError) as error:
            raise AgedgeError(
                f"{self.describe_record(i)}: can no longer be read: {str(error) or 'truncated'}"
            ) from None
        if checksum(jpeg) != self.checksums[i]:
            raise AgedgeError(f"{self.describe_record(i)}: the file has changed since it was opened")
        return self.labels[i].copy(), jpeg

    def load(self, rows: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Return a pool (P, size, size, 4) BGRX uint8 with the faces `rows` (n,), and their indices (n,) in it."""
        if self._images is not None:
            return self._images, rows
        pool = np.empty((len(rows), self.size, self.size, 4), np.uint8)
        work = self._workers.map if self._workers else map
        for _ in work(self._decode, np.array_split(rows, self._threads), np.array_split(pool, self._threads)):
            pass
        return pool, np.arange(len(rows))

    def _decode(self, rows: np.ndarray, out: np.ndarray) -> None:
        for i, pixels in zip(rows, out):
            face = to_face(self.read_record(i)[1], self.size)
            if face is None:
                raise AgedgeError(f"{self.describe_record(i)}: not an image")
            cv2.cvtColor(face, cv2.COLOR_BGR2BGRA, pixels)


def to_face(jpeg: bytes, size: int) -> Optional[np.ndarray]:
    """Decode a JPEG to (size, size, 3) BGR uint8, as evaluation does; None if it is not an image."""
    image = decode(jpeg)
    return None if image is None else resize_square(image, size)


def checksum(jpeg: bytes) -> int:
    """Return a 64-bit hash of a JPEG."""
    return int.from_bytes(hashlib.blake2b(jpeg, digest_size=8).digest(), "little")


def open_dataset(
    paths: Sequence[Union[str, Path]], size: int, labels: str = "auto", cache: str = "auto", threads: int = 1
) -> FaceDataset:
    """Open the readable faces of .rec files, in one pass over them.

    `cache`: "memory" keeps decoded faces, "disk" decodes them in `threads` threads at each access, "auto" is "memory"
    if they take at most half of the available memory. Records that are not images are skipped and named in a warning.
    Raises `AgedgeError` if a file is damaged or does not match its index, if no image is readable, and if there is not
    enough memory.
    """
    if cache not in CACHES:
        raise choices("data.cache", cache, CACHES)
    files = [Path(path) for path in paths]
    capacity = sum(len(read_index(path.with_suffix(".idx"))) for path in files)
    needed, free = capacity * size * size * 4, available_memory()
    if cache == "auto":
        cache = "memory" if free is not None and needed <= MEMORY_SHARE * free else "disk"
    images = None
    if cache == "memory":
        too_much = (
            f"data.cache=memory: {capacity:,} faces take {needed / 1e6:,.0f} MB, more than is available; use disk"
        )
        if free is not None and needed > free:
            raise AgedgeError(too_much)
        try:
            images = np.empty((capacity, size, size, 4), np.uint8)
        except MemoryError:
            raise AgedgeError(too_much) from None
    table = _Table(capacity)
    for number, path in enumerate(files):
        _read_file(number, path, size, labels, table, images)
    if not table.count:
        raise AgedgeError(f"{files[0]}: contains no readable image")
    warn_of_other_crops(files)
    if images is None:
        log.info(
            "%s faces on disk, decoded by %d thread%s at each access", f"{table.count:,}", threads, "s" * (threads > 1)
        )
    else:
        images = images[: table.count]
        log.info("%s faces in memory: %s MB", f"{table.count:,}", f"{images.nbytes / 1e6:,.0f}")
    return FaceDataset(files, size, table, images, threads)


def _read_file(number: int, path: Path, size: int, labels: str, table: _Table, images: Optional[np.ndarray]) -> None:
    """Add a file's readable faces to the table, and their pixels to `images` unless that is None."""

    def decode_record(record: tuple) -> Optional[np.ndarray]:
        if images is not None:
            return to_face(record[2], size)
        return decode(record[2], cv2.IMREAD_REDUCED_GRAYSCALE_8)  # at an eighth of its size, as a quick check

    listed = len(read_index(path.with_suffix(".idx")))
    records, starts, bad, first = read_labelled(path, labels), [], [], table.count
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        while chunk := list(islice(records, CHUNK)):
            for (start, label, jpeg), face in zip(chunk, threads.map(decode_record, chunk)):
                row, record = table.count, len(starts)
                starts.append(start)
                if face is None:
                    bad.append(record)
                elif record < listed:  # else the index is of another file, and `compare_index` raises
                    if images is not None:
                        cv2.cvtColor(face, cv2.COLOR_BGR2BGRA, images[row])
                    table.places[row, :3] = number, record, start
                    table.labels[row], table.checksums[row] = label, checksum(jpeg)
                    table.count += 1
    compare_index(path, starts)
    added = slice(first, table.count)
    lengths = np.diff([*starts, path.stat().st_size])
    table.places[added, 3] = lengths[table.places[added, 1]]
    warn_of_bad_images(path, bad)


def warn_of_other_crops(files: Sequence[Path]) -> None:
    """Log a warning for each file with a different crop from that of the first file."""
    first = read_crop(files[0])
    for path in files[1:]:
        crop = read_crop(path)
        if (crop is None) != (first is None) or crop and first and not crop.same_as(first):
            log.warning("%s: its faces have a different crop from those of %s", path, files[0])
