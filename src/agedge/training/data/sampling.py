"""Which training face comes when: the shuffled order of an epoch, and how often each age is in it."""

from typing import Optional

import numpy as np

from agedge.labels import MAX_AGE

# Which chance a seed is for: NumPy takes (seed, epoch) and (seed, epoch, 0) for the same, so this stands before them.
ORDER, CHANGES = 1, 2
WINDOW = 2  # years to either side whose faces count as of the same age


def draw_order(count: int, batch_size: int, seed: int, epoch: int, weights: Optional[np.ndarray] = None) -> np.ndarray:
    """The faces (steps * batch_size,) int64 of an epoch, whole batches of them, by (seed, epoch) alone.

    Without weights a permutation of 0 .. count - 1, filled up from its start. With `weights` (count,) each face comes
    as often as its share of them asks for, rounded up or down by chance (systematic resampling, which varies less than
    independent draws), in random order.
    """
    rng = np.random.default_rng([ORDER, seed, epoch])
    total = -(-count // batch_size) * batch_size
    if weights is None:
        return np.resize(rng.permutation(count), total).astype(np.int64)
    shares = np.cumsum(weights, dtype=np.float64)
    marks = (np.arange(total) + rng.random()) * (shares[-1] / total)
    chosen = np.minimum(np.searchsorted(shares, marks, side="right"), count - 1)
    return rng.permutation(chosen).astype(np.int64)


def age_weights(labels: np.ndarray, balance: float) -> np.ndarray:
    """Weights (n,) float64, 1 in the mean, of faces with labels (n, 3): (how many are of the same age) ** -balance.

    Of the same age is who is no more than two years older or younger; an interval counts in equal parts for each of its
    years, and is as common as its years are in the mean. A face of unknown age has the mean weight.
    """
    known = labels[:, 1] >= 0
    weights = np.ones(len(labels))
    if not known.any() or not balance:
        return weights
    low, high = np.floor(labels[known, 1:]).astype(np.int64).T
    years = (high - low + 1).astype(np.float64)
    change = np.zeros(MAX_AGE + 2)
    np.add.at(change, low, 1 / years)
    np.add.at(change, high + 1, -1 / years)
    faces = np.cumsum(change)[:-1]
    near = np.convolve(faces, np.ones(2 * WINDOW + 1), "same")
    near /= np.convolve(np.ones(len(faces)), np.ones(2 * WINDOW + 1), "same")  # the window ends at 0 and 120
    up_to = np.concatenate([[0], np.cumsum(near)])
    common = (up_to[high + 1] - up_to[low]) / years
    weights[known] = common**-balance
    weights[known] /= weights[known].mean()
    return weights
