"""Save the files of a run: when, under which names, and what to do if the disk is full."""

import functools
import logging
import time
from pathlib import Path
from typing import Callable, Dict

from agedge.errors import AgedgeError
from agedge.run_folder import BEST, LAST
from agedge.safe_write import write_bytes
from agedge.training.run.checkpoint import rotate

log = logging.getLogger(__name__)

RETRY = 30  # seconds between two tries of a failed write
LAST_TRIES = 5  # number of tries at the end of a run


class CheckpointSaver:
    """Write the files of a run. A file that cannot be written stays in memory, and is retried while the run continues.

    Attributes:
        keep: number of last checkpoints on disk.
        every: seconds between two checkpoints within an epoch.
        waiting: {file name: function that writes it} for the files that are not written yet, oldest first.
    """

    def __init__(self, folder: Path, keep: int, every: float):
        self.folder, self.keep, self.every = folder, keep, every
        self.waiting: Dict[str, Callable[[], None]] = {}
        self.saved = self.tried = time.monotonic()

    def is_due(self) -> bool:
        """Return whether it is time for a checkpoint."""
        return time.monotonic() - self.saved >= self.every

    def save(self, name: str, content: bytes) -> None:
        """Write a checkpoint, `last` or `best`."""
        file = {"last": LAST, "best": BEST}[name]
        before = functools.partial(rotate, self.folder, self.keep) if file == LAST else lambda: None
        self.write(file, lambda: write_bytes(self.folder / file, content, before))
        self.saved = time.monotonic()

    def write(self, name: str, write: Callable[[], None]) -> None:
        """Call `write()`, now or as soon as the disk has room; a later call for the same name replaces it."""
        self.waiting.pop(name, None)
        self.waiting[name] = write
        self.flush()

    def retry(self) -> None:
        """Try again to write the waiting files, if it is time."""
        if self.waiting and time.monotonic() - self.tried >= RETRY:
            self.flush()

    def flush(self) -> bool:
        """Write all waiting files. Return False, and log a warning, if that failed."""
        self.tried, full = time.monotonic(), False
        for name in list(self.waiting):
            if full and name.endswith(".ckpt"):
                continue  # keep their order: last.ckpt is written before best.ckpt
            if name == BEST and LAST in self.waiting and not (self.folder / LAST).exists():
                continue  # a run can resume from last.ckpt alone, not from best.ckpt
            try:
                self.waiting[name]()
            except OSError as error:
                log.warning(
                    "%s: not saved: %s; the run continues and tries again in %d s",
                    self.folder / name,
                    error.strerror or error,
                    RETRY,
                )
                full = full or name.endswith(".ckpt")
            else:
                del self.waiting[name]
        return not self.waiting

    def close(self) -> None:
        """Write the waiting files. Raises `AgedgeError` if that still fails after several tries."""
        for _ in range(LAST_TRIES):
            if not self.waiting:
                return
            time.sleep(RETRY)
            self.flush()
        if not self.waiting:
            return
        raise AgedgeError(f"{self.folder}: not saved: {', '.join(self.waiting)}; free disk space, then use --resume")
