"""AEC and its cascade: the published count, the age of its digits, every term of its loss against plain NumPy."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import symbols
from symbols.heads import create_age_head

AGES = [(20, 20), (20, 29), (70, 120), (5, 5), (-1, -1), (61, 61), (33, 33)]
TERMS = {"mae": 3.0, "coarse": 8.5, "fine": 12.0, "ratio": 18.0}


def build(**arguments):
    network = symbols.create("aec", **arguments)
    network.initialize_for_training(mx.cpu())
    network(nd.zeros((1, 3, network.size, network.size)))
    return network


def head_of(**options):
    head = create_age_head("cascade", **options)
    head.initialize()
    return head


def count(network):
    parameters = network.collect_params().values()
    return sum(int(np.prod(each.shape)) for each in parameters if not isinstance(each, gluon.Constant))


def loss_of(head, logits, ages):
    low, high = (nd.array([[pair[side]] for pair in ages]) for side in (0, 1))
    return head.loss(nd, logits, low, high)


def logits_for(*digits):
    """Logits that are sure of the digits (twenties, fours, years) of each age."""
    logits = np.full((len(digits), 14), -50, np.float32)
    for row, (twenties, fours, years) in enumerate(digits):
        logits[row, [twenties, 5 + fours, 10 + years]] = 50
    return nd.array(logits)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("blocks", [[2, 2, 2, 2], [3, 1, 2, 2]])
def test_the_published_count_of_parameters_statistics_included(blocks):
    assert count(build(blocks=blocks)) == 20014
    assert build(blocks=blocks)(nd.zeros((2, 3, 64, 64)))[0].shape == (2, 14)


def test_a_gender_head_comes_where_it_is_asked_for():
    network = build(gender=True)
    assert list(network.answers) == ["age", "p_male"] and list(build().answers) == ["age"]
    assert count(network) == 20014 + 2 * 161
    labels = nd.array([[1, 30, 30], [-1, 30, 30], [0, -1, -1]])
    losses = network.loss(nd, network(nd.random.uniform(0, 255, (3, 3, 64, 64))), labels).asnumpy()
    assert losses.shape == (3,) and (losses > 0).all()


def test_the_first_convolution_starts_as_one_that_sharpens():
    sharpen = build().body[0]
    image = nd.random.uniform(0, 255, (1, 3, 8, 8))
    flat = sharpen(nd.ones((1, 3, 8, 8)) * 100)[:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(flat.asnumpy(), 100, rtol=1e-5)
    around = image[:, :, 2:5, 2:5].sum(axis=(2, 3)) - 8 * image[:, :, 3, 3]
    np.testing.assert_allclose(sharpen(image)[:, :, 3, 3].asnumpy(), around.asnumpy(), rtol=1e-4)


def test_the_age_is_the_sum_of_its_digits():
    logits = logits_for((0, 0, 0), (1, 0, 3), (2, 3, 1), (4, 4, 3))
    plain, leading = head_of(leading=False), head_of()
    np.testing.assert_allclose(plain.decode(nd, logits).asnumpy().ravel(), [0, 23, 53, 99], atol=1e-4)
    # The source adds every stage's first probability once more.
    np.testing.assert_allclose(leading.decode(nd, logits).asnumpy().ravel(), [3, 24, 53, 99], atol=1e-4)


def test_loss_term_by_term_against_numpy():
    logits = 2 * np.random.normal(size=(len(AGES), 14)).astype(np.float32)
    p = [softmax(logits[:, begin:end]) for begin, end in ((0, 5), (5, 10), (10, 14))]
    coarse = 20 * p[0] @ np.arange(5) + p[0][:, 0] + 4 * p[1] @ np.arange(5) + p[1][:, 0]
    age = coarse + p[2] @ np.arange(4) + p[2][:, 0]
    low, high = np.clip(np.array(AGES, float).T, 0, 100)
    known, exact = np.array(AGES)[:, 0] >= 0, np.array([a == b and a >= 0 for a, b in AGES])
    off = known * (np.maximum(low - age, 0) + np.maximum(age - high, 0))
    coarse_off = known * (np.maximum(low // 4 * 4 - coarse, 0) + np.maximum(coarse - high // 4 * 4, 0))
    spread = ((low[exact] - low[exact].mean()) ** 2).sum()
    expected = {
        "mae": 3 * off,
        "coarse": 8.5 * coarse_off,
        "fine": 12 * off,
        "ratio": 18 * exact * ((age - low)[exact] ** 2).sum() / spread,
    }
    for term, values in expected.items():
        others = {name: 0 for name in TERMS if name != term}
        np.testing.assert_allclose(loss_of(head_of(**others), nd.array(logits), AGES).asnumpy(), values, rtol=1e-4)
    np.testing.assert_allclose(loss_of(head_of(), nd.array(logits), AGES).asnumpy(), sum(expected.values()), rtol=1e-4)


def test_free_years_cost_nothing():
    head = head_of(mae=0, ratio=0, coarse_free=5, fine_free=6, leading=False)
    logits = logits_for((1, 1, 2), (1, 1, 2))  # 26 years, 24 by the coarse stages
    losses = loss_of(head, logits, [(31, 31), (34, 34)]).asnumpy()
    np.testing.assert_allclose(losses, [0, 8.5 * (8 - 5) + 12 * (8 - 6)], atol=1e-3)


@pytest.mark.parametrize("ages", [[(30, 30)], [(30, 30)] * 3, [(-1, -1)] * 2, [(20, 29), (-1, -1)], [(100, 120)] * 2])
def test_there_is_no_ratio_where_labels_do_not_differ(ages):
    head, logits = head_of(mae=0, coarse=0, fine=0), nd.random.normal(shape=(len(ages), 14))
    logits.attach_grad()
    with autograd.record():
        loss = loss_of(head, logits, ages)
    loss.backward()
    assert loss.asnumpy().tolist() == [0] * len(ages) and not logits.grad.asnumpy().any()


@pytest.mark.parametrize("scale", [1, 1e4])
def test_a_batch_of_everything_has_a_finite_loss_and_gradient_and_asks_nothing_of_unknown_ages(scale):
    head, logits = head_of(), nd.random.normal(shape=(len(AGES), 14)) * scale
    logits.attach_grad()
    with autograd.record():
        loss = loss_of(head, logits, AGES)
    loss.backward()
    assert np.isfinite(loss.asnumpy()).all() and np.isfinite(logits.grad.asnumpy()).all()
    assert loss[4].asscalar() == 0 and not logits.grad[4].asnumpy().any()


def test_gradients_over_a_batch_are_those_of_the_loss():
    head, logits = head_of(), nd.random.normal(shape=(len(AGES), 14))
    logits.attach_grad()
    with autograd.record():
        loss = loss_of(head, logits, AGES).sum()
    loss.backward()
    for _ in range(5):
        step = nd.random.normal(shape=logits.shape)
        step = 0.02 * step / step.norm()
        values = [loss_of(head, logits + sign * step, AGES).astype("float64").sum().asscalar() for sign in (1, -1)]
        assert (values[0] - values[1]) / 2 == pytest.approx((logits.grad * step).sum().asscalar(), rel=0.01, abs=5e-3)


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"blocks": []}, "blocks="),
        ({"blocks": "2222"}, "blocks="),
        ({"blocks": [2, 0]}, "blocks="),
        ({"dropout": 1}, "dropout=1"),
        ({"gender": "yes"}, "gender=yes"),
        ({"gender_weight": -1}, "gender_weight=-1"),
        ({"age_head": {"name": "cascade", "mae": -1}}, "mae=-1"),
        ({"age_head": {"name": "cascade", "leading": 1}}, "leading=1"),
        ({"size": 8}, "size=8"),
    ],
)
def test_wrong_arguments_are_named(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        symbols.create("aec", **arguments)
