"""DEX, DLDL and mean-variance: each loss against plain NumPy, at its edges, and its gradients against differences."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from symbols.heads import create_age_head

YEARS = np.arange(101)
HEADS = ("dex", "distribution", "mean_variance")


def head_of(name, **options):
    head = create_age_head(name, **options)
    head.initialize()
    return head


def loss_of(head, logits, *ages):
    low, high = (nd.array([[pair[side]] for pair in ages]) for side in (0, 1))
    return head.loss(nd, nd.array(logits), low, high)


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def draw(count=1, scale=1.0):
    return np.random.normal(scale=scale, size=(count, 101)).astype(np.float32)


def test_dex_is_the_cross_entropy_of_one_class():
    logits = draw(2)
    loss = loss_of(head_of("dex"), logits, (40, 40), (100, 120)).asnumpy()
    np.testing.assert_allclose(loss, -log_softmax(logits)[[0, 1], [40, 100]], rtol=1e-4)


def test_dex_answers_the_expectation():
    logits = draw(3)
    p = np.exp(log_softmax(logits))
    np.testing.assert_allclose(head_of("dex").decode(nd, nd.array(logits)).asnumpy()[:, 0], p @ YEARS, rtol=1e-5)


def test_distribution_says_what_it_said():
    """Gaussian targets and L1 of an exact age, the mass of an interval: numbers of trained models hang on it."""
    logits = draw(2)
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    target = np.exp(-((YEARS - 40) ** 2) / (2 * 2.5**2))
    exact = -(target / target.sum() * log_p[0]).sum() + 0.1 * abs(p[0] @ YEARS - 40)
    mean = p[1] @ YEARS
    interval = -np.log(p[1, 20:30].sum()) + 0.1 * (max(20 - mean, 0) + max(mean - 29, 0))
    np.testing.assert_allclose(
        loss_of(head_of("distribution"), logits, (40, 40), (20, 29)).asnumpy(), [exact, interval], rtol=1e-4
    )


def test_mean_variance_of_an_exact_age():
    logits = draw()
    log_p = log_softmax(logits)[0]
    p = np.exp(log_p)
    mean = p @ YEARS
    variance = p @ (YEARS - mean) ** 2
    wanted = -log_p[33] + 0.2 * (mean - 33) ** 2 / 2 + 0.05 * variance
    assert loss_of(head_of("mean_variance"), logits, (33, 33)).asscalar() == pytest.approx(wanted, rel=1e-4)
    half = loss_of(head_of("mean_variance", mean=0.1, variance=0), logits, (33, 33)).asscalar()
    assert half == pytest.approx(-log_p[33] + 0.1 * (mean - 33) ** 2 / 2, rel=1e-4)


def test_mean_variance_of_an_interval_asks_for_nothing_inside_of_it():
    logits = np.full((1, 101), -40, np.float32)
    logits[0, [21, 28]] = 10  # a variance of 12
    head = head_of("mean_variance")
    assert loss_of(head, logits, (20, 29)).asscalar() == pytest.approx(0, abs=1e-4)
    p = np.exp(log_softmax(logits))[0]
    outside = -np.log(p[20:23].sum()) + 0.2 * (p @ YEARS - 22) ** 2 / 2
    assert loss_of(head, logits, (20, 22)).asscalar() == pytest.approx(outside, rel=1e-3)


@pytest.mark.parametrize("name", HEADS)
def test_unknown_ages_contribute_nothing_not_even_a_gradient(name):
    head, logits = head_of(name), nd.random.normal(shape=(3, 101))
    logits.attach_grad()
    unknown = nd.array([[-1], [30], [-1]])
    with autograd.record():
        loss = head.loss(nd, logits, unknown, unknown)
    loss.backward()
    assert loss.asnumpy()[[0, 2]].tolist() == [0, 0] and loss[1].asscalar() > 0
    assert np.abs(logits.grad.asnumpy()[[0, 2]]).max() == 0 < np.abs(logits.grad.asnumpy()[1]).max()


@pytest.mark.parametrize("name", HEADS)
def test_extreme_logits_give_numbers(name):
    head = head_of(name)
    for ages in [((0, 0),), ((100, 120),), ((3, 9), (-1, -1)), ((-1, -1),), ((50, 50), (50, 50))]:
        logits = nd.array(1e4 * np.random.choice([-1.0, 1.0], (len(ages), 101)))
        logits.attach_grad()
        with autograd.record():
            loss = loss_of(head, logits, *ages)
        loss.backward()
        assert np.isfinite(loss.asnumpy()).all() and np.isfinite(logits.grad.asnumpy()).all()


def test_a_class_that_extreme_logits_deny_costs_what_they_say():
    logits = np.full((1, 101), -1e4, np.float32)
    logits[0, 90] = 1e4
    for ages in ((20, 20), (20, 29)):
        assert loss_of(head_of("dex"), logits, ages).asscalar() == pytest.approx(2e4, rel=1e-3)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("ages", [(33, 33), (20, 29), (60, 120)])
def test_gradients_are_those_of_the_loss(name, ages):
    head, logits = head_of(name), nd.random.normal(shape=(1, 101))
    logits.attach_grad()
    with autograd.record():
        loss = loss_of(head, logits, ages)
    loss.backward()
    for _ in range(5):
        step = nd.random.normal(shape=logits.shape)
        step = 0.02 * step / step.norm()
        difference = (loss_of(head, logits + step, ages) - loss_of(head, logits - step, ages)).asscalar() / 2
        assert difference == pytest.approx((logits.grad * step).sum().asscalar(), rel=5e-3, abs=2e-4)


@pytest.mark.parametrize(
    "name,options", [("mean_variance", {"mean": -1}), ("dex", {"sigma": -2}), ("dex", {"l1": "x"})]
)
def test_options_are_checked(name, options):
    with pytest.raises(ValueError, match=f"age_head: {next(iter(options))}=.*: must be a number of at least 0"):
        create_age_head(name, **options)


def test_they_run_on_symbols_as_on_arrays():
    for name in HEADS:
        loss = create_age_head(name).loss(mx.sym, mx.sym.var("logits"), mx.sym.var("low"), mx.sym.var("high"))
        assert loss.infer_shape(logits=(4, 101), low=(4, 1), high=(4, 1))[1] == [(4,)]
