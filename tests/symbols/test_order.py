"""ORDER and iORDER against a direct double loop, and at their edges."""

import math

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from symbols.heads.order import order_loss


def by_loops(features, ages, known, improved):
    """The formulas, pair after pair, over the faces that count."""
    features = [row / np.linalg.norm(row) for row, counts in zip(np.float64(features), known) if counts]
    ages = [age for age, counts in zip(ages, known) if counts]
    distances, weights = [], []
    for i in range(len(ages)):
        for j in range(i + 1, len(ages)):
            distances.append(sum(abs(a - b) for a, b in zip(features[i], features[j])))
            weights.append(abs(ages[i] - ages[j]))
    if not weights or max(weights) == 0:
        return 0.0
    weights = [(weight - min(weights)) / max(weights) for weight in weights]
    if improved:
        distances = [math.log((d - min(distances)) / max(distances) + 1e-6) for d in distances]
    return -sum(d * w for d, w in zip(distances, weights)) / len(weights)


def loss_of(features, ages, known, improved):
    column = [nd.array(values, dtype=features.dtype).reshape((-1, 1)) for values in (ages, known)]
    return order_loss(nd, features, *column, improved=improved)


@pytest.mark.parametrize("improved", [True, False])
@pytest.mark.parametrize(
    "ages, known",
    [
        ([3, 50, 22, 81, 22, 40], [1, 1, 1, 1, 1, 1]),
        ([3, 50, 22, 81, 22, 40], [1, 0, 1, 1, 0, 1]),
        ([3, 50, 22, 81, 22, 40], [0, 1, 0, 0, 1, 0]),
        ([30, 31], [1, 1]),
        ([7, 7, 7, 9], [1, 1, 1, 1]),
    ],
)
def test_the_loss_is_that_of_a_double_loop(improved, ages, known):
    for seed in range(5):
        features = np.random.RandomState(seed).normal(size=(len(ages), 16)).astype(np.float32)
        found = loss_of(nd.array(features), ages, known, improved)
        assert found.shape == (1,)
        assert found.asscalar() == pytest.approx(by_loops(features, ages, known, improved), rel=2e-4, abs=1e-6)


def test_a_batch_as_large_as_in_training():
    random = np.random.RandomState(0)
    features, ages = random.normal(size=(32, 128)).astype(np.float32), random.randint(1, 116, 32)
    found = loss_of(nd.array(features), ages, np.ones(32), True).asscalar()
    assert found == pytest.approx(by_loops(features, ages, np.ones(32), True), rel=1e-4)


@pytest.mark.parametrize("improved", [True, False])
@pytest.mark.parametrize(
    "features, ages, known, is_zero",
    [
        (np.ones((1, 4)), [30], [1], True),
        (np.eye(4), [30] * 4, [1] * 4, True),
        (np.eye(4), [30, 40, 50, 60], [0] * 4, True),
        (np.eye(4), [30, 40, 50, 60], [0, 1, 0, 0], True),
        (np.zeros((4, 4)), [30, 40, 50, 60], [1] * 4, False),
        (np.ones((4, 4)), [30, 40, 50, 60], [1] * 4, False),
        (1e4 * np.eye(4) - 5e3, [0, 0, 120, 120], [1] * 4, False),
        (1e-30 * np.eye(4), [0, 20, 40, 120], [1] * 4, False),
    ],
)
def test_no_batch_gives_anything_but_numbers(improved, features, ages, known, is_zero):
    features = nd.array(features)
    features.attach_grad()
    with autograd.record():
        loss = loss_of(features, ages, known, improved)
    loss.backward()
    assert np.isfinite(loss.asscalar()) and np.isfinite(features.grad.asnumpy()).all()
    if is_zero:
        assert loss.asscalar() == 0 and not features.grad.asnumpy().any()


@pytest.mark.parametrize("improved", [True, False])
def test_gradients_are_those_of_the_loss(improved):
    random = np.random.RandomState(3)
    ages, known = [3, 50, 22, 81, 40], [1, 1, 1, 0, 1]
    features = nd.array(random.normal(size=(5, 8)), dtype="float64")
    features.attach_grad()
    with autograd.record():
        loss = loss_of(features, ages, known, improved)
    loss.backward()
    assert not features.grad[3].asnumpy().any()
    for _ in range(5):
        step = nd.array(1e-6 * random.normal(size=(5, 8)), dtype="float64")
        above, below = (loss_of(features + sign * step, ages, known, improved).asscalar() for sign in (1, -1))
        assert (above - below) / 2 == pytest.approx((features.grad * step).sum().asscalar(), rel=1e-4, abs=1e-10)


def test_a_step_against_the_gradient_moves_far_ages_apart():
    features, ages = nd.array(np.random.RandomState(5).normal(size=(3, 8))), [5, 6, 80]
    features.attach_grad()

    def ratio():
        unit = nd.L2Normalization(features).asnumpy()
        return np.abs(unit[0] - unit[2]).sum() / np.abs(unit[0] - unit[1]).sum()

    before = ratio()
    for _ in range(50):
        with autograd.record():
            loss = loss_of(features, ages, [1, 1, 1], True)
        loss.backward()
        features -= 0.05 * features.grad
    assert ratio() > 1.2 * before


def test_it_runs_on_symbols():
    names = [mx.sym.var(name) for name in ("features", "age", "known")]
    loss = order_loss(mx.sym, *names)
    assert loss.infer_shape(features=(4, 8), age=(4, 1), known=(4, 1))[1] == [(1,)]
