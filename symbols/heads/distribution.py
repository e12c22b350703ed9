"""Age as a distribution over 0..100: softmax, and its expectation is the age.

The expectation is that of Rothe et al. 2015 ("DEX"), the Gaussian label distribution that of Gao et al. 2017 ("DLDL"),
the L1 term on the expectation that of Gao et al. 2018 ("DLDL-v2").
"""

from mxnet.gluon import HybridBlock, nn

from symbols.heads.ages import LAST_AGE, clip_to_head, distance_to_interval, value_of, years_constant


class DistributionHead(HybridBlock):
    """Features (N, C) -> logits (N, 101).

    `sigma`: width in years of the label distribution of an exact age; `l1`: weight of the distance in years.
    """

    def __init__(self, sigma=2.5, l1=0.1, prefix=None):
        super().__init__(prefix=prefix)
        self.sigma, self.l1 = float(sigma), float(l1)
        with self.name_scope():
            self.dense = nn.Dense(LAST_AGE + 1)
        self.years = years_constant(self.params)

    def hybrid_forward(self, F, features, years):
        return self.dense(features)

    def loss(self, F, logits, age_min, age_max):
        """Of an exact age, the cross-entropy with a Gaussian about it; of an interval, -log of the probability mass
        inside. To both come `l1` times the years by which the expectation lies outside of the label."""
        low, high = clip_to_head(F, age_min), clip_to_head(F, age_max)
        log_p = F.log_softmax(logits)
        years = value_of(F, self.years, logits)

        gaussian = F.softmax(-(F.broadcast_sub(years, low) ** 2) / (2 * self.sigma**2))
        exact_loss = -F.sum(gaussian * log_p, axis=1, keepdims=True)

        inside = F.broadcast_greater_equal(years, F.floor(low)) * F.broadcast_lesser_equal(years, F.ceil(high))
        masked = log_p + (inside - 1) * 1e4
        peak = F.BlockGrad(F.max(masked, axis=1, keepdims=True))
        mass_loss = -(peak + F.log(F.sum(F.exp(F.broadcast_sub(masked, peak)), axis=1, keepdims=True)))

        years_off = distance_to_interval(F, self.decode(F, logits), low, high)
        loss = F.where(low == high, exact_loss, mass_loss) + self.l1 * years_off
        return F.squeeze((age_min >= 0) * loss, axis=1)

    def distribution(self, F, logits):
        return F.softmax(logits)

    def decode(self, F, logits):
        return F.sum(F.broadcast_mul(F.softmax(logits), value_of(F, self.years, logits)), axis=1, keepdims=True)
