"""The ages that the heads know, 0 to 100 years, and what their losses share."""

from mxnet import nd
from mxnet.gluon import HybridBlock

LAST_AGE = 100


class AgeHead(HybridBlock):
    """Features (N, C) -> logits, which `loss` and `decode` take.

    `answers`: the outputs for the card, {name: {"kind", ..}} as docs/card.md lists them; `answer` gives those outputs.
    """

    answers = {"age": {"kind": "years"}}

    def loss(self, F, logits, age_min, age_max):
        """(N,) losses from ages (N, 1) in years, an interval each; 0 where they are unknown, -1."""
        raise NotImplementedError

    def decode(self, F, logits):
        """Age in years, (N, 1)."""
        raise NotImplementedError

    def distribution(self, F, logits):
        """P(age = 0..100), (N, 101), or None where the head has none."""
        return None

    def answer(self, F, logits):
        """A tuple of what `answers` names."""
        return (self.decode(F, logits),)


def years_constant(params):
    """(1, 101) the years 0, 1, .., 100 as a constant of a block; an arange in the graph would not reach ncnn."""
    return params.get_constant("years", [[float(year) for year in range(LAST_AGE + 1)]])


def value_of(F, constant, like):
    """A constant in whatever `F` computes with: symbols, or arrays on the device of `like`."""
    return constant.data(like.context) if F is nd else constant.var()


def clip_to_head(F, age):
    """Ages over 100 count as 100. An unknown one, -1, becomes 0: mask what follows from it."""
    return F.clip(age, 0, LAST_AGE)


def distance_to_interval(F, age, low, high):
    """Years by which a predicted age (N, 1) lies outside [low, high]; 0 inside."""
    return F.relu(low - age) + F.relu(age - high)
