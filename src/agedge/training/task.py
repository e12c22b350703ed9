"""The interface between the training loop and a task: `tasks/age_gender.py` and `tasks/detection.py` implement it."""

from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator, List, NamedTuple, Optional, Protocol, Sequence

import numpy as np


class TrainableNetwork(Protocol):
    """A network that the training loop accepts: a Gluon `HybridBlock` with these additions.

    Attributes:
        size: side of an image in pixels.
        arguments: arguments of `symbols.create` that build the same network, its name included.
    """

    arguments: Dict[str, Any]

    def __call__(self, data: Any) -> Any:
        """Return the outputs of images (N, 3, size, size) that `loss` and `decode` take."""
        ...

    def loss(self, F: Any, outputs: Any, *labels: Any) -> Any:
        """Return the loss (N,), or the terms of the loss."""
        ...

    def decode(self, F: Any, outputs: Any) -> Any:
        """Return the predictions as a tuple of arrays."""
        ...

    def initialize_for_training(self, ctx: Any) -> None:
        """Initialize the weights on MXNet contexts."""
        ...

    def fuse(self, fused: bool = True) -> None:
        """Compute each BatchNorm and its ReLU as one operator, or as two."""
        ...

    def collect_params(self) -> Any:
        """Return the parameters by name."""
        ...


class Validation(NamedTuple):
    """The result of a validation: `score`, lower is better; `row`, its columns of log.csv; `text`, for the log."""

    score: float
    row: Dict[str, Any]
    text: str


class TrainingBatch(NamedTuple):
    """A batch of a worker: `inputs`, the arrays (n, ..) that the objective takes; `index`, which images these are."""

    inputs: Sequence[Any]
    index: Any

    def split(self, contexts: list) -> List[list]:
        """Return the inputs of each MXNet context: equal shares of the batch, as NDArrays.

        NumPy arrays are not copied where the only context is the CPU.
        """
        from mxnet import gluon, nd

        arrays = [nd.from_numpy(a, zero_copy=True) if isinstance(a, np.ndarray) else a for a in self.inputs]
        if len(contexts) == 1:
            return [[array.as_in_context(contexts[0]) for array in arrays]]
        shares = (gluon.utils.split_and_load(array, contexts, even_split=False) for array in arrays)
        return [list(share) for share in zip(*shares)]


class TimedSource(Protocol):
    """A source of batches that measures `waited`, the seconds in which its consumer waited for a batch."""

    waited: float


class BatchIterator:
    """The batches of an epoch, and the seconds that the loop waited for their source."""

    def __init__(self, source: TimedSource, batches: Iterator[TrainingBatch]):
        self.source, self.batches = source, batches

    @property
    def waited(self) -> float:
        """Return the seconds in which the loop waited for a batch."""
        return self.source.waited

    def __iter__(self) -> Iterator[TrainingBatch]:
        return self.batches


class Task:
    """What a network is trained on and how it is validated.

    Attributes:
        size: side of an image in pixels.
        count: images in an epoch.
        objective: a block from a batch's inputs to losses (N,) and metric sums (k,), the first of which is N.
        distill_loss: a block whose parameters train beside the network's; None without teachers.
        load: function (network, source, contexts, fresh) that loads weights from `recipe.pretrained`.
        plot: function (rows, path) that draws the metrics of log.csv.
    """

    size: int
    count: int
    objective: Any
    distill_loss: Optional[Any] = None
    load: Callable
    plot: Callable[[list, Path], None]

    def batches(self, epoch: int, first: int) -> ContextManager[BatchIterator]:
        """Open the batches of an epoch, from number `first` on. They depend on the seed and the epoch alone."""
        raise NotImplementedError

    def save_batches(self, indices: list, path: Path) -> str:
        """Save the images of batches, given the `index` of each, for inspection. Return the name of the file, which is
        `path` with an extension. Raises `OSError`."""
        raise NotImplementedError

    def metrics(self, sums: np.ndarray) -> Dict[str, Any]:
        """Return {name: mean} for metric sums (k,), `loss` among them, as in log.csv; None if no label is known."""
        raise NotImplementedError

    def describe(self, metrics: Dict[str, Any]) -> str:
        """Return the metrics as a line of text."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what the task holds, at the end of a run."""

    def validate(self) -> Validation:
        """Measure the network on `data.val`.

        Raises `AgedgeError` if there is nothing to measure on, `DivergedError` if the network outputs NaN or
        infinity.
        """
        raise NotImplementedError
