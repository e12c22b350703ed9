"""Backbones of GluonCV's zoo by `gluoncv:NAME`: where they are cut, what they are called, what is refused."""

import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import symbols
from tests.paths import ROOT
from tests.shipping import make_lively, ship

pytest.importorskip("gluoncv", reason="gluoncv is not installed")

# (channels, side) of the features at 64 pixels: by each way in which the zoo writes a classifier down
FEATURES = {
    "mobilenet0.25": (256, 2),  # features and output
    "mobilenetv2_0.5": (1280, 2),  # classified by a convolution
    "squeezenet1.1": (512, 3),  # likewise, and its pooling is for pictures of 224
    "resnet18_v1b": (512, 2),  # no features, but layers
    "alexnet": (256, 3),  # dense layers with ReLUs
    "densenet121": (1024, 2),  # pooled over 7x7, which fits only 224
    "mobilenetv3_small": (1280, 1),  # a convolution behind its own pooling
}


def build(name, size=64, **arguments):
    network = symbols.create(f"gluoncv:{name}", size=size, **arguments)
    network.initialize_for_training(mx.cpu())
    return network


@pytest.mark.parametrize("name", FEATURES)
def test_features_without_the_classifier(name):
    network = build(name)
    channels, side = FEATURES[name]
    assert network.body(nd.zeros((2, 3, 64, 64))).shape == (2, channels, side, side)
    outputs = network(nd.random.uniform(0, 255, (2, 3, 64, 64)))
    assert [value.shape for value in network.decode(nd, outputs)] == [(2, 1), (2, 1)]


def test_features_are_those_of_the_zoo():
    """The same weights in both: what the zoo's classifier makes of our features is what it says of the picture."""
    from gluoncv.model_zoo import get_model

    network, zoo = build("mobilenet0.25"), get_model("mobilenet0.25")
    zoo.initialize()
    data = nd.random.normal(shape=(2, 3, 64, 64))
    wanted = zoo(data)
    network.body(data)
    given = {name[len(zoo.prefix) :]: parameter for name, parameter in zoo.collect_params().items()}
    for name, parameter in network.body.collect_params().items():
        parameter.set_data(given[name.rpartition("mobilenet0_")[2]].data())
    ours = zoo.output(network.body(data).mean(axis=(2, 3)))
    np.testing.assert_allclose(ours.asnumpy(), wanted.asnumpy(), atol=1e-5)


@pytest.mark.parametrize("name,plain,faces", [("resnet18_v1b", 2, 8), ("resnet18_v1", 2, 8), ("resnet50_v1d", 2, 8)])
def test_the_face_stem_keeps_the_resolution(name, plain, faces):
    data = nd.zeros((1, 3, 64, 64))
    assert build(name).body(data).shape[2:] == (plain, plain)
    network = build(name, face_stem=True)
    assert network.body(data).shape[2:] == (faces, faces)
    assert symbols.create(**network.arguments).arguments == network.arguments


def test_arguments_build_the_same_parameters_again_and_in_other_processes():
    """The other process also shows that gluoncv is not imported before a network of the zoo is built."""
    network = build("mobilenetv2_0.5", dropout=0.1)
    assert network.arguments["name"] == "gluoncv:mobilenetv2_0.5"
    names = list(network.collect_params())
    assert list(symbols.create(**network.arguments).collect_params()) == names
    code = (
        "import sys, symbols; symbols.create('mobilenet025'); assert 'gluoncv' not in sys.modules\n"
        "symbols.create('gluoncv:mobilenetv2_0.25')\n"
        "print(*symbols.create('gluoncv:mobilenetv2_0.5').collect_params())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == names
    assert done.stderr == "", "the zoo is quiet"


def test_weights_are_saved_and_read_back(tmp_path):
    data = nd.random.uniform(0, 255, (2, 3, 64, 64))
    one, other = build("mobilenetv2_0.5"), build("mobilenetv2_0.5")
    wanted = [value.asnumpy() for value in one(data)]
    one.save_parameters(str(tmp_path / "weights"))
    other.load_parameters(str(tmp_path / "weights"))
    for value, want in zip(other(data), wanted):
        np.testing.assert_array_equal(value.asnumpy(), want)


def test_hybridized_equals_imperative_and_steps_lower_the_loss():
    network, data = build("mobilenetv2_0.5", dropout=0.1), nd.random.uniform(0, 255, (6, 3, 64, 64))
    plain = [output.asnumpy() for output in network(data)]
    network.hybridize()
    for one, other in zip(plain, network(data)):
        np.testing.assert_allclose(one, other.asnumpy(), atol=1e-5)
    labels = nd.array([[0, 20, 20], [1, 20, 29], [1, 70, 120], [-1, 5, 5], [0, -1, -1], [-1, -1, -1]])
    trainer = gluon.Trainer(network.collect_params(), "adam", {"learning_rate": 1e-3})
    losses = []
    for _ in range(8):
        with autograd.record():
            loss = network.loss(nd, network(data), labels)
        loss.backward()
        trainer.step(6)
        losses.append(loss.sum().asscalar())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    "name,fault",
    [
        ("mobilnetv2_0.5", "GluonCV has no 'mobilnetv2_0.5'; the nearest are mobilenetv2_0.5"),
        ("", "GluonCV has no ''; the nearest are "),
        ("ssd_300_vgg16_atrous_voc", "is not an image classifier"),
        ("resnet18_v1b_kinetics400", "is not an image classifier"),
        ("hrnet_w18_small_v1_s", "has no feature map to pool"),
        ("dla34", "has no feature map to pool"),
        ("nasnet_4_1056", "has no feature map to pool"),
    ],
)
def test_others_are_refused_in_one_line(name, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        build(name)
    assert "\n" not in str(caught.value)


def test_options_are_checked():
    with pytest.raises(ValueError, match="face_stem is for the ResNets"):
        build("vgg11", face_stem=True)
    with pytest.raises(ValueError, match="face_stem=1: must be true or false"):
        build("resnet18_v1b", face_stem=1)
    with pytest.raises(ValueError, match="no feature map"):
        build("inceptionv3", size=32)


def test_a_missing_gluoncv_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "gluoncv.model_zoo.model_zoo", None)
    with pytest.raises(ValueError, match="network gluoncv:mobilenetv2_0.5: gluoncv is not installed"):
        build("mobilenetv2_0.5")


def test_the_error_for_an_unknown_name_names_the_zoo():
    with pytest.raises(ValueError, match="choose one of .*, gluoncv:NAME"):
        symbols.create("mobilnet")
    with pytest.raises(ValueError, match="unknown 'torchvision:resnet18'"):
        symbols.create("torchvision:resnet18")


@pytest.mark.slow  # tests/deploy/test_export_networks.py exports mobilenetv2_0.25
def test_a_network_of_the_zoo_survives_export(tmp_path):
    spread = ship(make_lively(symbols.create("gluoncv:mobilenetv2_0.5", size=48), passes=20), tmp_path)
    assert all(value > 0.01 for value in spread.values()), spread


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv3_small", "resnet18_v1b", "squeezenet1.1", "densenet121", "resnet18_v2"])
def test_more_of_the_zoo_survive_export(name, tmp_path):
    spread = ship(make_lively(symbols.create(f"gluoncv:{name}", size=48)), tmp_path)
    assert all(value > 0.01 for value in spread.values()), spread
