"""Every registered network, with every age head: shapes, decoding, a step that lowers the loss, the slim form."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import symbols
from symbols.heads import AGE_HEADS

LABELS = [[0, 20, 20], [1, 20, 29], [1, 70, 120], [-1, 5, 5], [0, -1, -1], [-1, -1, -1]]


def build(name="mobilenet025", **arguments):
    network = symbols.create(name, size=32, **arguments)
    network.initialize_for_training(mx.cpu())
    return network


def faces(count=len(LABELS)):
    return nd.random.uniform(0, 255, (count, 3, 32, 32))


def test_an_unknown_name_is_answered_with_the_choices():
    with pytest.raises(ValueError, match="unknown 'mobilnet'; choose one of .*mobilenet025"):
        symbols.create("mobilnet")
    with pytest.raises(ValueError, match="unknown 'votes'; choose one of distribution"):
        symbols.create("mobilenet025", age_head="votes")


@pytest.mark.parametrize("name", symbols.names())
def test_arguments_build_the_same_network_again(name):
    network = build(name, dropout=0.1)
    network(faces(1))
    again = symbols.create(**network.arguments)
    again.initialize_for_training(mx.cpu())
    again(faces(1))
    shapes = [{key: value.shape for key, value in net.collect_params().items()} for net in (network, again)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", symbols.names())
@pytest.mark.parametrize("head", AGE_HEADS)
def test_outputs_and_what_they_decode_to(name, head):
    network = build(name, age_head=head)
    outputs = network(faces())
    age, p_male = network.decode(nd, outputs)
    assert age.shape == p_male.shape == (6, 1)
    assert ((age >= 0) * (age <= 100)).asnumpy().all() and ((p_male >= 0) * (p_male <= 1)).asnumpy().all()
    distribution = network.distribution(nd, outputs)
    if distribution is not None:
        assert distribution.shape == (6, 101)
        np.testing.assert_allclose(distribution.sum(axis=1).asnumpy(), 1, atol=1e-5)


@pytest.mark.parametrize("head", AGE_HEADS)
def test_hybridized_equals_imperative_and_fused_equals_plain(head):
    network, data = build(age_head=head), faces()
    with autograd.train_mode():
        plain = [output.asnumpy() for output in network(data)]
        network.hybridize()
        hybrid = [output.asnumpy() for output in network(data)]
        network.fuse()
        network.hybridize()
        fused = [output.asnumpy() for output in network(data)]
    for one, two, three in zip(plain, hybrid, fused):
        np.testing.assert_allclose(one, two, atol=1e-5)
        np.testing.assert_allclose(one, three, atol=1e-4)


@pytest.mark.parametrize("name", symbols.names())
@pytest.mark.parametrize("head", AGE_HEADS)
def test_a_few_steps_lower_the_loss(name, head):
    network, data, labels = build(name, age_head=head), faces(), nd.array(LABELS)
    trainer = gluon.Trainer(network.collect_params(), "adam", {"learning_rate": 1e-3})
    losses = []
    for _ in range(8):
        with autograd.record():
            loss = network.loss(nd, network(data), labels)
        loss.backward()
        trainer.step(len(LABELS))
        losses.append(loss.sum().asscalar())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("head", AGE_HEADS)
def test_slim_says_what_decoding_outside_of_the_graph_says(head, tmp_path):
    network, data = build(age_head=head, dropout=0.3), faces()
    expected = [value.asnumpy() for value in network.decode(nd, network(data))]
    slim = network.slim()
    slim(data)
    slim.export(str(tmp_path / "slim"))
    symbol, args, aux = mx.model.load_checkpoint(str(tmp_path / "slim"), 0)
    assert symbol.list_outputs() == ["age_output", "p_male_output"]
    executor = symbol.bind(mx.cpu(), {**args, "data": data}, aux_states=aux, grad_req="null")
    for value, wanted in zip(executor.forward(is_train=False), expected):
        np.testing.assert_allclose(value.asnumpy(), wanted, atol=1e-4)


def test_the_smallest_network_is_a_megabyte():
    network = symbols.create("mobilenet025")
    network.initialize_for_training(mx.cpu())
    network(nd.zeros((1, 3, 112, 112)))
    count = sum(int(np.prod(parameter.shape)) for parameter in network.collect_params().values())
    assert 4 * count < 1.2e6


def test_stem_stride_sets_the_resolution():
    for stride, side in ((1, 2), (2, 1)):
        network = build(stem_stride=stride)
        assert network.body(faces(1)).shape == (1, 256, side, side)
