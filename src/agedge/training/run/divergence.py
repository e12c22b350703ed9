"""Check the training loss and the weights, and end a run that diverges."""

import logging
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from agedge.errors import AgedgeError
from agedge.training.distributed.kvstore import KVStore
from agedge.training.run.checkpoint import find_last
from agedge.training.run.train_state import TrainState
from agedge.training.task import Task
from agedge.training.weights.averaging import TOGETHER

log = logging.getLogger(__name__)

ADVICE = "a lower optimizer.lr, or optimizer.clip=1, may help"
DIVERGED = 20  # times the loss of the first steps; a larger loss means that the run has diverged
HELD_OUT = 10  # the limit for validation images is this many times larger


class DivergedError(AgedgeError):
    """The network of a run outputs NaN, infinity or impossible values."""


def check_loss(loss: float, first: float, run: Path) -> None:
    """Raise `DivergedError`, which names the run, if the best network's loss on validation images is NaN or far
    above `first`, the loss of the run's first steps. Training itself does not check the weights after the last step."""
    if not loss <= HELD_OUT * DIVERGED * max(first, 0.1):
        reason = f"the best network's loss on data.val is {loss:.4g}, that of the first steps was {first:.4g}"
        raise DivergedError(f"{run}: diverged: {reason}; {ADVICE}")


class RunningSums:
    """Running sums of an objective's metrics, by device. `add` does not wait for the device; `take` does."""

    def __init__(self) -> None:
        self.sums: Dict[Any, Any] = {}

    def add(self, sums: Any) -> None:
        """Add the sums (k,) of a device's share of a batch."""
        device = sums.context
        self.sums[device] = self.sums[device] + sums if device in self.sums else sums

    def take(self) -> np.ndarray:
        """Return the sums over all devices since the last call, (k,) float64."""
        total = sum(sums.asnumpy().astype(np.float64) for sums in self.sums.values())
        self.sums = {}
        return np.asarray(total)


class DivergenceCheck:
    """The training metrics of an epoch, summed over all workers and checked every few steps.

    Attributes:
        sums: running sums (k,) of the epoch's metrics; `state.sums` holds the same for checkpoints.
        recent: (step, image index, losses) of every step since the last check, to find the bad one.
    """

    def __init__(self, task: Task, kvstore: KVStore, folder: Path, state: TrainState):
        self.task, self.kvstore, self.folder, self.state = task, kvstore, folder, state
        self.sums = np.array(state.sums or 0.0)
        self.running = RunningSums()
        self.recent: List[Tuple[int, Any, list]] = []

    def add(self, sums: Any) -> None:
        """Add the metric sums of a device's share of a step."""
        self.running.add(sums)

    def remember(self, step: int, index: Any, losses: list) -> None:
        """Remember the images and the losses of a step, for the message of a `DivergedError`."""
        self.recent.append((step, index, losses))

    def check(self, stop: bool, parameters: list) -> bool:
        """Wait for the devices, sum the metrics of all workers, and return whether any worker passed `stop=True`.

        Raises `DivergedError`, and saves the images, if the loss or one of the `parameters` is NaN or infinite, and
        if the loss is far larger than at the beginning of the run.
        """
        from mxnet import nd

        nd.waitall()  # the backward pass writes BatchNorm's statistics without the engine's knowledge
        begun = np.concatenate([loss.asnumpy() for loss in self.recent[0][2]]).astype(np.float64)  # the first step
        sums = self.kvstore.sum_small(np.array([*self.running.take(), float(stop), begun.sum(), len(begun)]))
        *window, stops, begun, count = sums
        loss = self.task.metrics(np.array(window))["loss"]
        if not np.isfinite(loss):
            self.give_up(f"the loss is {loss}")
        first = self.state.first_loss
        if first is None:
            # If a run diverges at once, the mean over the first steps is already too large.
            first = self.state.first_loss = min(loss, begun / count)
        if loss > DIVERGED * max(first, 0.1):
            self.give_up(f"the loss is {loss:.4g}, more than {DIVERGED} times that of the first steps ({first:.4g})")
        if not are_finite(parameters):  # ReLU turns NaN into 0, so that the loss may stay finite
            self.give_up("a weight is NaN or infinite")
        self.sums = self.sums + np.array(window)
        self.state.sums = self.sums.tolist()
        self.recent = []
        return stops > 0

    def give_up(self, reason: str) -> None:
        """Save the images of the first step whose loss is NaN or infinite, or else of all steps since the last check.

        Raises `DivergedError` that names the step, these images and the last good checkpoint.
        """
        bad = [entry for entry in self.recent if not all(np.isfinite(loss.asnumpy()).all() for loss in entry[2])]
        suspects = bad[:1] or self.recent
        step = suspects[0][0]
        within = "" if bad else f" or one of the {len(self.recent) - 1} after it"
        worker = f"-worker{self.kvstore.rank}" if self.kvstore.workers > 1 else ""
        try:
            saved = self.task.save_batches([index for _, index, _ in suspects], self.folder / f"bad-step{step}{worker}")
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
    """Return whether all values of NDArrays, which must be on one device, are finite."""
    from mxnet import nd

    groups = (parameters[first : first + TOGETHER] for first in range(0, len(parameters), TOGETHER))
    return all(nd.multi_all_finite(*some, num_arrays=len(some)).asscalar() for some in groups)
