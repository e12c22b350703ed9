"""Losses that order features by age: ORDER (Shah et al. 2024, "Ordinal classification with distance regularization for
robust brain age prediction") and iORDER ("AGMixer: age estimation using gender feature and improved ordinal loss",
ISCAS 2025).

Both push the features of two faces apart, the more so the further apart their ages are.
"""

from typing import Any

ORDERS = ("iorder", "order", "none")
FAR = 1e9  # beyond any distance of features or ages
LEAST = 1e-6  # distances of unit vectors below it are rounding


def order_loss(F: Any, features: Any, age: Any, known: Any, improved: bool = True) -> Any:
    """Return one number, (1,): iORDER, or ORDER where `improved` is off; 0 where there is no pair of known ages.

    `features` (N, C), which are normalised here; `age` (N, 1) in years; `known` (N, 1), 1 where the face counts: the
    distance of two ages that are only intervals is not known, so give 1 to exact ages alone.

    Over pairs i < j: d, the L1 distance of features; w = (w' - min w') / max w' from that of ages w'. ORDER is the mean
    of -d w, iORDER that of -log((d - min d) / max d + 1e-6) w. Equal features or equal ages divide nothing by 0.
    """
    unit = F.broadcast_div(features, F.sqrt(F.sum(features**2, axis=1, keepdims=True) + 1e-12))
    pair = _pairs(F, F.broadcast_mul, F.squeeze(known, axis=1))
    # Each pair once: of equal numbers MXNet's max and min give every one the whole gradient.
    pair = pair * _pairs(F, F.broadcast_lesser, F.contrib.arange_like(features, axis=0))
    count = F.maximum(F.sum(pair), 1)

    years = F.abs(_pairs(F, F.broadcast_sub, F.squeeze(age, axis=1)))
    least, most = _range_of(F, years, pair)
    weight = F.broadcast_div(F.relu(F.broadcast_sub(years, least)), F.maximum(most, LEAST))

    apart = F.broadcast_sub(F.expand_dims(unit, axis=1), F.expand_dims(unit, axis=0))
    distance = F.sum(F.abs(apart), axis=2)
    if improved:
        least, most = _range_of(F, distance, pair)
        # relu: of the nearest pair it is 0 and stays 0, and what is no pair can be below the least one.
        relative = F.broadcast_div(F.relu(F.broadcast_sub(distance, least)), F.maximum(most, LEAST))
        distance = F.log(relative + 1e-6)
    return -F.broadcast_div(F.reshape(F.sum(pair * weight * distance), shape=(1,)), count)


def _pairs(F, operation, values):
    """Return the differences (N, N) of values (N,), row by column."""
    return operation(F.expand_dims(values, axis=1), F.expand_dims(values, axis=0))


def _range_of(F, distance, pair):
    """Return the least and the largest of the distances (N, N) where `pair` is 1, (1,) each."""
    return F.min(distance + (1 - pair) * FAR), F.max(distance * pair)
