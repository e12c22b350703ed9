"""The sampler: every face once an epoch, or ages balanced, from the seed and the epoch alone."""

import numpy as np
import pytest

from agedge.training.data.sampling import age_weights, draw_order


@pytest.mark.parametrize("count, batch_size", [(1, 1), (10, 5), (10, 4), (3, 8), (100, 33)])
def test_an_epoch_shows_every_face_and_fills_up_from_its_start(count, batch_size):
    order = draw_order(count, batch_size, 7, 1)
    assert order.dtype == np.int64 and len(order) == -(-count // batch_size) * batch_size
    assert sorted(order[:count]) == list(range(count))
    assert (order[count:] == np.resize(order[:count], len(order))[count:]).all()


def test_the_order_follows_from_seed_and_epoch_alone():
    np.random.seed(1)
    first = draw_order(50, 10, 3, 4)
    np.random.seed(2)
    assert (draw_order(50, 10, 3, 4) == first).all()
    for seed, epoch in ((3, 5), (4, 4), (4, 3), (3, 0)):
        assert (draw_order(50, 10, seed, epoch) != first).any()
    weights = np.arange(50.0)
    assert (draw_order(50, 10, 3, 4, weights) == draw_order(50, 10, 3, 4, weights)).all()
    assert (draw_order(50, 10, 3, 4, weights) != draw_order(50, 10, 3, 5, weights)).any()


def test_faces_come_as_often_as_their_weights():
    weights = np.array([0, 1, 1, 2, 4.5, 0.5] * 20)
    order = draw_order(120, 60, 0, 1, weights)
    times = np.bincount(order, minlength=120)
    wanted = weights / weights.sum() * len(order)
    assert np.abs(times - wanted).max() < 1 and times[::6].sum() == 0
    many = sum(np.bincount(draw_order(120, 60, 0, epoch, weights), minlength=120) for epoch in range(300))
    assert many / 300 == pytest.approx(wanted, abs=0.12)
    assert np.abs(np.diff(order)).mean() > 20, "shuffled"
    assert sorted(draw_order(120, 60, 0, 1, np.ones(120))) == list(range(120))


def ages(low, high=None):
    low = np.asarray(low, np.float32)
    return np.stack([np.zeros(len(low)), low, low if high is None else high], axis=1).astype(np.float32)


def test_balance_brings_rare_ages_up():
    labels = ages(np.repeat([5, 25, 45, 65], [1000, 4000, 500, 100]))
    assert (age_weights(labels, 0) == 1).all()
    shares = [age_weights(labels, 1)[labels[:, 1] == age].sum() for age in (5, 25, 45, 65)]
    assert shares == pytest.approx([1400] * 4)
    half = age_weights(labels, 0.5)
    assert half[-1] / half[0] == pytest.approx(10**0.5) and half.mean() == pytest.approx(1)


def test_ages_near_to_each_other_count_together():
    weights = age_weights(ages([30] * 50 + [31] + [60] * 51), 1)
    assert weights[[0, 50]] == pytest.approx(weights[-1])


def test_intervals_and_unknown_ages():
    exact = np.repeat(np.arange(20, 30), 10)
    labels = ages(np.r_[exact, [20] * 100, [70], [-1] * 5], np.r_[exact, [29] * 100, [70], [-1] * 5])
    weights = age_weights(labels, 1)
    assert weights[100:200] == pytest.approx(weights[:100].mean(), rel=0.05), "an interval is as common as its years"
    assert weights[200] > 20 * weights[150]
    assert weights[201:] == pytest.approx(1) and weights.mean() == pytest.approx(1)
    assert (age_weights(ages([-1, -1]), 1) == 1).all()


def test_the_youngest_and_the_oldest_are_counted_too():
    weights = age_weights(ages([0] * 10 + [120] * 10 + [0.5] * 10, [0] * 10 + [120] * 10 + [120] * 10), 1)
    assert np.isfinite(weights).all() and weights.min() > 0 and weights[0] == pytest.approx(weights[10])


def test_equally_common_ages_weigh_the_same():
    assert age_weights(ages(np.arange(121)), 1) == pytest.approx(1)
