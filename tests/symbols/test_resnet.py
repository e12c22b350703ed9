"""Residual networks with the stem for faces: sizes, resolution, the forms that are shipped."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import nd

import symbols
from tests.shipping import make_lively, ship

# Parameters of ImageNet's networks without classifier and with the 7x7 stem and its BatchNorm, less what the stem of
# faces saves: 9,408 + 128 numbers become 1,728. Gluon's ResNet-50 has biases in its 1x1 convolutions besides.
FEWER = 9_408 + 128 - 1_728
BIASES = 3 * (64 + 256) + 4 * (128 + 512) + 6 * (256 + 1024) + 3 * (512 + 2048)
COUNTS = {
    "resnet18": (11_176_512 - FEWER, 512),
    "resnet34": (21_284_672 - FEWER, 512),
    "resnet50": (23_508_032 - FEWER + BIASES, 2048),
}


def build(name, size=32, **arguments):
    network = symbols.create(name, size=size, **arguments)
    network.initialize_for_training(mx.cpu())
    return network


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_resolution(name):
    network = build(name)
    count, channels = COUNTS[name]
    assert network.body(nd.zeros((1, 3, 32, 32))).shape == (1, channels, 4, 4), "an eighth of the side"
    assert count == sum(int(np.prod(p.shape)) for p in network.body.collect_params().values() if p.grad_req != "null")


def test_at_112_pixels_in_the_form_of_the_earlier_trainer():
    network = symbols.create("resnet18", age_head="ordinal_pairs", norm_logits=True)
    network.initialize_for_training(mx.cpu())
    age, gender = network(nd.random.uniform(0, 255, (1, 3, 112, 112)))
    assert (age.shape, gender.shape) == ((1, 200), (1, 2))


def test_names_are_the_same_in_every_network_of_that_name():
    one, other = build("resnet18"), build("resnet18")
    assert list(one.collect_params()) == list(other.collect_params())


def test_hybridized_equals_imperative():
    network, data = build("resnet18"), nd.random.uniform(0, 255, (2, 3, 32, 32))
    plain = [output.asnumpy() for output in network(data)]
    network.hybridize()
    for one, other in zip(plain, network(data)):
        np.testing.assert_allclose(one, other.asnumpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_they_survive_export(name, tmp_path):
    spread = ship(make_lively(build(name, size=32), passes=25), tmp_path)
    assert all(value > 0.01 for value in spread.values()), spread
