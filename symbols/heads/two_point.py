"""Age as a mixture of two neighbouring decades: 32 years are 0.8 of 30 and 0.2 of 40.

The head of C3AE, Zhang et al., CVPR 2019, "C3AE: Exploring the Limits of Compact Model for Age Estimation".
"""

from typing import Any, Optional

from mxnet import init, nd
from mxnet.gluon import nn

from symbols.heads.ages import LAST_AGE, AgeHead, clip_to_head, distance_to_interval
from symbols.heads.distribution import minus_log_mass
from symbols.options import require_not_negative

BINS, WIDTH = 12, 10.0  # at 0, 10, .., 110 years
TINY = 1e-12  # replaces 0 inside a log, so that 0 * log(0) is 0


class TwoPointHead(AgeHead):
    """Features (N, C) -> (N, 13): 12 logits, whose softmax is the two-point representation, and an age in years,
    which a dense layer computes from it.

    `kl` and `l1` weigh the two losses; 10 and 1 are those of the existing Keras implementation. The weights of
    the last dense layer start at the years of the bins: with Keras' small random weights and a learning rate of 1e-3,
    training would need days to reach 110.
    """

    def __init__(self, kl: float = 10.0, l1: float = 1.0, prefix: Optional[str] = None) -> None:
        require_not_negative(kl=kl, l1=l1)
        super().__init__(prefix=prefix)
        self.kl, self.l1 = float(kl), float(l1)
        years = nd.array([[WIDTH * index for index in range(BINS)]])
        with self.name_scope():
            self.feature = nn.Dense(BINS, prefix="feature_")
            self.dense = nn.Dense(1, weight_initializer=init.Constant(years), prefix="years_")

    def hybrid_forward(self, F: Any, features: Any) -> Any:
        logits = self.feature(features)
        return F.concat(logits, self.dense(F.softmax(logits)), dim=1)

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return the losses (N,). For an exact age, `kl` * KL(two-point label || softmax) + `l1` * |age - label|.

        For an interval, the KL is replaced by -log of the probability of all bins that ages inside the interval use,
        and the L1 by the distance to the interval.
        """
        low, high = clip_to_head(F, age_min), clip_to_head(F, age_max)
        bins = F.slice_axis(logits, axis=1, begin=0, end=BINS)
        age = F.slice_axis(logits, axis=1, begin=BINS, end=BINS + 1)
        log_p = F.log_softmax(bins)
        years = WIDTH * F.expand_dims(F.contrib.arange_like(bins, axis=1), axis=0)

        label = two_points(F, years, low)
        divergence = F.sum(label * (F.log(F.maximum(label, TINY)) - log_p), axis=1, keepdims=True)
        outside = F.relu(F.broadcast_sub(low, years)) + F.relu(F.broadcast_sub(years, high))
        mass_loss = minus_log_mass(F, log_p, outside < WIDTH)

        loss = self.kl * F.where(low == high, divergence, mass_loss)
        loss = loss + self.l1 * distance_to_interval(F, age, low, high)
        return F.squeeze((age_min >= 0) * loss, axis=1)

    def decode(self, F: Any, logits: Any) -> Any:
        return F.clip(F.slice_axis(logits, axis=1, begin=BINS, end=BINS + 1), 0, LAST_AGE)


def two_points(F: Any, years: Any, age: Any) -> Any:
    """Return the shares (N, 12) of the bins at `years` (1, 12) for ages (N, 1): 1 at a bin, 0 from 10 years away."""
    return F.relu(1 - F.abs(F.broadcast_sub(years, age)) / WIDTH)
