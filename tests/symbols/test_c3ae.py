"""C3AE and its two points: the published count, the boxes of the full form, labels and losses against plain NumPy."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import symbols
from symbols.c3ae import cut_boxes
from symbols.heads import create_age_head
from symbols.heads.two_point import two_points

BINS = np.arange(12) * 10.0


def build(**arguments):
    network = symbols.create("c3ae", **arguments)
    network.initialize_for_training(mx.cpu())
    network(nd.zeros((1, 3, network.size, network.size)))
    return network


def head_of(**options):
    head = create_age_head("two_point", **options)
    head.initialize()
    return head


def count(network):
    parameters = network.collect_params().values()
    return sum(int(np.prod(each.shape)) for each in parameters if not isinstance(each, gluon.Constant))


def loss_of(head, logits, *ages):
    low, high = (nd.array([[pair[side]] for pair in ages]) for side in (0, 1))
    return head.loss(nd, logits, low, high)


def log_softmax(z):
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def test_the_published_count_of_parameters_statistics_included():
    assert count(build()) == 36345


def test_the_full_form_shares_its_body():
    full = build(full=True)
    assert full.size == 128 and count(full) == 36345 + 2 * 512 * 12
    assert full(nd.zeros((2, 3, 128, 128)))[0].shape == (2, 13)
    assert full.arguments["full"] is True and symbols.create(**full.arguments).full


def test_the_boxes_are_averages_over_areas():
    images = np.random.uniform(-1, 1, (2, 3, 96, 96)).astype(np.float32)
    outer, middle, inner = (box.asnumpy() for box in cut_boxes(nd, nd.array(images), 96))
    np.testing.assert_allclose(outer, images.reshape(2, 3, 48, 2, 48, 2).mean(axis=(3, 5)), atol=1e-6)
    np.testing.assert_array_equal(inner, images[:, :, 24:72, 24:72])
    thirds = np.zeros((48, 72))  # each pixel takes one and a half of the larger picture
    thirds[np.arange(0, 48, 2), np.arange(0, 72, 3)] = thirds[np.arange(1, 48, 2), np.arange(2, 72, 3)] = 2 / 3
    thirds[np.arange(48), np.arange(48) // 2 * 3 + 1] = 1 / 3
    np.testing.assert_allclose(middle, thirds @ images[:, :, 12:84, 12:84] @ thirds.T, atol=1e-5)


def test_the_full_form_sees_what_the_plain_one_does_not():
    """The plain form at 64 pixels, given the inner box, has the features that the full one has of it."""
    full, plain = build(full=True), build()
    image = nd.random.uniform(0, 255, (1, 3, 128, 128))
    for name, value in plain.body.collect_params().items():
        value.set_data(full.body.collect_params()[name].data())
    features = full.extract_features(nd, image)
    assert features.shape == (1, 1536)
    np.testing.assert_allclose(
        features[:, 1024:].asnumpy(), plain.extract_features(nd, image[:, :, 32:96, 32:96]).asnumpy()
    )


def test_two_points_of_an_age():
    label = two_points(nd, nd.array([BINS]), nd.array([[32], [40], [0], [100], [99.5]])).asnumpy()
    np.testing.assert_allclose(label.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(label @ BINS, [32, 40, 0, 100, 99.5], rtol=1e-5)
    np.testing.assert_allclose(label[0, 3:5], [0.8, 0.2], rtol=1e-5)
    assert (label > 0).sum(axis=1).tolist() == [2, 1, 1, 1, 2]


def test_loss_of_an_exact_age():
    logits = np.random.normal(size=(1, 13)).astype(np.float32)
    logits[0, 12] = 30
    log_p, label = log_softmax(logits[:, :12])[0], np.maximum(1 - abs(BINS / 10 - 3.7), 0)
    kl = sum(share * (np.log(share) - log_p[index]) for index, share in enumerate(label) if share > 0)
    loss = loss_of(head_of(kl=10, l1=2), nd.array(logits), (37, 37)).asscalar()
    assert loss == pytest.approx(10 * kl + 2 * 7, rel=1e-4)


def test_the_loss_of_a_perfect_answer_is_nothing():
    logits = np.full((1, 13), -60, np.float32)
    logits[0, [3, 4, 12]] = np.log(0.8), np.log(0.2), 32
    assert loss_of(head_of(), nd.array(logits), (32, 32)).asscalar() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("ages, bins", [((20, 29), [2, 3]), ((21, 40), [2, 3, 4]), ((70, 120), [7, 8, 9, 10])])
def test_loss_of_an_interval_is_the_mass_of_the_bins_that_it_touches(ages, bins):
    logits = np.random.normal(size=(1, 13)).astype(np.float32)
    logits[0, 12] = 10
    mass = np.exp(log_softmax(logits[:, :12]))[0, bins].sum()
    loss = loss_of(head_of(kl=10, l1=1), nd.array(logits), ages).asscalar()
    assert loss == pytest.approx(-10 * np.log(mass) + ages[0] - 10, rel=1e-4)


def test_an_interval_asks_for_no_age_inside_of_it():
    for age in (20, 24, 29):
        share = np.maximum(1 - abs(BINS / 10 - age / 10), 1e-9)
        logits = nd.array([[*np.log(share), age]])
        assert loss_of(head_of(), logits, (20, 29)).asscalar() == pytest.approx(0, abs=1e-4)


def test_the_age_starts_at_the_expectation_of_the_bins_and_decodes_to_0_to_100():
    head = head_of()
    logits = head(nd.random.normal(shape=(4, 8)))
    p = np.exp(log_softmax(logits[:, :12].asnumpy()))
    np.testing.assert_allclose(logits[:, 12].asnumpy(), p @ BINS, rtol=1e-4)
    far = nd.array([[0] * 12 + [age] for age in (-30, 130)])
    assert head.decode(nd, far).asnumpy().ravel().tolist() == [0, 100]


def test_an_age_out_of_range_keeps_its_gradient():
    head, logits = head_of(kl=0), nd.array([[0] * 12 + [age] for age in (-30, 130)])
    logits.attach_grad()
    with autograd.record():
        loss = loss_of(head, logits, (30, 30), (116, 116))
    loss.backward()
    assert loss.asnumpy().tolist() == [60, 30] and logits.grad[:, 12].asnumpy().tolist() == [-1, 1]


@pytest.mark.parametrize("scale", [0, 1, 1e4])
@pytest.mark.parametrize("ages", [[(0, 0)], [(116, 116), (-1, -1)], [(20, 29), (20, 29)], [(-1, -1)], [(0, 120)]])
def test_loss_and_gradient_are_numbers(scale, ages):
    head, logits = head_of(), nd.array(scale * np.random.choice([-1.0, 1.0], (len(ages), 13)))
    logits.attach_grad()
    with autograd.record():
        loss = loss_of(head, logits, *ages)
    loss.backward()
    assert np.isfinite(loss.asnumpy()).all() and np.isfinite(logits.grad.asnumpy()).all()
    for row, (age, _) in enumerate(ages):
        assert age >= 0 or (loss[row].asscalar() == 0 and not logits.grad[row].asnumpy().any())


@pytest.mark.parametrize("ages", [(33, 33), (20, 29), (70, 120), (0, 0)])
def test_gradients_are_those_of_the_loss(ages):
    head, logits = head_of(), nd.random.normal(shape=(1, 13))
    logits.attach_grad()
    with autograd.record():
        loss = loss_of(head, logits, ages)
    loss.backward()
    for _ in range(5):
        step = nd.random.normal(shape=logits.shape)
        step = 0.02 * step / step.norm()
        difference = (loss_of(head, logits + step, ages) - loss_of(head, logits - step, ages)).asscalar() / 2
        assert difference == pytest.approx((logits.grad * step).sum().asscalar(), abs=1e-3)


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"full": "yes"}, "full=yes"),
        ({"full": True, "size": 100}, "size=100: must be a multiple of 8"),
        ({"full": True, "size": 64}, "size=64"),
        ({"size": 32}, "size=32"),
        ({"age_head": {"name": "two_point", "kl": -1}}, "kl=-1"),
    ],
)
def test_wrong_arguments_are_named(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        symbols.create("c3ae", **arguments)
