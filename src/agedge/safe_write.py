"""Write files so that a name always holds a whole content: the new one, or the former one where writing fails.

A file is written under a temporary name in the same folder, synced to the disk and renamed. Which function to use:

- `write_bytes`, `write_text`, `write_json`: the content is in memory.
- `replacing`: a block writes the content.
- `PartialFile`: the content comes piece by piece over a long time, and one process at a time writes the file.
- `temporary_folder` and `rename_synced`: another library writes the file and needs a path.

A killed process leaves its temporary file or folder behind; the next process that writes in that folder removes it.
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
from types import TracebackType
from typing import IO, Any, Callable, Iterable, Iterator, Optional, Set, Type, Union

from agedge.locks import open_locked

AnyPath = Union[str, Path]

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"  # a disk may be shared by machines: a process is of one
_TEMPORARY = re.compile(rf".+\.{_HOST}-(\d+)-\d+\.partial")
_LONGEST = 180  # bytes of a name that is kept in the temporary one: file systems end at 255
_numbers = itertools.count()
_swept: Set[Path] = set()  # folders in which this process has removed leftovers
_sweeping = threading.Lock()


@contextlib.contextmanager
def replacing(
    path: AnyPath, mode: str = "wb", *, before: Callable[[], object] = lambda: None, **options: Any
) -> Iterator[IO[Any]]:
    """Open a temporary file for writing; when the block ends without an error, it takes the name `path`.

    `options`: see `open`. `before()` is called when the content is on the disk and not yet renamed. Folders are made.
    A link is followed; a device or a pipe (`/dev/stdout`) is written directly. Raises `OSError` with `path` as its file
    name; the former content of `path` is then unchanged.
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


def write_bytes(path: AnyPath, content: bytes, before: Callable[[], object] = lambda: None) -> None:
    """Write a whole file of bytes. Raises `OSError` that names it; see `replacing`."""
    with replacing(path, before=before) as file:
        file.write(content)


def write_text(path: AnyPath, text: str, errors: str = "strict") -> None:
    """Write a whole text file in UTF-8. Raises `OSError` that names it; see `replacing`."""
    write_bytes(path, text.encode("utf-8", errors))


def write_json(path: AnyPath, value: Any) -> None:
    """Write a whole JSON file, indented by one space. Raises `OSError` that names it; see `replacing`."""
    write_text(path, json.dumps(value, indent=1) + "\n")


class PartialFile:
    """Write a file piece by piece as PATH.partial, which is locked, and rename it to PATH at the end.

    A context manager: the file is finished where the block ends without an error, else removed. A killed process leaves
    PATH.partial behind; the next writer of PATH empties it. Folders are made. Raises `AgedgeError` where another
    process writes the file, and `OSError` that names it where the disk does not take it.
    """

    def __init__(self, path: AnyPath):
        self.path = Path(path)
        self._partial = self.path.with_name(f"{self.path.name}.partial")
        self._file = open_locked(self._partial)

    def write(self, content: Union[bytes, str]) -> None:
        """Append bytes, or a text in UTF-8; lone surrogates, as in file names that are not UTF-8, become escapes."""
        with naming(self.path):
            self._file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)

    def discard(self) -> None:
        """Remove the file, unless it is finished."""
        if not self._file.closed:
            self._partial.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # closing writes what is buffered, which a full disk refuses
                self._file.close()

    def __enter__(self) -> "PartialFile":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        try:
            if kind is None:
                PartialFile.finish([self])
        finally:
            self.discard()

    @staticmethod
    def finish(files: Iterable["PartialFile"]) -> None:
        """Sync all files to the disk, and only then rename them to their names, in the given order."""
        files = list(files)
        for one in files:
            with naming(one.path):
                one._file.flush()
                os.fsync(one._file.fileno())
        for one in files:  # each stays locked until all have their names
            os.replace(one._partial, one.path)
        for one in files:
            one._file.close()


def rename_synced(file: AnyPath, path: AnyPath) -> None:
    """Sync a finished file and rename it to `path`, which is on the same disk. Raises `OSError` that names `path`."""
    try:
        with open(file, "rb+") as opened:
            os.fsync(opened.fileno())
        os.replace(file, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextlib.contextmanager
def temporary_folder(parent: Optional[AnyPath] = None) -> Iterator[Path]:
    """Make a folder in `parent` (default: the system's folder of temporary files) and remove it at the end.

    Leftovers of killed processes in `parent` are removed too.
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
def naming(path: AnyPath) -> Iterator[None]:
    """Add the file name `path` to an `OSError` of the block that has none, as on a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), error.filename or str(path)) from error


def temporary_name(path: Path) -> Path:
    """Return a path beside `path` whose name holds the machine and the process that write it."""
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST])
    return path.with_name(f"{name}.{_HOST}-{os.getpid()}-{next(_numbers)}.partial")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that dead processes of this machine left, once for each folder."""
    folder = Path(folder).absolute()
    # Locked throughout: no thread makes a file meanwhile, whose process number may be that of a dead process.
    with _sweeping, contextlib.suppress(OSError):
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
    """Return whether a process of this number is alive and is not this one, which has written no file yet."""
    if process == os.getpid():
        return False
    if os.name == "nt":  # signal 0 is Ctrl-C on Windows
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # a process of another user, or a number too large for a process
        return True
    return True
