"""Write a file so that its name holds the whole content or what it held before, whatever happens on the way.

A file is written under a temporary name in the same folder, synced to the disk and renamed. A killed process leaves its
temporary file or folder behind; the next process that writes in that folder removes it.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Callable, Iterator

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # on a shared disk, whose process numbers are whose
_TEMPORARY = re.compile(rf".+\.{_HOST}-(\d+)-\d+\.partial")
_LONGEST = 180  # bytes of a name that is kept in the temporary one: file systems end at 255
_numbers = itertools.count()
_swept: set = set()  # folders that this process has looked through
_sweeping = threading.Lock()


@contextlib.contextmanager
def replacing(path, mode: str = "wb", *, before: Callable[[], None] = lambda: None, **options) -> Iterator:
    """Open a temporary file for writing; when the block ends without an error, it takes the name `path`.

    `options`: as of `open`. `before()` is called once the content is on the disk and before it is renamed. Folders are
    made. A link is followed; a device or a pipe (`/dev/stdout`) is written directly. Raises `OSError` with `path` as
    its file name; the former content of `path` is then unchanged.
    """
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file() and not path.is_dir():
            with open(path, mode, **options) as file:
                yield file
            return
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        remove_leftovers(target.parent)
        partial = temporary_name(target)
        try:
            with open(partial, mode, **options) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.is_file():
                shutil.copymode(target, partial)
            before()
            os.replace(partial, target)
        except BaseException as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            if isinstance(error, OSError) and error.filename in (str(partial), None):
                raise OSError(error.errno, error.strerror or str(error), str(path)) from error
            raise


def write_bytes(path, content: bytes, before: Callable[[], None] = lambda: None) -> None:
    """Write a whole file. Raises `OSError` that names it; see `replacing`."""
    with replacing(path, before=before) as file:
        file.write(content)


def write_text(path, text: str, errors: str = "strict") -> None:
    """Write a whole file of UTF-8. Raises `OSError` that names it; see `replacing`."""
    write_bytes(path, text.encode("utf-8", errors))


def write_json(path, value) -> None:
    """Write a whole JSON file, indented by one space. Raises `OSError` that names it; see `replacing`."""
    write_text(path, json.dumps(value, indent=1) + "\n")


@contextlib.contextmanager
def temporary_folder(parent=None) -> Iterator[Path]:
    """Make a folder in `parent` (the system's place for temporary files without one) and remove it at the end.

    What processes that were killed have left there is removed too.
    """
    parent = Path(parent or tempfile.gettempdir())
    with naming(parent):
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
        folder = temporary_name(parent / "agedge")
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def naming(path) -> Iterator[None]:
    """Give an `OSError` of the block that names no file (a full disk) the name `path`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), error.filename or str(path)) from error


def temporary_name(path: Path) -> Path:
    """Return a name beside `path` that says which process on which machine writes it."""
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST])
    return path.with_name(f"{name}.{_HOST}-{os.getpid()}-{next(_numbers)}.partial")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of this machine's dead processes, the first time for each folder."""
    folder = Path(folder).absolute()
    with _sweeping, contextlib.suppress(OSError):  # held throughout: another thread's new file is not of a former life
        if folder in _swept:
            return
        _swept.add(folder)
        for entry in os.scandir(folder):
            found = _TEMPORARY.fullmatch(entry.name)
            if found and not _is_another(int(found[1])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


def _is_another(process: int) -> bool:
    """Return whether a process of this number is alive, and is not this one, which has written nothing yet."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # there the signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or a number that is no process's
        return True
    return True
