"""Lock a file against other processes while it is written.

The lock is on the written file itself (`flock`) and ends with the process, however that ends. A system without `flock`
(Windows) and some file systems cannot lock; files are then written without a lock, and one line of the log says so. The
`filelock` package also locks on Windows, but it locks a second file beside the written one, and that file stays behind.
"""

import contextlib
import logging
import os
from functools import cache
from pathlib import Path
from typing import BinaryIO, Union

from agedge.errors import AgedgeError

log = logging.getLogger(__name__)


def open_locked(path: Union[str, Path]) -> BinaryIO:
    """Open a file for writing, empty it, and lock it until it is closed or the process ends.

    Folders are made. Raises `AgedgeError` where another process has locked the file.
    """
    path = Path(path)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")
        if not _lock(file):
            file.close()
            raise AgedgeError(f"{path}: another process is writing it")
        with contextlib.suppress(FileNotFoundError):
            # Between `open` and the lock, the process before may have renamed or removed the file.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                if os.fstat(file.fileno()).st_size:
                    file.truncate(0)
                return file
        file.close()


def _lock(file: BinaryIO) -> bool:
    """Lock an open file, if the system can; return False where another process has locked it."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except ImportError:
        _warn_once("this system has no flock")
    except OSError as error:
        _warn_once(f"the file system has no locks: {error.strerror}")
    return True


@cache
def _warn_once(reason: str) -> None:
    """Log that files are not locked, once for each reason."""
    log.warning("files are not locked (%s): do not write to one folder from two processes at a time", reason)
