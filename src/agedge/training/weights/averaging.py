"""Averages of the weights over a run: exponential (EMA; Polyak and Juditsky 1992), or over its last epochs (stochastic
weight averaging, SWA; Izmailov et al. 2018, "Averaging weights leads to wider optima")."""

import contextlib
from typing import TYPE_CHECKING, Dict, Iterator, List

if TYPE_CHECKING:
    from mxnet.gluon import HybridBlock
    from mxnet.ndarray import NDArray

WARM = 10  # an EMA begins as a plain mean: at step t its decay is at most (1 + t) / (10 + t)
TOGETHER = 60  # arrays that MXNet's fused operator takes at once


def is_statistic(name: str) -> bool:
    """Return whether a parameter is a BatchNorm's running mean or variance."""
    return name.endswith(("running_mean", "running_var"))


class WeightMean:
    """A running mean of a network's parameters, on its first device.

    `arrays`: the means by structural name, of which `weights` and `statistics` (BatchNorm's) are names; `count`: how
    many sets of weights are in them; `kept`: the share of the statistics that remains since `settle` was called last.
    """

    def __init__(self, network: "HybridBlock"):
        self.parameters = network._collect_params_with_prefix()
        self.arrays = {name: parameter.list_data()[0].copy() for name, parameter in self.parameters.items()}
        self.statistics = [name for name in self.arrays if is_statistic(name)]
        self.weights = [name for name in self.arrays if not is_statistic(name)]
        self.count = 0
        self.kept = 1.0

    def _update(self, names: List[str], share: float) -> None:
        """Set mean += share * (parameters - mean), in few operators."""
        from mxnet import nd

        # SGD: w -= lr * (rescale * gradient + wd * w). With wd = 1, rescale = -1, weights as gradients it is a mean.
        for first in range(0, len(names), TOGETHER):
            some = names[first : first + TOGETHER]
            means = [self.arrays[name] for name in some]
            pairs = [array for name in some for array in (self.arrays[name], self.parameters[name].list_data()[0])]
            rates = {"lrs": [share] * len(some), "wds": [1.0] * len(some), "rescale_grad": -1.0}
            nd.multi_sgd_update(*pairs, out=means, num_weights=len(some), **rates)

    def step(self, decay: float) -> None:
        """Update the EMA after a step of the optimizer. `decay` is the share that stays, less in the first steps."""
        decay = min(decay, (1 + self.count) / (WARM + self.count))
        self._update(self.weights, 1 - decay)
        self.count += 1
        self.kept *= decay

    def settle(self) -> None:
        """Update the EMA of BatchNorm's statistics for the steps since the last call.

        The device must be idle: MXNet writes the statistics in the backward pass without the knowledge of its engine.
        """
        self._update(self.statistics, 1 - self.kept)
        self.kept = 1.0

    def add(self) -> None:
        """Add the weights and statistics to their plain mean. The device must be idle."""
        self._update([*self.weights, *self.statistics], 1 / (self.count + 1))
        self.count += 1

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the network the mean as its weights while the context lasts."""
        own = {name: parameter.list_data()[0].copy() for name, parameter in self.parameters.items()}
        self.put(self.arrays)
        try:
            yield
        finally:
            self.put(own)

    def put(self, arrays: "Dict[str, NDArray]") -> None:
        """Set the network's weights on all of its devices."""
        for name, array in arrays.items():
            self.parameters[name].set_data(array)

    def to_part(self) -> "Dict[str, NDArray]":
        """Return the part of a checkpoint that `load_part` reads."""
        from mxnet import nd

        return {**self.arrays, "count": nd.array([self.count], dtype="int32")}

    def load_part(self, part: "Dict[str, NDArray]") -> None:
        """Restore the mean from what `to_part` returned."""
        self.count = int(part["count"].asscalar())
        for name, array in self.arrays.items():
            array[:] = part[name].as_in_context(array.context)
