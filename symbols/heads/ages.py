"""Range of ages of the heads, 0 to 100 years, and the functions that their losses share."""

from typing import Any

from mxnet import nd
from mxnet.gluon import HybridBlock

LAST_AGE = 100


class AgeHead(HybridBlock):
    """Features (N, C) -> logits, which `loss` and `decode` take.

    `answers`: the outputs for the card, {name: {"kind", ..}} as docs/card.md lists them; `answer` gives those outputs.
    """

    answers = {"age": {"kind": "years"}}

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return losses (N,) for ages (N, 1) in years, an interval each; 0 where they are unknown, -1."""
        raise NotImplementedError

    def decode(self, F: Any, logits: Any) -> Any:
        """Return the age in years, (N, 1)."""
        raise NotImplementedError

    def distribution(self, F: Any, logits: Any) -> Any:
        """Return P(age = 0..100), (N, 101), or None if the head has no distribution."""
        return None

    def answer(self, F: Any, logits: Any) -> Any:
        """Return a tuple of outputs in the order of `answers`."""
        return (self.decode(F, logits),)


def years_constant(params: Any) -> Any:
    """Return the years 0, 1, .., 100 as a constant (1, 101) of a block; ncnn cannot convert an arange in the graph."""
    return params.get_constant("years", [[float(year) for year in range(LAST_AGE + 1)]])


def value_of(F: Any, constant: Any, like: Any) -> Any:
    """Return a constant as `F` needs it: a symbol, or an array on the device of `like`."""
    return constant.data(like.context) if F is nd else constant.var()


def clip_to_head(F: Any, age: Any) -> Any:
    """Clip ages to 0..100. An unknown one, -1, becomes 0: mask its loss."""
    return F.clip(age, 0, LAST_AGE)


def distance_to_interval(F: Any, age: Any, low: Any, high: Any) -> Any:
    """Return the years by which a predicted age (N, 1) lies outside [low, high]; 0 inside."""
    return F.relu(low - age) + F.relu(age - high)
