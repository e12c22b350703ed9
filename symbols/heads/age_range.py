"""The two age heads of AGMixer (ISCAS 2025), for the age range of a dataset, such as 14 to 62 in CACD: one with a class
per year, and one with a single number for the share of the range. Labels outside the range are clipped to it."""

from typing import Any

from mxnet.gluon import nn

from symbols.heads.ages import LAST_AGE, AgeHead, distance_to_interval, value_of
from symbols.heads.distribution import minus_log_mass
from symbols.options import is_whole

MAX_LABEL = 120  # years


def require_range(first: int, last: int) -> None:
    """Raise `ValueError` unless both are whole years and the first is below the last."""
    whole = all(is_whole(age) for age in (first, last))
    if not (whole and 0 <= first < last <= MAX_LABEL):
        raise ValueError(f"age_min={first}, age_max={last}: must be whole years, 0 <= age_min < age_max <= {MAX_LABEL}")


class AgeClassesHead(AgeHead):
    """Features (N, C) -> logits (N, last - first + 1), a class per year. The age is the expectation, as in DEX."""

    def __init__(self, first: int, last: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.last = first, last
        with self.name_scope():
            self.dense = nn.Dense(last - first + 1)
        years = [[float(year) for year in range(first, last + 1)]]
        self.years = self.params.get_constant("years", years)

    def hybrid_forward(self, F: Any, features: Any, years: Any) -> Any:
        return self.dense(features)

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return -log of the probability mass inside the label; for a whole year, this is the cross-entropy."""
        low, high = F.clip(age_min, self.first, self.last), F.clip(age_max, self.first, self.last)
        years = value_of(F, self.years, logits)
        inside = F.broadcast_greater_equal(years, F.floor(low)) * F.broadcast_lesser_equal(years, F.ceil(high))
        return F.squeeze((age_min >= 0) * minus_log_mass(F, F.log_softmax(logits), inside), axis=1)

    def decode(self, F: Any, logits: Any) -> Any:
        return F.sum(F.broadcast_mul(F.softmax(logits), value_of(F, self.years, logits)), axis=1, keepdims=True)

    def distribution(self, F: Any, logits: Any) -> Any:
        """Return P(age = 0..100): ages over 100 count as 100, ages outside the range have probability 0."""
        years = F.clip(value_of(F, self.years, logits), 0, LAST_AGE)
        return F.dot(F.softmax(logits), F.one_hot(F.squeeze(years, axis=0), depth=LAST_AGE + 1))


class AgeShareHead(AgeHead):
    """Features (N, C) -> (N, 1): the age is first + last * sigmoid, as in the source (not last - first)."""

    def __init__(self, first: int, last: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.last = first, last
        with self.name_scope():
            self.dense = nn.Dense(1)

    def hybrid_forward(self, F: Any, features: Any) -> Any:
        return self.dense(features)

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return the root mean square distance to the labels (N,), over the known ages of the batch: the same number
        for every face, 0 if no age is known."""
        low, high = F.clip(age_min, self.first, self.last), F.clip(age_max, self.first, self.last)
        known = age_min >= 0
        square = known * distance_to_interval(F, self.decode(F, logits), low, high) ** 2
        mean = F.broadcast_div(F.sum(square), F.maximum(F.sum(known), 1))
        # The gradient of a square root is infinite at 0, so the root is smoothed below 1e-4 years.
        root = F.sqrt(mean + 1e-8) - 1e-4
        return F.broadcast_add(F.squeeze(0 * age_min, axis=1), F.reshape(root, shape=(1,)))

    def decode(self, F: Any, logits: Any) -> Any:
        return self.first + self.last * F.sigmoid(logits)
