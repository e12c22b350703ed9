"""Age as a sum of three stages in steps of 20, 4 and 1 years, each with a softmax.

The head of the age estimation compact model (AEC), with the loss terms and weights of its Keras source. See
`symbols.aec`.
"""

from typing import Any, Optional

from mxnet import init
from mxnet.gluon import nn

from symbols.heads.ages import AgeHead, clip_to_head, distance_to_interval, value_of
from symbols.options import require_bool, require_not_negative

# (years per step, units of the three dense layers) of each stage, coarse to fine, in the order of creation.
STAGES = ((20, (5, 10, 5)), (4, (5, 10, 5)), (1, (4, 8, 4)))
COARSE = sum(units[-1] for years, units in STAGES if years > 1)  # number of logits of the two coarse stages
STEP = 4  # years; the resolution of the two coarse stages
MIN_VARIANCE = 1.0  # years^2, of a batch's labels; the error ratio is not used below it


class CascadeHead(AgeHead):
    """Features (N, C) -> logits (N, 14): 5 for steps of 20 years, 5 for 4 years, 4 for 1 year.

    The age is the sum over stages of `years * sum_i i * p_i`, 0 to 99. `leading`: every stage also adds its p_0, as in
    the source and as its weights need; the smallest age is then 3.

    Loss of an exact age, with the weights of the source: `mae` * |age - label| + `coarse` * |age of the two coarse
    stages - label rounded down to a multiple of 4| + `fine` * |age - label| + `ratio` * sum of squared errors / sum of
    squared deviations of labels from their mean, over the batch. The source takes 5 from the second term and 6 from the
    third (4.5 and 5.5 on WIKI) but does not clip, so these constants do not change the gradients. `coarse_free` and
    `fine_free` are errors in years without loss (clipped at 0); their default 0 gives the gradients of the source.
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
        # A constant: the years of each probability.
        steps = [[float(years * i + (leading and i == 0)) for years, units in STAGES for i in range(units[-1])]]
        self.years = self.params.get_constant("years", steps)

    def hybrid_forward(self, F: Any, features: Any, years: Any) -> Any:
        return F.concat(*(stage(features) for stage in self.stages), dim=1)

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return the losses (N,). For an interval, |age - label| is the distance to it, and the ratio is not used. Nor
        is it for a batch whose exact ages are nearly equal."""
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
    """Return dense-ReLU, dense-ReLU, dense with He-uniform weights, as in the source. The softmax is in `_years`."""
    layers = nn.HybridSequential(prefix=prefix)
    with layers.name_scope():
        for width in units:
            activation = "relu" if len(layers) + 1 < len(units) else None
            layers.add(nn.Dense(width, activation, weight_initializer=init.Xavier("uniform", "in", 6)))
    return layers


def _in_fours(F, age):
    """Return an age rounded down to a multiple of 4, the resolution of the coarse stages (`age20 + age4` in the
    source)."""
    return STEP * F.floor(age / STEP)


def error_ratio(F: Any, age: Any, label: Any, counts: Any) -> Any:
    """Return (1, 1): the sum of squared errors divided by the sum of squared deviations of the labels from their mean.

    Only ages (N, 1) with `counts` (N, 1) of 1 are used. The ratio is 0 if the labels are nearly equal, as in a batch of
    one.
    """
    count = F.maximum(F.sum(counts, axis=0, keepdims=True), 1)
    mean = F.sum(counts * label, axis=0, keepdims=True) / count
    spread = F.sum(counts * F.broadcast_sub(label, mean) ** 2, axis=0, keepdims=True)
    errors = F.sum(counts * (age - label) ** 2, axis=0, keepdims=True)
    least = MIN_VARIANCE * count
    return (spread >= least) * errors / F.maximum(spread, least)
