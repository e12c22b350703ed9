"""Watching the loss: its sums over an epoch, and the end of a run whose loss is no number any more."""

import logging
from pathlib import Path

import numpy as np

from agedge.errors import AgedgeError
from agedge.training.run.checkpoint import find_last
from agedge.training.weights.averaging import TOGETHER

log = logging.getLogger(__name__)

ADVICE = "a lower optimizer.lr, or optimizer.clip=1, may help"
DIVERGED = 20  # times the loss of the first steps: no run that learns comes to that
HELD_OUT = 10  # times more is allowed for images that are not trained on


class DivergedError(AgedgeError):
    """A run whose network answers nonsense."""


def check_loss(loss: float, first: float, run) -> None:
    """Raise `DivergedError`, which names the run, where the loss of its best network on images to validate on is no
    number, or far more than the `first` of the run. The last step of a run is seen by no other loss."""
    if not loss <= HELD_OUT * DIVERGED * max(first, 0.1):
        reason = f"the best network's loss on data.val is {loss:.4g}, that of the first steps was {first:.4g}"
        raise DivergedError(f"{run}: diverged: {reason}; {ADVICE}")


class Tallies:
    """Sums of an objective's tallies, by device. Adding does not wait for the device; taking does."""

    def __init__(self):
        self.sums = {}

    def add(self, tallies) -> None:
        at = tallies.context
        self.sums[at] = self.sums[at] + tallies if at in self.sums else tallies

    def take(self) -> np.ndarray:
        """What was added since the last time, (k,) float64."""
        total = sum(sums.asnumpy().astype(np.float64) for sums in self.sums.values())
        self.sums = {}
        return total


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

    def look(self, asked: bool, parameters: list) -> bool:
        """Wait for the device and take the sums of all workers; whether one of them was asked to stop.

        Raises `AgedgeError`, and saves the images, where the loss or one of the parameters is no number, and where the
        loss is far larger than in the beginning.
        """
        from mxnet import nd

        nd.waitall()  # BatchNorm's statistics are written in the backward pass, of which the engine does not know
        begun = np.concatenate([loss.asnumpy() for loss in self.recent[0][2]]).astype(np.float64)  # the first step
        sums = self.store.sum_small(np.array([*self.tallies.take(), float(asked), begun.sum(), len(begun)]))
        *window, stop, begun, count = sums
        loss = self.task.figures(np.array(window))["loss"]
        if not np.isfinite(loss):
            self.give_up(f"the loss is {loss}")
        # Of a run that diverges at once, the mean of the first steps is no measure.
        first = self.state.setdefault("first_loss", min(loss, begun / count))
        if loss > DIVERGED * max(first, 0.1):
            self.give_up(f"the loss is {loss:.4g}, {DIVERGED} times that of the first steps, {first:.4g}, and more,")
        if not are_finite(parameters):  # ReLU makes 0 of what is no number, and the loss may stay one
            self.give_up("a weight is no number any more")
        self.sums = self.sums + np.array(window)
        self.state["sums"] = self.sums.tolist()
        self.recent = []
        return stop > 0

    def give_up(self, reason: str) -> None:
        """Raises `AgedgeError` with the first step whose loss is no number, or else all since the last look, and saves
        what they saw."""
        bad = [entry for entry in self.recent if not all(np.isfinite(loss.asnumpy()).all() for loss in entry[2])]
        seen = bad[:1] or self.recent
        step = seen[0][0]
        within = "" if bad else f" or one of the {len(self.recent) - 1} after it"
        worker = f"-worker{self.store.rank}" if self.store.workers > 1 else ""
        try:
            saved = self.task.save_batches([index for _, index, _ in seen], self.folder / f"bad-step{step}{worker}")
        except (OSError, AgedgeError) as error:
            saved = f"not saved ({getattr(error, 'strerror', None) or error})"
        try:
            good = f"{find_last(self.folder).name} holds the last good step"
        except AgedgeError:
            good = "no checkpoint was saved yet"
        raise DivergedError(
            f"{self.folder}: diverged: {reason} at step {step}{within}, whose images are in {saved}; {good}; {ADVICE}"
        )


def are_finite(parameters: list) -> bool:
    """Whether all numbers of NDArrays on one device are."""
    from mxnet import nd

    groups = (parameters[first : first + TOGETHER] for first in range(0, len(parameters), TOGETHER))
    return all(nd.multi_all_finite(*some, num_arrays=len(some)).asscalar() for some in groups)
