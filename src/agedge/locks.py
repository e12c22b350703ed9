"""Files that one process at a time writes."""

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from agedge.errors import AgedgeError


def open_alone(path) -> BinaryIO:
    """An empty file, opened for writing, that is this process's alone until it is closed, however the process ends.

    Folders are made. Raises `AgedgeError` where another process has it.
    """
    path = Path(path)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")
        if not _lock(file):
            file.close()
            raise AgedgeError(f"{path}: another process is writing it")
        with contextlib.suppress(FileNotFoundError):
            # Whoever had it may have renamed or removed it before it was locked here.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                if os.fstat(file.fileno()).st_size:
                    file.truncate(0)
                return file
        file.close()


def _lock(file: BinaryIO) -> bool:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # a system, or a file system, without locks
        pass
    return True
