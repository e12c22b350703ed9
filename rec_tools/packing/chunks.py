"""Chunks of prepared faces in the working folder of a pack. They let a killed pack resume.

A chunk's file gets its name when it is complete. The name contains a hash of what the chunk was made from: the
rows, the sizes and times of their image files, and the options. A later pack with the same rows and options reuses it.
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Iterable, Iterator, List, Union

import numpy as np

from agedge import __version__
from agedge.labels import Label
from agedge.locks import open_locked
from agedge.safe_write import replacing
from rec_tools.packing.options import Preparation
from rec_tools.packing.prepare import Prepared, prepare_all
from rec_tools.rows import Dropped, Row

LENGTH = 7  # index of the JPEG's length in the fields of a face
VERSION = 1  # increase it when the same rows give another result


@contextlib.contextmanager
def working_folder(folder: Path) -> Iterator[Path]:
    """Lock a folder for this process. It is removed when the block ends without an error or leaves no chunk behind.

    Raises `AgedgeError` if another process holds the lock.
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
                    folder.parent.rmdir()  # fails if the folder is not empty


def chunk_file(number: int, rows: List[Union[Row, Dropped]], preparation: Preparation, folder: Path) -> Path:
    """Return the path of a chunk's file, which contains a hash of its rows and options."""
    return folder / f"{number:07d}-{hash_work(rows, preparation)}.chunk"


def prepare_chunk(number: int, rows: List[Union[Row, Dropped]], preparation: Preparation, folder: Path) -> Path:
    """Return the file of a chunk; prepare it unless an earlier pack has left it."""
    path = chunk_file(number, rows, preparation, folder)
    if not is_complete(path):
        prepare_file(path, rows, preparation)
    return path


def prepare_file(path: Path, rows: List[Union[Row, Dropped]], preparation: Preparation) -> None:
    """Prepare rows and write them as a chunk."""
    write_chunk(path, prepare_all(rows, preparation))


def is_complete(path: Path) -> bool:
    """Return whether a chunk exists with all its bytes: after a power failure, only the name may have been kept."""
    try:
        with open(path, "rb") as file:
            fields = json.loads(file.readline())
            return file.tell() + sum(one[LENGTH] for one in fields if len(one) > 3) == os.fstat(file.fileno()).st_size
    except (FileNotFoundError, ValueError):
        return False


def hash_work(rows: List[Union[Row, Dropped]], preparation: Preparation) -> str:
    """Return a hash of everything that the result depends on."""
    hasher = hashlib.blake2b(f"{VERSION} {__version__} {preparation}".encode(), digest_size=12)
    for row in rows:
        hasher.update(repr(row).encode(errors="surrogateescape"))
        if isinstance(row, Row) and isinstance(row.image, Path):
            with contextlib.suppress(OSError, ValueError):
                found = os.stat(row.image)
                hasher.update(f"{found.st_size} {found.st_mtime_ns}".encode())
    return hasher.hexdigest()


def write_chunk(path: Path, results: List[Union[Prepared, Dropped]]) -> None:
    """Write a chunk: a line of JSON with the fields of each result, then the JPEGs one after the other."""
    fields, jpegs = [], []
    for one in results:
        if isinstance(one, Dropped):
            fields.append([one.id, one.reason, one.detail])
            continue
        row, label = one.row, one.row.label
        code = None if one.fingerprint is None else [int(word) for word in one.fingerprint]
        landmarks = None if one.landmarks is None else np.round(one.landmarks, 2).tolist()
        fields.append(
            [row.id, label.gender, label.age_min, label.age_max, row.identity, row.fold, row.race]
            + [len(one.jpeg), one.digest, one.method, code, landmarks]
        )
        jpegs.append(one.jpeg)
    with replacing(path) as file:
        file.writelines((json.dumps(fields).encode(), b"\n", *jpegs))


def read_chunks(paths: Iterable[Path], with_jpegs: bool = True) -> Iterator[Union[Prepared, Dropped]]:
    """Yield the results of chunks in order, without the JPEGs unless `with_jpegs`."""
    for path in paths:
        with open(path, "rb") as file:
            for one in json.loads(file.readline()):
                if len(one) == 3:
                    yield Dropped(*one)
                    continue
                name, gender, age_min, age_max, identity, fold, race, length, digest, method, code, landmarks = one
                row = Row(name, Path(), Label(gender, age_min, age_max), identity, fold, race)
                code = None if code is None else np.array(code, np.uint64)
                yield Prepared(row, file.read(length) if with_jpegs else b"", digest, method, code, landmarks)
