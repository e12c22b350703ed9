"""Losses of the heads: against plain NumPy, at their edges, and their gradients against differences."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from symbols.heads import AGE_HEADS, create_age_head
from symbols.heads.gender import GenderHead


def count_logits(name):
    head = create_age_head(name)
    head.initialize()
    return head(nd.zeros((1, 8))).shape[1]


UNITS = {name: count_logits(name) for name in AGE_HEADS}


def head_of(name, **options):
    head = create_age_head(name, **options)
    head.initialize()
    return head


def age_loss(head, logits, *ages):
    low, high = (nd.array([[pair[side]] for pair in ages]) for side in (0, 1))
    return head.loss(nd, logits, low, high)


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def test_distribution_loss_of_an_exact_age():
    logits = np.random.normal(size=(1, 101)).astype(np.float32)
    years, log_p = np.arange(101), log_softmax(logits)
    target = np.exp(-((years - 40) ** 2) / (2 * 2.5**2))
    expected = -(target / target.sum() * log_p).sum() + 0.1 * abs((np.exp(log_p) * years).sum() - 40)
    loss = age_loss(head_of("distribution", sigma=2.5, l1=0.1), nd.array(logits), (40, 40))
    assert loss.asscalar() == pytest.approx(expected, rel=1e-4)


def test_distribution_loss_of_an_interval_is_the_mass_inside():
    logits = np.random.normal(size=(2, 101)).astype(np.float32)
    p = np.exp(log_softmax(logits))
    loss = age_loss(head_of("distribution", l1=0), nd.array(logits), (20, 29), (70, 120)).asnumpy()
    np.testing.assert_allclose(loss, [-np.log(p[0, 20:30].sum()), -np.log(p[1, 70:].sum())], rtol=1e-4)


def test_an_interval_between_two_whole_years_holds_both():
    logits = np.full((1, 101), -40, np.float32)
    logits[0, 31] = 10
    assert age_loss(head_of("distribution", l1=0), nd.array(logits), (30.2, 30.8)).asscalar() < 1e-3


def test_an_interval_asks_for_no_age_inside_of_it():
    head = head_of("distribution", l1=1.0)
    logits = np.full((1, 101), -40, np.float32)
    logits[0, [21, 28]] = 10
    assert age_loss(head, nd.array(logits), (20, 29)).asscalar() == pytest.approx(0, abs=1e-4)
    assert age_loss(head_of("regression"), nd.array([[-0.3]]), (20, 29)).asscalar() == 0


def test_ordinal_loss_counts_only_what_an_interval_settles():
    logits = np.random.normal(size=(1, 100)).astype(np.float32)
    p = 1 / (1 + np.exp(-logits[0]))
    expected = -np.log(p[:20]).sum() - np.log(1 - p[29:]).sum()
    loss = age_loss(head_of("ordinal", weight=1.0), nd.array(logits), (20, 29))
    assert loss.asscalar() == pytest.approx(expected, rel=1e-4)


def test_pairs_are_single_decisions_by_their_difference_and_the_age_counts_votes():
    pairs = np.random.normal(size=(3, 200)).astype(np.float32)
    differences = pairs.reshape(3, 100, 2)[..., 1] - pairs.reshape(3, 100, 2)[..., 0]
    ages = ((5, 5), (30, 40), (-1, -1))
    one, other = head_of("ordinal"), head_of("ordinal_pairs")
    by_pairs, by_differences = age_loss(other, nd.array(pairs), *ages), age_loss(one, nd.array(differences), *ages)
    np.testing.assert_allclose(by_pairs.asnumpy(), by_differences.asnumpy(), rtol=1e-4)
    assert other.decode(nd, nd.array(pairs)).asnumpy().ravel().tolist() == (differences > 0).sum(axis=1).tolist()


@pytest.mark.parametrize("name", AGE_HEADS)
def test_unknown_ages_contribute_nothing_not_even_a_gradient(name):
    head, logits = head_of(name), nd.random.normal(shape=(3, UNITS[name]))
    logits.attach_grad()
    with autograd.record():
        loss = age_loss(head, logits, (-1, -1), (30, 30), (-1, -1))
    loss.backward()
    assert loss.asnumpy()[[0, 2]].tolist() == [0, 0] and loss[1].asscalar() > 0
    assert np.abs(logits.grad.asnumpy()[[0, 2]]).max() == 0 < np.abs(logits.grad.asnumpy()[1]).max()


@pytest.mark.parametrize("name", AGE_HEADS)
@pytest.mark.parametrize("scale", [0, 50, 1e4])
def test_extreme_logits_give_numbers(name, scale):
    head = head_of(name)
    for ages in [((0, 0),), ((100, 120),), ((120, 120),), ((3, 9), (-1, -1)), ((-1, -1),)]:
        logits = nd.array(scale * np.random.choice([-1.0, 1.0], (len(ages), UNITS[name])))
        logits.attach_grad()
        with autograd.record():
            loss = age_loss(head, logits, *ages)
        loss.backward()
        assert np.isfinite(loss.asnumpy()).all() and np.isfinite(logits.grad.asnumpy()).all()


@pytest.mark.seed(20261122)  # a finite difference across the kink of an L1 loss is not its gradient
@pytest.mark.parametrize("name", AGE_HEADS)
@pytest.mark.parametrize("ages", [(33, 33), (20, 29), (70, 120)])
def test_gradients_are_those_of_the_loss(name, ages):
    head = head_of(name)
    logits = nd.random.normal(shape=(1, UNITS[name]))
    logits.attach_grad()
    with autograd.record():
        loss = age_loss(head, logits, ages)
    loss.backward()
    for _ in range(5):
        step = nd.random.normal(shape=logits.shape)
        step = 0.02 * step / step.norm()
        difference = (age_loss(head, logits + step, ages) - age_loss(head, logits - step, ages)).asscalar() / 2
        assert difference == pytest.approx((logits.grad * step).sum().asscalar(), abs=2e-4)


def test_gender_loss():
    head = GenderHead()
    head.initialize()
    logits = nd.array([[2.0, -1.0], [2.0, -1.0], [2.0, -1.0]])
    loss = head.loss(nd, logits, nd.array([[0], [1], [-1]])).asnumpy()
    np.testing.assert_allclose(loss, [np.log1p(np.exp(-3)), np.log1p(np.exp(3)), 0], rtol=1e-4)
    assert head.decode(nd, logits)[0].asscalar() == pytest.approx(1 / (1 + np.exp(3)), rel=1e-4)


def test_ages_over_a_hundred_count_as_a_hundred():
    head, logits = head_of("distribution"), nd.random.normal(shape=(1, 101))
    assert age_loss(head, logits, (116, 116)).asscalar() == age_loss(head, logits, (100, 100)).asscalar()


def test_heads_run_on_symbols_as_on_arrays():
    """`F` is either; a head that used one's own functions would fail to hybridize."""
    for name in AGE_HEADS:
        head = create_age_head(name)
        loss = head.loss(mx.sym, mx.sym.var("logits"), mx.sym.var("low"), mx.sym.var("high"))
        shapes = loss.infer_shape(logits=(4, UNITS[name]), low=(4, 1), high=(4, 1))[1]
        assert shapes == [(4,)]
