"""Saving a run: when, under which names, and what happens where the disk is full."""

import functools
import logging
import time
from pathlib import Path
from typing import Callable

from agedge.errors import AgedgeError
from agedge.run_folder import BEST, LAST
from agedge.safe_write import write_bytes
from agedge.training.run.checkpoint import rotate

log = logging.getLogger(__name__)

RETRY = 30  # seconds until what could not be written is tried again
LAST_TRIES = 5  # at the end of a run, RETRY seconds apart


class Keeper:
    """Writes a run's files. What the disk does not take stays in memory, the run goes on, and it is tried again.

    `keep`: how many of the last checkpoints; `every`: seconds between two of them.
    """

    def __init__(self, folder: Path, keep: int, every: float):
        self.folder, self.keep, self.every = folder, keep, every
        self.waiting = {}  # name -> what writes it
        self.saved = self.tried = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self.saved >= self.every

    def save(self, name: str, content: bytes) -> None:
        """Write a checkpoint, `last` or `best`."""
        before = functools.partial(rotate, self.folder, self.keep) if name == "last" else lambda: None
        self.write(f"{name}.ckpt", lambda: write_bytes(self.folder / f"{name}.ckpt", content, before))
        self.saved = time.monotonic()

    def write(self, name: str, write: Callable[[], None]) -> None:
        """Do `write()`, now or as soon as the disk takes it; a later one of the same name takes its place."""
        self.waiting.pop(name, None)
        self.waiting[name] = write
        self.flush()

    def retry(self) -> None:
        """Try again what could not be written, if it is time."""
        if self.waiting and time.monotonic() - self.tried >= RETRY:
            self.flush()

    def flush(self) -> bool:
        """Write all that waits; False, and a line, where that could not be done."""
        self.tried, full = time.monotonic(), False
        for name in list(self.waiting):
            if full and name.endswith(".ckpt"):
                continue  # in their order: what is the best is known to the last
            if name == BEST and LAST in self.waiting and not (self.folder / LAST).exists():
                continue  # a run is resumed from its last alone
            try:
                self.waiting[name]()
            except OSError as error:
                log.warning(
                    "%s: not saved: %s; the run goes on from memory and tries again in %d s",
                    self.folder / name,
                    error.strerror or error,
                    RETRY,
                )
                full = full or name.endswith(".ckpt")
            else:
                del self.waiting[name]
        return not self.waiting

    def close(self) -> None:
        """Write what still waits. Raises `AgedgeError` where after several tries it could not be done."""
        for _ in range(LAST_TRIES):
            if not self.waiting:
                return
            time.sleep(RETRY)
            self.flush()
        if not self.waiting:
            return
        raise AgedgeError(f"{self.folder}: not saved: {', '.join(self.waiting)}; make room, then --resume")
