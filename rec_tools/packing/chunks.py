"""The working folder of a pack: chunks of faces that are ready, each written once, so that a killed pack goes on.

A chunk's file appears under its name when it is whole, and the name says what it was made of: the rows, their files'
sizes and times, and how they were prepared. Whoever prepares the same rows in the same way finds it there.
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Iterable, Iterator

import numpy as np

from agedge import __version__
from agedge.labels import Label
from agedge.locks import open_locked
from agedge.safe_write import replacing
from rec_tools.packing.options import Preparation
from rec_tools.packing.prepare import Prepared, prepare_all
from rec_tools.rows import Dropped, Row

LENGTH = 7  # where the length of a JPEG stands in what a chunk says of a face
VERSION = 1  # to be raised where the same rows come out otherwise


@contextlib.contextmanager
def working_folder(folder: Path) -> Iterator[Path]:
    """A folder for one process at a time; it goes when the work is done, and stays with what there is to go on with.

    Raises `AgedgeError` where another process is at work in it.
    """
    made, done = not folder.parent.exists(), False
    with open_locked(folder / "lock"):
        try:
            yield folder
            done = True
        finally:
            if done or not any(folder.glob("*.chunk")):
                shutil.rmtree(folder, ignore_errors=True)
            if made and not done:
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()  # unless there is something in it


def chunk_file(number: int, rows: list, preparation: Preparation, folder: Path) -> Path:
    """Return the name of a chunk's file, which tells what it is made of."""
    return folder / f"{number:07d}-{name_work(rows, preparation)}.chunk"


def prepare_chunk(number: int, rows: list, preparation: Preparation, folder: Path) -> Path:
    """The file of a chunk: as an earlier pack left it, else made now."""
    path = chunk_file(number, rows, preparation, folder)
    if not is_whole(path):
        prepare_file(path, rows, preparation)
    return path


def prepare_file(path: Path, rows: list, preparation: Preparation) -> None:
    """Prepare rows and write them as a chunk."""
    write_chunk(path, prepare_all(rows, preparation))


def is_whole(path: Path) -> bool:
    """Whether a chunk is there, with all its bytes: a machine that lost its power may have kept only the name."""
    try:
        with open(path, "rb") as file:
            about = json.loads(file.readline())
            return file.tell() + sum(one[LENGTH] for one in about if len(one) > 3) == os.fstat(file.fileno()).st_size
    except (FileNotFoundError, ValueError):
        return False


def name_work(rows: list, preparation: Preparation) -> str:
    """A word that changes with whatever the result depends on."""
    hasher = hashlib.blake2b(f"{VERSION} {__version__} {preparation}".encode(), digest_size=12)
    for row in rows:
        hasher.update(repr(row).encode(errors="surrogateescape"))
        if isinstance(row, Row) and isinstance(row.image, Path):
            with contextlib.suppress(OSError, ValueError):
                found = os.stat(row.image)
                hasher.update(f"{found.st_size} {found.st_mtime_ns}".encode())
    return hasher.hexdigest()


def write_chunk(path: Path, results: list) -> None:
    """A line of JSON about the results, then the JPEGs one after the other."""
    about, jpegs = [], []
    for one in results:
        if isinstance(one, Dropped):
            about.append([one.id, one.reason, one.detail])
            continue
        row, label = one.row, one.row.label
        marks = None if one.fingerprint is None else [int(word) for word in one.fingerprint]
        landmarks = None if one.landmarks is None else np.round(one.landmarks, 2).tolist()
        about.append(
            [row.id, label.gender, label.age_min, label.age_max, row.identity, row.fold, row.race]
            + [len(one.jpeg), one.digest, one.way, marks, landmarks]
        )
        jpegs.append(one.jpeg)
    with replacing(path) as file:
        file.writelines((json.dumps(about).encode(), b"\n", *jpegs))


def read_chunks(paths: Iterable[Path], with_jpegs: bool = True) -> Iterator:
    """The results of chunks, in order: `Prepared`, without the JPEG if so wished, or `Dropped`."""
    for path in paths:
        with open(path, "rb") as file:
            for one in json.loads(file.readline()):
                if len(one) == 3:
                    yield Dropped(*one)
                    continue
                name, gender, age_min, age_max, identity, fold, race, length, digest, way, marks, landmarks = one
                row = Row(name, Path(), Label(gender, age_min, age_max), identity, fold, race)
                marks = None if marks is None else np.array(marks, np.uint64)
                yield Prepared(row, file.read(length) if with_jpegs else b"", digest, way, marks, landmarks)
