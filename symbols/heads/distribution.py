"""Age as a distribution over 0..100: softmax, and its expectation is the age.

The expectation is that of Rothe et al. 2015 ("DEX"), the Gaussian label distribution that of Gao et al. 2017 ("DLDL"),
the L1 term on the expectation that of Gao et al. 2018 ("DLDL-v2"), mean and variance loss those of Pan et al. 2018
("Mean-variance loss for deep age estimation from a face").
"""

from mxnet.gluon import nn

from symbols.heads.ages import LAST_AGE, AgeHead, clip_to_head, distance_to_interval, value_of, years_constant
from symbols.options import require_not_negative

MASKED = -1e30  # the log of no probability, which float32 holds and -inf would make NaN of


class DistributionHead(AgeHead):
    """Features (N, C) -> logits (N, 101).

    `sigma`: width in years of the label distribution of an exact age, 0 for its class alone; `l1`: weight of the
    distance in years.
    """

    def __init__(self, sigma=2.5, l1=0.1, prefix=None):
        require_not_negative(sigma=sigma, l1=l1)
        super().__init__(prefix=prefix)
        self.sigma, self.l1 = float(sigma), float(l1)
        with self.name_scope():
            self.dense = nn.Dense(LAST_AGE + 1)
        self.years = years_constant(self.params)

    def hybrid_forward(self, F, features, years):
        return self.dense(features)

    def loss(self, F, logits, age_min, age_max):
        """Of an exact age, the cross-entropy with a Gaussian about it, or with its class where `sigma` is 0; of an
        interval, -log of the probability mass inside. To both come `l1` times the years by which the expectation lies
        outside of the label. An age between two whole years is of both classes."""
        low, high = clip_to_head(F, age_min), clip_to_head(F, age_max)
        log_p = F.log_softmax(logits)
        years = value_of(F, self.years, logits)

        inside = F.broadcast_greater_equal(years, F.floor(low)) * F.broadcast_lesser_equal(years, F.ceil(high))
        loss = minus_log_mass(F, log_p, inside)
        if self.sigma:
            gaussian = F.softmax(-(F.broadcast_sub(years, low) ** 2) / (2 * self.sigma**2))
            exact_loss = -F.sum(gaussian * log_p, axis=1, keepdims=True)
            loss = F.where(low == high, exact_loss, loss)
        loss = loss + self.loss_of_expectation(F, logits, low, high)
        return F.squeeze((age_min >= 0) * loss, axis=1)

    def loss_of_expectation(self, F, logits, low, high):
        """What the expected age (N, 1) adds to the loss."""
        return self.l1 * distance_to_interval(F, self.decode(F, logits), low, high)

    def distribution(self, F, logits):
        return F.softmax(logits)

    def decode(self, F, logits):
        return F.sum(F.broadcast_mul(F.softmax(logits), value_of(F, self.years, logits)), axis=1, keepdims=True)


class DexHead(DistributionHead):
    """Rothe et al. 2015: classified by the cross-entropy of one class a year, answered by the expectation."""

    def __init__(self, sigma=0.0, l1=0.0, prefix=None):
        super().__init__(sigma, l1, prefix)


class MeanVarianceHead(DistributionHead):
    """Pan et al. 2018: cross-entropy + `mean` * (expectation - age)^2 / 2 + `variance` * the distribution's variance.

    Of an interval the mean loss takes the distance to it, and no variance is asked for: where inside of it the ages lie
    is left open.
    """

    def __init__(self, mean=0.2, variance=0.05, sigma=0.0, prefix=None):
        require_not_negative(mean=mean, variance=variance)
        super().__init__(sigma, 0.0, prefix)
        self.mean, self.variance = float(mean), float(variance)

    def loss_of_expectation(self, F, logits, low, high):
        expected = self.decode(F, logits)
        squares = F.broadcast_sub(value_of(F, self.years, logits), expected) ** 2
        variance = F.sum(F.softmax(logits) * squares, axis=1, keepdims=True)
        mean_loss = distance_to_interval(F, expected, low, high) ** 2 / 2
        return self.mean * mean_loss + self.variance * (low == high) * variance


def minus_log_mass(F, log_p, inside):
    """-log of the probability of all classes for which `inside` (N, K) is 1, from log-probabilities (N, K); (N, 1)."""
    masked = F.where(inside, log_p, F.ones_like(log_p) * MASKED)
    peak = F.BlockGrad(F.max(masked, axis=1, keepdims=True))
    return -(peak + F.log(F.sum(F.exp(F.broadcast_sub(masked, peak)), axis=1, keepdims=True)))
