"""Watching the loss: its sums over an epoch, and the end of a run whose loss is no number any more."""

import logging
from pathlib import Path

import numpy as np

from agedge.errors import AgedgeError
from agedge.training.checkpoint import find_last
from agedge.training.objective import Tallies

log = logging.getLogger(__name__)

DIVERGED = 20  # times the loss of the first steps: no run that learns comes to that


class Watch:
    """The tallies of an epoch over all workers, `sums` (k,), kept in the run's `state` from look to look.

    Between two looks the losses and the images of each step are kept, so that a bad one can be named.
    """

    def __init__(self, task, store, folder: Path, state: dict):
        self.task, self.store, self.folder, self.state = task, store, folder, state
        self.sums = np.array(state.get("sums") or 0.0)
        self.tallies, self.recent = Tallies(), []

    def add(self, tallies) -> None:
        """The tallies of a device's share of a step."""
        self.tallies.add(tallies)

    def remember(self, step: int, index, losses: list) -> None:
        """What step `step` trained on, and the losses that it had."""
        self.recent.append((step, index, losses))

    def look(self, asked: bool) -> bool:
        """Wait for the device and take the sums of all workers; whether one of them was asked to stop.

        Raises `AgedgeError`, and saves the images, where the loss is no number or far larger than in the beginning.
        """
        *window, stop = self.store.sum_small(np.append(self.tallies.take(), float(asked)))
        loss = self.task.figures(np.array(window))["loss"]
        if not np.isfinite(loss):
            self.give_up(f"the loss is {loss}")
        first = self.state.setdefault("first_loss", loss)
        if loss > DIVERGED * max(first, 0.1):
            self.give_up(f"the loss is {loss:.4g}, {DIVERGED} times that of the first steps, {first:.4g}, and more,")
        self.sums = self.sums + np.array(window)
        self.state["sums"] = self.sums.tolist()
        self.recent = []
        return stop > 0

    def give_up(self, reason: str) -> None:
        """Raises `AgedgeError` with the first step whose loss is no number, else the last one, and what it saw."""
        bad = [entry for entry in self.recent if not all(np.isfinite(loss.asnumpy()).all() for loss in entry[2])]
        step, index, _ = (bad or self.recent[-1:])[0]
        worker = f"-worker{self.store.rank}" if self.store.workers > 1 else ""
        try:
            saved = self.task.save_batch(index, self.folder / f"bad-step{step}{worker}")
        except OSError as error:
            saved = f"not saved ({error.strerror or error})"
        try:
            good = f"{find_last(self.folder).name} holds the last good step"
        except AgedgeError:
            good = "no checkpoint was saved yet"
        raise AgedgeError(
            f"{self.folder}: {reason} at step {step}, whose images are in {saved}; {good}; a lower optimizer.lr, or "
            "optimizer.clip=1, may help"
        )
