"""Write results while a command runs: each piece is handed to the system before the next image is read."""

import contextlib
import sys
from io import FileIO
from pathlib import Path
from typing import Optional, Union

from agedge.results.overwrite import is_stdout
from agedge.safe_write import naming


class ResultStream:
    """A text file that is written in whole lines without a buffer, so that it can be followed and survives a kill.

    The previous content of `path` stays until the first lines are written; folders are created then. `-` is stdout.
    Lone surrogates, as in file names that are not UTF-8, are written as escapes. `mark`: begin with a byte order mark.
    """

    def __init__(self, path: Union[str, Path], mark: bool = False):
        self.path, self._mark = Path(path), mark
        self._to_stdout = False
        self._file: Optional[FileIO] = None

    def write(self, lines: str) -> None:
        """Append whole lines. Raises `OSError` that names the file, which then ends after the previous lines."""
        with naming(self.path):
            content = lines.encode("utf-8", "backslashreplace")
            if self._file is None and not self._to_stdout:
                self._open()
                content = b"\xef\xbb\xbf" * self._mark + content
            if self._file is None:
                sys.stdout.write(content.decode("utf-8"))
                sys.stdout.flush()
            else:
                _append(self._file, content)

    def close(self) -> None:
        """Close the file; stdout stays open."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> None:
        if is_stdout(self.path):
            self._to_stdout = True
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "wb", buffering=0)  # a buffer would fail again when closed, without a file name

    def __enter__(self) -> "ResultStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _append(file: FileIO, content: bytes) -> None:
    """Write all bytes; if that fails, truncate the file to its previous length and raise `OSError`."""
    end = file.tell() if file.seekable() else 0  # a pipe or a device has no length
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise
