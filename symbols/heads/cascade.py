"""Age as a cascade of digits: twenties, fours and years, a softmax each, summed.

The head of the age estimation compact model (AEC), as its Keras source has it: its loss terms and weights are the
source's. See `symbols.aec`.
"""

from typing import Any, Optional

from mxnet import init
from mxnet.gluon import nn

from symbols.heads.ages import AgeHead, clip_to_head, distance_to_interval, value_of
from symbols.options import require_bool, require_not_negative

# Of each stage, coarse to fine: (years of one step, units of its three dense layers). In the order of creation.
STAGES = ((20, (5, 10, 5)), (4, (5, 10, 5)), (1, (4, 8, 4)))
COARSE = sum(units[-1] for years, units in STAGES if years > 1)  # logits of the stages that count in fours and more
STEP = 4  # years that the two coarse stages can distinguish
LEAST_SPREAD = 1.0  # years^2 of variance of a batch's labels below which a ratio to it means nothing


class CascadeHead(AgeHead):
    """Features (N, C) -> logits (N, 14): 5 of the twenties, 5 of the fours, 4 of the years.

    The age is the sum over stages of `years * sum_i i * p_i`, 0 to 99. `leading`: every stage adds its p_0 to that, as
    the source does and its weights expect; then the least age is 3.

    Loss of an exact age, by the source's weights: `mae` * |age - label| + `coarse` * |age of the two coarse stages -
    label in fours| + `fine` * |age - label| + `ratio` * sum of squared errors / sum of squared deviations of labels
    from their mean, over the batch. The source takes 5 from the second term and 6 from the third (4.5 and 5.5 on WIKI)
    but does not clip, so these constants move no gradient; `coarse_free` and `fine_free` are years that cost nothing,
    clipped at 0, for whoever wants that: 0 gives the source's gradients.
    """

    def __init__(
        self,
        leading: bool = True,
        mae: float = 3.0,
        coarse: float = 8.5,
        fine: float = 12.0,
        ratio: float = 18.0,
        coarse_free: float = 0.0,
        fine_free: float = 0.0,
        prefix: Optional[str] = None,
    ) -> None:
        require_bool(leading=leading)
        options = {"mae": mae, "coarse": coarse, "fine": fine, "ratio": ratio}
        options.update(coarse_free=coarse_free, fine_free=fine_free)
        require_not_negative(**options)
        super().__init__(prefix=prefix)
        self.weights = {name: float(value) for name, value in options.items()}
        with self.name_scope():
            self.stages = nn.HybridSequential(prefix="")
            for years, units in STAGES:
                self.stages.add(_stage(units, prefix=f"by{years}_"))
        # A constant: what each probability stands for, in years.
        steps = [[float(years * i + (leading and i == 0)) for years, units in STAGES for i in range(units[-1])]]
        self.years = self.params.get_constant("years", steps)

    def hybrid_forward(self, F: Any, features: Any, years: Any) -> Any:
        return F.concat(*(stage(features) for stage in self.stages), dim=1)

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return the losses (N,). For an interval, |age - label| is the years outside of it, and the ratio is left out.
        A batch whose exact ages are nearly equal has no ratio either."""
        low, high = clip_to_head(F, age_min), clip_to_head(F, age_max)
        years = self._years(F, logits)
        age = F.sum(years, axis=1, keepdims=True)
        coarse_age = F.sum(F.slice_axis(years, axis=1, begin=0, end=COARSE), axis=1, keepdims=True)
        off = distance_to_interval(F, age, low, high)
        coarse_off = distance_to_interval(F, coarse_age, _in_fours(F, low), _in_fours(F, high))

        known = age_min >= 0
        weights = self.weights
        loss = weights["mae"] * off + weights["fine"] * F.relu(off - weights["fine_free"])
        loss = known * (loss + weights["coarse"] * F.relu(coarse_off - weights["coarse_free"]))
        exact = known * (low == high)
        ratio = F.broadcast_mul(exact, error_ratio(F, age, low, exact))
        return F.squeeze(loss + weights["ratio"] * ratio, axis=1)

    def decode(self, F: Any, logits: Any) -> Any:
        return F.sum(self._years(F, logits), axis=1, keepdims=True)

    def _years(self, F, logits):
        """Return (N, 14), the years that each step of each stage adds to the age."""
        shares, begin = [], 0
        for _, units in STAGES:
            shares.append(F.softmax(F.slice_axis(logits, axis=1, begin=begin, end=begin + units[-1])))
            begin += units[-1]
        return F.broadcast_mul(F.concat(*shares, dim=1), value_of(F, self.years, logits))


def _stage(units, prefix):
    """Dense-ReLU, dense-ReLU, dense; He et al.'s uniform weights, as in the source. The softmax is in `_years`."""
    layers = nn.HybridSequential(prefix=prefix)
    with layers.name_scope():
        for width in units:
            activation = "relu" if len(layers) + 1 < len(units) else None
            layers.add(nn.Dense(width, activation, weight_initializer=init.Xavier("uniform", "in", 6)))
    return layers


def _in_fours(F, age):
    """Return the part of an age that the coarse stages can express: the source's labels of them, `age20 + age4`, are
    whole fours."""
    return STEP * F.floor(age / STEP)


def error_ratio(F: Any, age: Any, label: Any, counts: Any) -> Any:
    """Return (1, 1): sum of squared errors over the sum of squared deviations of labels from their mean, of ages (N, 1)
    where `counts` (N, 1) is 1; 0 where the labels hardly differ, and of a batch of one."""
    count = F.maximum(F.sum(counts, axis=0, keepdims=True), 1)
    mean = F.sum(counts * label, axis=0, keepdims=True) / count
    spread = F.sum(counts * F.broadcast_sub(label, mean) ** 2, axis=0, keepdims=True)
    errors = F.sum(counts * (age - label) ** 2, axis=0, keepdims=True)
    least = LEAST_SPREAD * count
    return (spread >= least) * errors / F.maximum(spread, least)
