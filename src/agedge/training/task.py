"""What the training loop needs to know of a training; `ages.py` and `detection.py` have one each."""

from pathlib import Path
from typing import Iterator, NamedTuple

import numpy as np


class Measured(NamedTuple):
    """A validation: `score`, of which less is better; `row`, its part of log.csv; `text`, for the log."""

    score: float
    row: dict
    text: str


class Task:
    """A training: images, a loss, and how the network is measured.

    `size`: pixels of an image's side; `count`: images an epoch; `load(network, source, ctx, fresh)` starts the network
    from other weights; `objective`: a block from a batch's inputs to losses (N,) and tallies (k,), the first of which
    is N; `lessons`: a block whose parameters train besides the network's, or None; `plot(rows, path)` draws log.csv.
    """

    lessons = None

    def batches(self, epoch: int, first: int):
        """A context manager that gives an iterator over the batches of an epoch from number `first` on, by the seed and
        the epoch alone.

        A batch has `inputs`, arrays (n, ..) for the objective, and `index`, by which `save_batches` knows its images.
        The iterator has `waited`, the seconds that somebody stood waiting for it.
        """
        raise NotImplementedError

    def save_batches(self, indices: list, path: Path) -> str:
        """Write the images of batches, the `index` of each, to a file named like `path` for somebody to look at them,
        and return its name. Raises `OSError`."""
        raise NotImplementedError

    def figures(self, sums: np.ndarray) -> dict:
        """{name: mean} of tallies (k,), `loss` among them, as log.csv has them; None where nothing was known."""
        raise NotImplementedError

    def say(self, figures: dict) -> str:
        """The figures as a line."""
        raise NotImplementedError

    def close(self) -> None:
        """The run is over."""

    def validate(self) -> Measured:
        """Measure the network as it is. Raises `AgedgeError` where there is nothing to measure on, and
        `watch.DivergedError` where the network answers anything but numbers."""
        raise NotImplementedError


class Inputs(NamedTuple):
    """A batch: see `Task.batches`."""

    inputs: tuple
    index: object


class Batches:
    """An iterator of batches as `Task.batches` gives it; `waited` is the source's."""

    def __init__(self, source, batches: Iterator):
        self.source, self.batches = source, batches

    @property
    def waited(self) -> float:
        return self.source.waited

    def __iter__(self):
        return self.batches
