"""The sampler: the shuffled order of an epoch, and how often each age comes in it."""

from typing import Optional

import numpy as np

from agedge.labels import MAX_AGE

# The first number of a seed, one for each use of random numbers: NumPy treats (seed, epoch) and (seed, epoch, 0) alike.
ORDER, TRANSFORMS = 1, 2
WINDOW = 2  # years to either side whose faces count as being of the same age


def draw_order(count: int, batch_size: int, seed: int, epoch: int, weights: Optional[np.ndarray] = None) -> np.ndarray:
    """Draw the faces (steps * batch_size,) int64 of an epoch, in whole batches, from (seed, epoch) alone.

    Without weights that is a permutation of 0 .. count - 1, filled up from its start. With `weights` (count,) each face
    comes as often as its share of their sum, rounded up or down at random (systematic resampling, which varies less
    than independent draws), in random order.
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
    """Return weights (n,) float64, of mean 1, for labels (n, 3): (number of faces of the same age) ** -balance.

    Faces count as of the same age up to two years apart. An age interval counts in equal parts for each of its years,
    and is as common as the mean of its years. A face of unknown age gets the mean weight.
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
