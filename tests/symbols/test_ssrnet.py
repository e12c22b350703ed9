"""SSR-Net: its size, its formula against plain NumPy, its losses, and that it learns whatever the first weights."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import symbols
from symbols.heads.stagewise import NARROWEST, StagewiseHead

NAMES = ("ssrnet", "ssrnet_gender", "ssrnet_multi")
LABELS = [[0, 20, 20], [1, 20, 29], [1, 70, 120], [-1, 5, 5], [0, -1, -1], [-1, -1, -1]]


def build(name="ssrnet", **arguments):
    network = symbols.create(name, **arguments)
    network.initialize_for_training(mx.cpu())
    return network


def faces(count=len(LABELS), size=64):
    return nd.random.uniform(0, 255, (count, 3, size, size))


@pytest.mark.parametrize("name, trainable", [("ssrnet", 40531), ("ssrnet_gender", 40531), ("ssrnet_multi", 43130)])
def test_number_of_parameters(name, trainable):
    network = build(name)
    network(faces(1))
    given = network._collect_params_with_prefix()
    assert sum(value.data().size for value in given.values() if value.grad_req != "null") == trainable
    assert sum(value.data().size for key, value in given.items() if "running" in key) == 384


@pytest.mark.parametrize("size", [38, 45, 100])
def test_other_sizes(size):
    network = build("ssrnet_multi", size=size)
    assert [score.shape for score in network(faces(2, size))] == [(2, 1), (2, 1)]


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"size": 37}, "size=37: must be a whole number of at least 38 pixels"),
        ({"size": 64.0}, "size=64.0"),
        ({"scaled": 1}, "scaled=1: must be true or false"),
        ({"first_relu": "no"}, "first_relu=no: must be true or false"),
        ({"dropout": 1}, "dropout=1: must be from 0 to below 1"),
        ({"lambda_d": 2}, "lambda_d=2: must be a number of 0 to 1"),
        ({"lambda_local": True}, "lambda_local=True: must be a number of 0 to 1"),
    ],
)
def test_bad_arguments_are_named(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        symbols.create("ssrnet", **arguments)


def test_a_bad_weight_of_gender_is_named():
    with pytest.raises(ValueError, match="gender_weight=much"):
        symbols.create("ssrnet_multi", gender_weight="much")


def test_answers_and_ranges():
    for name, answers in (("ssrnet", ["age"]), ("ssrnet_gender", ["p_male"]), ("ssrnet_multi", ["age", "p_male"])):
        network = build(name)
        assert [score.shape for score in network(faces())] == [(6, 1)] * len(answers)
        scores = nd.array([[-9.0], [0.0], [0.5], [1.0], [9.0]])
        said = dict(zip(network.answers, network.decode(nd, [scores] * len(answers))))
        assert list(said) == answers
        for answer, value in said.items():
            assert value.asnumpy().ravel().tolist() == (
                [0, 0, 50.5, 100, 100] if answer == "age" else [0, 0, 0.5, 1, 1]
            )


def test_scaling_is_inside_of_the_graph_unless_raw():
    data = faces(2)
    scaled, raw = build(), build(scaled=False)
    scaled(data), raw(data)
    for (_, one), (_, other) in zip(*(net._collect_params_with_prefix().items() for net in (scaled, raw))):
        other.set_data(one.data())
    np.testing.assert_allclose(scaled(data)[0].asnumpy(), raw((data - 127.5) / 128)[0].asnumpy(), atol=1e-6)


@pytest.mark.parametrize("lambdas", [(1.0, 1.0), (0.25, 0.5)])
def test_the_stagewise_sum_is_that_of_the_paper(lambdas):
    head = StagewiseHead(start=0.3, lambda_local=lambdas[0], lambda_d=lambdas[1])
    head.initialize(mx.init.Normal(0.4))
    maps = [np.random.normal(size=(5, 20)).astype(np.float32) for _ in range(6)]
    head(*map(nd.array, maps))
    for value in head.collect_params().values():
        if value.grad_req != "null":
            value.set_data(nd.random.normal(0, 0.4, value.shape))
    weights = {key: value.data().asnumpy() for key, value in head._collect_params_with_prefix().items()}

    def dense(layer, array):
        return array @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]

    score, worth = 0, np.ones((5, 1))
    for stage in range(3):
        s, x = maps[2 * stage : 2 * stage + 2]
        at = f"stages.{stage}"
        mixed = np.maximum(dense(f"{at}.gate_s", s), 0) * np.maximum(dense(f"{at}.gate_x", x), 0)
        mixed = np.maximum(dense(f"{at}.mix", mixed), 0)
        p, eta = np.maximum(dense(f"{at}.p", mixed), 0), np.tanh(dense(f"{at}.eta", mixed))
        worth = worth / (3 * np.maximum(1 + lambdas[1] * np.tanh(dense(f"{at}.delta", s * x)), NARROWEST))
        score = score + worth * ((np.arange(3) + lambdas[0] * eta) * p).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head(*map(nd.array, maps)).asnumpy(), score, rtol=1e-4, atol=1e-5)


def test_a_stage_that_would_divide_by_nothing_gives_numbers():
    network = build()
    network(faces(1))
    for stage in network.age.stages:
        stage.delta.bias.set_data(nd.array([-1e4]))
    with autograd.record():
        outputs = network(faces())
        loss = network.loss(nd, outputs, nd.array(LABELS))
    loss.backward()
    assert np.isfinite(loss.asnumpy()).all()
    gradients = [value.grad().asnumpy() for value in network.collect_params().values() if value.grad_req != "null"]
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_losses_are_distances():
    network = symbols.create("ssrnet_multi", gender_weight=10.0)
    scores = nd.array([[0.5]] * 6), nd.array([[0.3]] * 6)
    age = np.array([50.5 - 20, 50.5 - 29, 70 - 50.5, 50.5 - 5, 0, 0])
    gender = np.array([0.3, 0.7, 0.7, 0, 0.3, 0])
    np.testing.assert_allclose(network.loss(nd, scores, nd.array(LABELS)).asnumpy(), age + 10 * gender, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.0, 1e4, -1e4])
def test_gradients_of_the_loss_are_finite_right_and_nothing_where_unknown(name, scale):
    network = symbols.create(name)
    outputs = [scale + nd.random.uniform(0.1, 0.9, (6, 1)) for _ in network.answers]
    for score in outputs:
        score.attach_grad()
    with autograd.record():
        loss = network.loss(nd, outputs, nd.array(LABELS))
    loss.backward()
    assert loss.shape == (6,) and np.isfinite(loss.asnumpy()).all() and loss[5].asscalar() == 0
    for answer, score in zip(network.answers, outputs):
        unknown = [4, 5] if answer == "age" else [3, 5]
        assert np.isfinite(score.grad.asnumpy()).all() and not score.grad.asnumpy()[unknown].any()
        if not scale:
            step = 1e-3
            moved = [other + step * (other is score) for other in outputs]
            difference = (network.loss(nd, moved, nd.array(LABELS)) - loss).asnumpy() / step
            np.testing.assert_allclose(difference, score.grad.asnumpy().ravel(), atol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_whatever_the_first_weights(name):
    for seed in range(3):
        mx.random.seed(seed)
        network, data, labels = build(name), faces(), nd.array(LABELS)
        network.hybridize()
        trainer = gluon.Trainer(network.collect_params(), "adam", {"learning_rate": 1e-3})
        losses = []
        for step in range(8):
            with autograd.record():
                loss = network.loss(nd, network(data), labels)
            loss.backward()
            if step == 0:
                biases = {key: value for key, value in network._collect_params_with_prefix().items() if "p.bias" in key}
                assert all(bias.grad().asnumpy().all() for bias in biases.values()), "a dead bin"
            trainer.step(len(LABELS))
            losses.append(loss.sum().asscalar())
        assert losses[-1] < 0.8 * losses[0], seed
