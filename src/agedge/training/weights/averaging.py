"""Means of weights over a run: the exponential one (Polyak and Juditsky 1992), and that of its last epochs, stochastic
weight averaging (Izmailov et al. 2018, "Averaging weights leads to wider optima")."""

import contextlib
from typing import Dict

WARM = 10  # an exponential mean begins as a plain one: at step t at most (1 + t) / (10 + t) of it is kept
TOGETHER = 60  # arrays that MXNet's fused operator takes at once


def is_statistic(name: str) -> bool:
    """Whether a parameter is a BatchNorm's running mean or variance."""
    return name.endswith(("running_mean", "running_var"))


class WeightMean:
    """A running mean of a network's parameters, on its first device."""

    def __init__(self, network):
        self.parameters = network._collect_params_with_prefix()
        self.arrays = {name: parameter.list_data()[0].copy() for name, parameter in self.parameters.items()}
        self.statistics = [name for name in self.arrays if is_statistic(name)]
        self.weights = [name for name in self.arrays if not is_statistic(name)]
        self.count = 0
        self.kept = 1.0  # share of the statistics that is left of when `settle` was called last

    def _update(self, names: list, share: float) -> None:
        """mean += share * (parameters - mean), all arrays by few operators."""
        from mxnet import nd

        # SGD: w -= lr * (rescale * gradient + wd * w). With wd 1, rescale -1 and weights for gradients that is a mean.
        for first in range(0, len(names), TOGETHER):
            some = names[first : first + TOGETHER]
            means = [self.arrays[name] for name in some]
            pairs = [array for name in some for array in (self.arrays[name], self.parameters[name].list_data()[0])]
            rates = {"lrs": [share] * len(some), "wds": [1.0] * len(some), "rescale_grad": -1.0}
            nd.multi_sgd_update(*pairs, out=means, num_weights=len(some), **rates)

    def step(self, decay: float) -> None:
        """After a step of the optimizer: of the mean, `decay` stays, less in the first steps."""
        decay = min(decay, (1 + self.count) / (WARM + self.count))
        self._update(self.weights, 1 - decay)
        self.count += 1
        self.kept *= decay

    def settle(self) -> None:
        """Take up BatchNorm's statistics for the steps since the last time, when the device has no work: MXNet writes
        them in the backward pass, and its engine does not know."""
        self._update(self.statistics, 1 - self.kept)
        self.kept = 1.0

    def add(self) -> None:
        """One more set of weights, and statistics, into their plain mean, when the device has no work."""
        self._update([*self.weights, *self.statistics], 1 / (self.count + 1))
        self.count += 1

    @contextlib.contextmanager
    def in_place(self):
        """The network with the mean for its weights; afterwards it has its own again."""
        own = {name: parameter.list_data()[0].copy() for name, parameter in self.parameters.items()}
        self.put(self.arrays)
        try:
            yield
        finally:
            self.put(own)

    def put(self, arrays: Dict[str, object]) -> None:
        """Give the network these weights, on all of its devices."""
        for name, array in arrays.items():
            self.parameters[name].set_data(array)

    def to_part(self) -> dict:
        """What a checkpoint keeps of it."""
        from mxnet import nd

        return {**self.arrays, "count": nd.array([self.count], dtype="int32")}

    def load_part(self, part: dict) -> None:
        """Go on from `to_part`."""
        self.count = int(part["count"].asscalar())
        for name, array in self.arrays.items():
            array[:] = part[name].as_in_context(array.context)
