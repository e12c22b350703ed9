"""The training faces with random access: all of them decoded in memory, or each decoded when it is wanted."""

import hashlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Optional, Tuple

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
SHARE = 0.5  # of the memory that is available, which faces may take
CHUNK = 512  # records that are decoded together at the start


class TrainingFaces:
    """Faces 0 .. count - 1 of one or several files, `size` pixels square, as `open_faces` gives them.

    `labels` (count, 3) float32 by the contract; `checksums` (count,) uint64 of their JPEGs; `cache` "memory" or "disk".
    """

    def __init__(self, files: list, size: int, places: np.ndarray, labels, checksums, images=None, threads: int = 1):
        self.files, self.size, self.labels, self.checksums = files, size, labels, checksums
        self.count, self.cache = len(labels), "disk" if images is None else "memory"
        self._places = places  # (count, 4) int64: number of the file, number of the record, its first byte, bytes
        self._images = images
        self._threads = threads
        self._workers = ThreadPoolExecutor(threads) if images is None and threads > 1 else None
        self._open, self._lock = {}, threading.Lock()

    def where(self, i: int) -> str:
        """Which record a face is: "FILE record k"."""
        return f"{self.files[self._places[i, 0]]} record {self._places[i, 1]}"

    def record(self, i: int) -> Tuple[np.ndarray, bytes]:
        """Label (3,) and JPEG of a face, read from its file. Raises `AgedgeError` where that has changed."""
        number, _, start, length = map(int, self._places[i])
        path = self.files[number]
        try:
            with self._lock:  # one position a file; the interpreter goes on elsewhere meanwhile
                if number not in self._open:
                    self._open[number] = open(path, "rb", buffering=0)
                self._open[number].seek(start)
                frame = self._open[number].read(length)
            jpeg = unpack_image(read_frame(frame, 0)[0])[2]
        except (OSError, ValueError, EOFError) as error:
            raise AgedgeError(f"{self.where(i)}: cannot be read any more: {str(error) or 'cut off'}") from None
        if checksum(jpeg) != self.checksums[i]:
            raise AgedgeError(f"{self.where(i)}: the file has changed since it was opened")
        return self.labels[i].copy(), jpeg

    def pool(self, rows: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """A pool (P, size, size, 4) BGRX uint8 that holds the faces `rows` (n,), and where in it they are (n,)."""
        if self._images is not None:
            return self._images, rows
        pool = np.empty((len(rows), self.size, self.size, 4), np.uint8)
        work = self._workers.map if self._workers else map
        for _ in work(self._decode, np.array_split(rows, self._threads), np.array_split(pool, self._threads)):
            pass
        return pool, np.arange(len(rows))

    def _decode(self, rows: np.ndarray, out: np.ndarray) -> None:
        for i, place in zip(rows, out):
            face = to_face(self.record(i)[1], self.size)
            if face is None:
                raise AgedgeError(f"{self.where(i)}: no image")
            cv2.cvtColor(face, cv2.COLOR_BGR2BGRA, place)


def to_face(jpeg: bytes, size: int) -> Optional[np.ndarray]:
    """(size, size, 3) BGR uint8, as evaluation sees it, or None where it is no image."""
    image = decode(jpeg)
    return None if image is None else resize_square(image, size)


def checksum(jpeg: bytes) -> int:
    """64 bits that tell one JPEG from another."""
    return int.from_bytes(hashlib.blake2b(jpeg, digest_size=8).digest(), "little")


def open_faces(paths: list, size: int, labels: str = "auto", cache: str = "auto", threads: int = 1) -> TrainingFaces:
    """The readable faces of .rec files, in one pass over them.

    `cache`: "memory" keeps them decoded, "disk" decodes them anew by `threads` threads whenever they are wanted, "auto"
    is memory where they take at most half of what is available. Records that are no images are left out and named in a
    warning. Raises `AgedgeError` where a file is damaged, is not the one that its index is of, or no image is left, and
    where there is not the memory that was asked for.
    """
    if cache not in CACHES:
        raise choices("data.cache", cache, CACHES)
    files = [Path(path) for path in paths]
    most = sum(len(read_index(path.with_suffix(".idx"))) for path in files)
    need, free = most * size * size * 4, available_memory()
    if cache == "auto":
        cache = "memory" if free is not None and need <= SHARE * free else "disk"
    images = None
    if cache == "memory":
        too_much = f"data.cache=memory: {most:,} faces take {need / 1e6:,.0f} MB, more than is available; take disk"
        if free is not None and need > free:
            raise AgedgeError(too_much)
        try:
            images = np.empty((most, size, size, 4), np.uint8)
        except MemoryError:
            raise AgedgeError(too_much) from None
    table = _Table(most)
    for number, path in enumerate(files):
        _read_file(number, path, size, labels, table, images)
    if not table.count:
        raise AgedgeError(f"{files[0]}: not one readable image in it")
    warn_of_other_crops(files)
    n = table.count
    if images is None:
        log.info("%s faces on disk, decoded by %d thread%s as they come", f"{n:,}", threads, "s" * (threads > 1))
    else:
        images = images[:n]
        log.info("%s faces in memory: %s MB", f"{n:,}", f"{images.nbytes / 1e6:,.0f}")
    return TrainingFaces(files, size, table.places[:n], table.labels[:n], table.checksums[:n], images, threads)


class _Table:
    """What is known of every face, in arrays of the length that the indices promise."""

    def __init__(self, most: int):
        self.count = 0
        self.places = np.empty((most, 4), np.int64)
        self.labels = np.empty((most, 3), np.float32)
        self.checksums = np.empty(most, np.uint64)


def _read_file(number: int, path: Path, size: int, labels: str, table: _Table, images: Optional[np.ndarray]) -> None:
    """Add a file's readable faces to the table, and their pixels to `images` where there are to be any."""

    def look(record):
        if images is not None:
            return to_face(record[2], size)
        return decode(record[2], cv2.IMREAD_REDUCED_GRAYSCALE_8)  # at an eighth of its size: a quick look

    listed = len(read_index(path.with_suffix(".idx")))
    records, starts, bad, first = read_labelled(path, labels), [], [], table.count
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        while chunk := list(islice(records, CHUNK)):
            for (start, label, jpeg), face in zip(chunk, threads.map(look, chunk)):
                row, record = table.count, len(starts)
                starts.append(start)
                if face is None:
                    bad.append(record)
                elif record < listed:  # else the index is of another file, which is said below
                    if images is not None:
                        cv2.cvtColor(face, cv2.COLOR_BGR2BGRA, images[row])
                    table.places[row, :3] = number, record, start
                    table.labels[row], table.checksums[row] = label, checksum(jpeg)
                    table.count += 1
    compare_index(path, starts)
    mine = slice(first, table.count)
    lengths = np.diff([*starts, path.stat().st_size])
    table.places[mine, 3] = lengths[table.places[mine, 1]]
    warn_of_bad_images(path, bad)


def warn_of_other_crops(files: list) -> None:
    """A line for each file whose faces are cut in another way than those of the first."""
    first = read_crop(files[0])
    for path in files[1:]:
        crop = read_crop(path)
        if (crop is None) != (first is None) or crop and not crop.same_as(first):
            log.warning("%s: its faces are cut in another way than those of %s", path, files[0])
