"""Every registered network: shapes, decoding, a step that lowers the loss, the slim form. Every age head on one."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import symbols
from symbols.heads import AGE_HEADS
from tests.network_forms import FORMS, MARKED, build

LABELS = [[0, 20, 20], [1, 20, 29], [1, 70, 120], [-1, 5, 5], [0, -1, -1], [-1, -1, -1]]
SMALL = "mobilenet025"


def faces(network, count=len(LABELS)):
    return nd.random.uniform(0, 255, (count, 3, network.size, network.size))


def outputs_of(network, data):
    return [output.asnumpy() for output in network(data)]


def test_all_networks_of_the_field_are_there():
    assert set(symbols.names()) >= {
        *("mobilenet025", "mobilenet050", "mobilenet100", "resnet18", "resnet34", "resnet50"),
        *("ssrnet", "ssrnet_gender", "ssrnet_multi", "aec", "c3ae", "agmixer", "agmixer_mobile"),
        *("efficientnetv2_s", "efficientnetv2_b0"),
    }


def test_an_unknown_name_is_answered_with_the_choices():
    with pytest.raises(ValueError, match="unknown 'mobilnet'; choose one of .*mobilenet025.*gluoncv:NAME"):
        symbols.create("mobilnet")
    with pytest.raises(ValueError, match="unknown 'votes'; choose one of distribution"):
        symbols.create("mobilenet025", age_head="votes")


@pytest.mark.parametrize("name", symbols.names())
@pytest.mark.parametrize("size", [0, 15, "big", 64.5, True, None])
def test_a_wrong_size_is_refused_with_a_reason(name, size):
    with pytest.raises(ValueError, match=f"size={size}: "):
        symbols.create(name, size=size)


@pytest.mark.parametrize("form", FORMS)
def test_arguments_build_the_same_network_again(form):
    network = build(form)
    again = symbols.create(**network.arguments)
    again.initialize_for_training(mx.cpu())
    again(faces(network, 1))
    shapes = [{key: value.shape for key, value in net.collect_params().items()} for net in (network, again)]
    assert shapes[0] == shapes[1] and again.arguments == network.arguments


@pytest.mark.parametrize("form", FORMS)
def test_outputs_and_what_they_decode_to(form):
    network = build(form)
    outputs = network(faces(network))
    check_answers(network, outputs)


@pytest.mark.parametrize("head", AGE_HEADS)
def test_every_age_head_answers(head):
    network = build(SMALL, age_head=head)
    check_answers(network, network(faces(network)))


def check_answers(network, outputs):
    said = dict(zip(network.answers, network.decode(nd, outputs)))
    assert list(said) == list(network.answers) and {"age", "p_male"} & set(said)
    for name, value in said.items():
        assert value.shape == ((6, 6) if name == "age_group" else (6, 1))
        assert ((value >= 0) * (value <= (120 if name == "age" else 1))).asnumpy().all(), name
    distribution = network.distribution(nd, outputs)
    if distribution is not None:
        assert distribution.shape == (6, 101)
        np.testing.assert_allclose(distribution.sum(axis=1).asnumpy(), 1, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_hybridized_equals_imperative_and_fused_equals_plain(form):
    network = build(form)
    data = faces(network)

    def run():  # the same chances for dropout and stochastic depth
        mx.random.seed(3)
        with autograd.predict_mode():
            return outputs_of(network, data)

    plain = run()
    network.hybridize()
    hybrid = run()
    network.hybridize(False)
    network.fuse()
    network.hybridize()
    for one, two, three in zip(plain, hybrid, run()):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", MARKED)
def test_a_few_steps_lower_the_loss(form):
    check_learning(build(form))


@pytest.mark.parametrize("head", AGE_HEADS)
def test_a_few_steps_lower_the_loss_of_every_age_head(head):
    check_learning(build(SMALL, age_head=head))


def check_learning(network):
    data, labels = faces(network), nd.array(LABELS)
    network.hybridize(static_alloc=True)
    # Adam; weights that were not begun small want smaller steps
    trainer = gluon.Trainer(network.collect_params(), "adam", {"learning_rate": 1e-3})
    losses = []
    for _ in range(10):
        with autograd.record():
            loss = network.loss(nd, network(data), labels)
        assert loss.shape == (len(LABELS),) and np.isfinite(loss.asnumpy()).all()
        loss.backward()
        trainer.step(len(LABELS))
        losses.append(loss.sum().asscalar())
    assert min(losses[-3:]) < 0.97 * losses[0], losses


@pytest.mark.parametrize("form", FORMS)
def test_unknown_labels_ask_for_nothing(form):
    network = build(form)
    data = faces(network, 2)
    for labels in ([[-1, -1, -1]] * 2, [[-1, -1, -1], [1, 30, 30]]):
        with autograd.record():
            loss = network.loss(nd, network(data), nd.array(labels))
        loss.backward()
        grads = [p.grad().asnumpy() for p in network.collect_params().values() if p.grad_req != "null"]
        assert np.isfinite(loss.asnumpy()).all() and all(np.isfinite(grad).all() for grad in grads)
        if labels[1][0] < 0:
            assert not loss.asnumpy().any() and not any(grad.any() for grad in grads)
        else:
            assert any(grad.any() for grad in grads)


@pytest.mark.parametrize("form", FORMS)
def test_slim_says_what_decoding_outside_of_the_graph_says(form, tmp_path):
    network = build(form)
    data = faces(network)
    expected = [value.asnumpy() for value in network.decode(nd, network(data))]
    slim = network.slim()
    slim(data)
    slim.export(str(tmp_path / "slim"))
    symbol, args, aux = mx.model.load_checkpoint(str(tmp_path / "slim"), 0)
    assert symbol.list_outputs() == [f"{name}_output" for name in network.answers]
    executor = symbol.bind(mx.cpu(), {**args, "data": data}, aux_states=aux, grad_req="null")
    for value, wanted in zip(executor.forward(is_train=False), expected):
        np.testing.assert_allclose(value.asnumpy(), wanted, atol=1e-4)


def test_the_smallest_network_is_a_megabyte():
    network = build(SMALL, size=112)
    count = sum(int(np.prod(parameter.shape)) for parameter in network.collect_params().values())
    assert 4 * count < 1.2e6


def test_stem_stride_sets_the_resolution():
    for stride, side in ((1, 2), (2, 1)):
        network = build(SMALL, stem_stride=stride)
        assert network.body(faces(network, 1)).shape == (1, 256, side, side)
