"""How a network is run on a batch, in any runtime: as a function, or as a runner that owns the memory of its input."""

from typing import Callable, Dict, List, Protocol, Sequence, Tuple

import numpy as np

# (n, 3, h, w) float32 RGB 0..255 -> the network's outputs, (n, ...) float32, by their names in the card.
RunBatch = Callable[[np.ndarray], Dict[str, np.ndarray]]


class BatchRunner(Protocol):
    """A network whose caller writes a batch into the runner's memory and then runs it, not for two threads at once.

    `agedge.runtime.mxnet_executors.ExecutorPool` is one, `BufferedRunner` another.
    """

    def reserve(self, shape: Tuple[int, ...]) -> np.ndarray:
        """Return the memory of the next batch, `shape` (n, 3, h, w) float32, for the caller to write into."""
        ...

    def run(self, shape: Tuple[int, ...]) -> List[np.ndarray]:
        """Return the outputs, (n, ...) each, for the batch that was written into `reserve(shape)` last."""
        ...


class BufferedRunner:
    """A `BatchRunner` over a network that ONNX Runtime or ncnn has opened: `outputs` are the names of its outputs."""

    def __init__(self, run_batch: RunBatch, outputs: Sequence[str]):
        self.run_batch, self.outputs = run_batch, list(outputs)
        self.memory = np.zeros(0, np.float32)

    def reserve(self, shape: Tuple[int, ...]) -> np.ndarray:
        """See `BatchRunner`."""
        size = int(np.prod(shape))
        if size > len(self.memory):
            self.memory = np.zeros(size, np.float32)
        return self.memory[:size].reshape(shape)

    def run(self, shape: Tuple[int, ...]) -> List[np.ndarray]:
        """See `BatchRunner`."""
        outputs = self.run_batch(self.reserve(shape))
        return [outputs[name] for name in self.outputs]
