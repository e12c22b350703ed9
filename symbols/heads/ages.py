"""The ages that the heads know, 0 to 100 years, and what their losses share."""

from mxnet import nd

LAST_AGE = 100


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
