"""Age as a distribution over 0..100: softmax, and its expectation is the age.

The expectation is that of Rothe et al. 2015 ("DEX"), the Gaussian label distribution that of Gao et al. 2017 ("DLDL"),
the L1 term on the expectation that of Gao et al. 2018 ("DLDL-v2"), mean and variance loss those of Pan et al. 2018
("Mean-variance loss for deep age estimation from a face").
"""

from typing import Any, Optional, Sequence, Union

from mxnet.gluon import nn

from symbols.heads.ages import LAST_AGE, AgeHead, clip_to_head, distance_to_interval, value_of, years_constant
from symbols.heads.label_width import log_width, read_width, width_loss, width_of, width_parameter
from symbols.options import require_not_negative

MASKED = -1e30  # the log of no probability, which float32 holds and -inf would make NaN of


class DistributionHead(AgeHead):
    """Features (N, C) -> logits (N, 101).

    `sigma`: width in years of the label distribution of an exact age, 0 for its class alone; or [young, old], the width
    at the ages 0 and 100 and in proportion between; or "learnt", a parameter for each age that begins at 2.5, or at
    {"start": years} (see `heads.label_width`). `l1`: weight of the distance in years.
    """

    def __init__(
        self, sigma: Union[float, str, Sequence[float], dict] = 2.5, l1: float = 0.1, prefix: Optional[str] = None
    ) -> None:
        require_not_negative(l1=l1)
        width = read_width(sigma)
        super().__init__(prefix=prefix)
        self.sigma, self.l1 = width, float(l1)
        if isinstance(width, dict):
            self.log_sigma = width_parameter(self.params, **width)
        with self.name_scope():
            self.dense = nn.Dense(LAST_AGE + 1)
        self.years = years_constant(self.params)

    def hybrid_forward(self, F: Any, features: Any, years: Any, log_sigma: Any = None) -> Any:
        return self.dense(features)

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return the losses (N,). Of an exact age, the cross-entropy with a Gaussian about it, or with its class where
        `sigma` is 0; of an interval, -log of the probability mass inside. Both add `l1` times the years by which the
        expectation lies outside of the label. An age between two whole years is of both classes.

        Where the width is learnt, it is the divergence from that Gaussian in place of the cross-entropy, which depends
        on the width alone, and the width's own loss besides."""
        low, high = clip_to_head(F, age_min), clip_to_head(F, age_max)
        log_p = F.log_softmax(logits)
        years = value_of(F, self.years, logits)

        inside = F.broadcast_greater_equal(years, F.floor(low)) * F.broadcast_lesser_equal(years, F.ceil(high))
        loss = minus_log_mass(F, log_p, inside)
        if self.sigma:
            exact_loss = self._loss_of_exact_age(F, logits, log_p, years, low)
            loss = F.where(low == high, exact_loss, loss)
        loss = loss + self.loss_of_expectation(F, logits, low, high)
        return F.squeeze((age_min >= 0) * loss, axis=1)

    def _loss_of_exact_age(self, F, logits, log_p, years, age):
        squares = -(F.broadcast_sub(years, age) ** 2)
        if isinstance(self.sigma, float):
            gaussian = F.softmax(squares / (2 * self.sigma**2))
            return -F.sum(gaussian * log_p, axis=1, keepdims=True)
        width = self.width(F, age)
        log_q = F.log_softmax(F.broadcast_div(squares, 2 * F.BlockGrad(width) ** 2))
        if isinstance(self.sigma, tuple):
            return -F.sum(F.exp(log_q) * log_p, axis=1, keepdims=True)
        log = log_width(F, value_of(F, self.log_sigma, age), years, age)
        divergence = F.sum(F.exp(log_q) * (log_q - log_p), axis=1, keepdims=True)
        return divergence + width_loss(F, log, F.abs(self.decode(F, logits) - age))

    def width(self, F: Any, age: Any) -> Any:
        """Return the width (N, 1) of the label distribution in years at ages (N, 1)."""
        if isinstance(self.sigma, float):
            return 0 * age + self.sigma
        if isinstance(self.sigma, tuple):
            young, old = self.sigma
            return young + (old - young) / LAST_AGE * age
        return width_of(F, log_width(F, value_of(F, self.log_sigma, age), value_of(F, self.years, age), age))

    def loss_of_expectation(self, F: Any, logits: Any, low: Any, high: Any) -> Any:
        """Return the term (N, 1) of the loss that depends on the expected age."""
        return self.l1 * distance_to_interval(F, self.decode(F, logits), low, high)

    def distribution(self, F: Any, logits: Any) -> Any:
        return F.softmax(logits)

    def decode(self, F: Any, logits: Any) -> Any:
        return F.sum(F.broadcast_mul(F.softmax(logits), value_of(F, self.years, logits)), axis=1, keepdims=True)


class DexHead(DistributionHead):
    """Rothe et al. 2015: trained by the cross-entropy of one class a year, decoded by the expectation."""

    def __init__(
        self, sigma: Union[float, str, Sequence[float], dict] = 0.0, l1: float = 0.0, prefix: Optional[str] = None
    ) -> None:
        super().__init__(sigma, l1, prefix)


class MeanVarianceHead(DistributionHead):
    """Pan et al. 2018: cross-entropy + `mean` * (expectation - age)^2 / 2 + `variance` * the distribution's variance.

    For an interval the mean loss takes the distance to it, and the variance loss is left out.
    """

    def __init__(
        self,
        mean: float = 0.2,
        variance: float = 0.05,
        sigma: Union[float, str, Sequence[float], dict] = 0.0,
        prefix: Optional[str] = None,
    ) -> None:
        require_not_negative(mean=mean, variance=variance)
        super().__init__(sigma, 0.0, prefix)
        self.mean, self.variance = float(mean), float(variance)

    def loss_of_expectation(self, F: Any, logits: Any, low: Any, high: Any) -> Any:
        expected = self.decode(F, logits)
        squares = F.broadcast_sub(value_of(F, self.years, logits), expected) ** 2
        variance = F.sum(F.softmax(logits) * squares, axis=1, keepdims=True)
        mean_loss = distance_to_interval(F, expected, low, high) ** 2 / 2
        return self.mean * mean_loss + self.variance * (low == high) * variance


def minus_log_mass(F: Any, log_p: Any, inside: Any) -> Any:
    """Return -log of the probability of all classes for which `inside` (N, K) is 1, from log-probabilities (N, K); (N,
    1)."""
    masked = F.where(inside, log_p, F.ones_like(log_p) * MASKED)
    peak = F.BlockGrad(F.max(masked, axis=1, keepdims=True))
    return -(peak + F.log(F.sum(F.exp(F.broadcast_sub(masked, peak)), axis=1, keepdims=True)))
