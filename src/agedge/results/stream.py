"""Results that grow while a command works: each piece is on its way to the disk before the next picture is read."""

import contextlib
import sys
from pathlib import Path
from typing import Optional

from agedge.results.overwrite import is_stdout
from agedge.safe_write import naming


class ResultStream:
    """A text file that is written a few whole lines at a time, so that it can be followed and survives a kill.

    The former content of `path` stays until the first lines come; folders are made then. `-` is stdout. Lone
    surrogates, as in file names that are not UTF-8, are written as escapes. `mark`: begin with a byte order mark.
    """

    def __init__(self, path, mark: bool = False):
        self.path, self._mark = Path(path), mark
        self._file: Optional[object] = None

    def write(self, lines: str) -> None:
        """Append whole lines. Raises `OSError` that names the file, which then ends with the lines before them."""
        with naming(self.path):
            content = lines.encode("utf-8", "backslashreplace")
            if self._file is None:
                self._open()
                content = b"\xef\xbb\xbf" * self._mark + content
            if self._file is sys.stdout:
                sys.stdout.write(content.decode("utf-8"))
                sys.stdout.flush()
                return
            end = self._end()
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(end)
                raise

    def close(self) -> None:
        if self._file not in (None, sys.stdout):
            self._file.close()

    def _open(self) -> None:
        if is_stdout(self.path):
            self._file = sys.stdout
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "wb", buffering=0)  # a buffer would fail again at its close, without a name

    def _end(self) -> int:
        """Return the file's length; of a pipe or a device 0."""
        return self._file.tell() if self._file.seekable() else 0

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()
