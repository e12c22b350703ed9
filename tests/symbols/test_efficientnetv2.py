"""EfficientNetV2: parameters of the published networks, stochastic depth, the forms that are shipped."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

import symbols
from symbols.efficientnetv2 import Block
from tests.shipping import make_lively, ship

PUBLISHED = {
    # torchvision's efficientnet_v2_s().features; Keras' EfficientNetV2B0(include_top=False) counts statistics too
    "efficientnetv2_s": (20_177_488, False),
    "efficientnetv2_b0": (5_919_312, True),
}


def build(name="efficientnetv2_b0", size=32, **arguments):
    network = symbols.create(name, size=size, **arguments)
    network.initialize_for_training(mx.cpu())
    return network


def faces(count, size=32):
    return nd.random.uniform(0, 255, (count, 3, size, size))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_body_has_as_many_parameters_as_the_published_network(name):
    network = build(name)
    network(faces(1))
    wanted, with_statistics = PUBLISHED[name]
    parameters = network.body.collect_params().values()
    assert wanted == sum(int(np.prod(p.shape)) for p in parameters if with_statistics or p.grad_req != "null")


def test_it_answers_age_groups_at_its_own_size():
    network = symbols.create("efficientnetv2_b0")
    network.initialize_for_training(mx.cpu())
    assert network.arguments["size"] == 128 and network.arguments["age_head"] == "groups"
    assert network.body(faces(1, 128)).shape == (1, 1280, 4, 4)
    age, groups, p_male = network.decode(nd, network(faces(2, 128)))
    assert (age.shape, groups.shape, p_male.shape) == ((2, 1), (2, 6), (2, 1))
    assert list(network.answers) == ["age", "age_group", "p_male"]


def test_the_published_head_can_be_had():
    network = build(dropout=0.3, age_head={"name": "groups", "hidden": 256, "dropout": 0.3})
    network(faces(1))
    shapes = {name: p.shape for name, p in network._collect_params_with_prefix("").items() if name.startswith("age.")}
    assert shapes["age.hidden.0.weight"] == (256, 1280) and shapes["age.dense.weight"] == (6, 256)
    assert symbols.create(**network.arguments).arguments == network.arguments


def block(drop):
    made = Block(8, 8, 4, 1, False, drop)
    made.initialize(mx.init.Xavier())
    return made


@pytest.mark.parametrize("hybrid", [False, True])
def test_stochastic_depth_drops_whole_branches_by_face_and_only_in_training(hybrid):
    made, data = block(0.5), nd.random.normal(shape=(64, 8, 6, 6))
    made(data)
    if hybrid:
        made.hybridize()
    with autograd.record():
        branch = (made(data) - data).asnumpy().reshape(64, -1)
    left_out = np.abs(branch).max(axis=1) == 0
    assert 16 < left_out.sum() < 48
    assert (np.abs(branch[~left_out]) > 0).mean() > 0.99, "a branch is dropped as a whole"
    same = block(0.0)
    same(data)
    for one, other in zip(same.collect_params().values(), made.collect_params().values()):
        one.set_data(other.data())
    np.testing.assert_array_equal(made(data).asnumpy(), same(data).asnumpy())


def test_what_is_kept_is_scaled_so_that_the_mean_stays():
    with autograd.record():
        kept = block(0.2).drop(nd.ones((400, 8, 2, 2))).asnumpy().reshape(400, -1)
    assert (kept == kept[:, :1]).all(), "one number a face"
    np.testing.assert_allclose(np.unique(kept), [0, 1.25])
    assert kept.mean() == pytest.approx(1, abs=0.06)


def test_stochastic_depth_rises_from_nothing_and_can_be_none():
    def rates(network):
        found = []
        network.apply(lambda each: found.append(each.drop._rate) if isinstance(each, Block) and each.drop else None)
        return found

    rising = rates(build())
    assert rising == sorted(rising) and 0 < rising[0] < rising[-1] < 0.2
    assert rates(build(stochastic_depth=0.0)) == []
    with pytest.raises(ValueError, match="stochastic_depth=1: must be from 0 to below 1"):
        build(stochastic_depth=1)


def test_hybridized_equals_imperative():
    network, data = build(), faces(3)
    plain = [output.asnumpy() for output in network(data)]
    network.hybridize()
    for one, other in zip(plain, network(data)):
        np.testing.assert_allclose(one, other.asnumpy(), atol=1e-5)


@pytest.mark.slow  # tests/deploy/test_export_networks.py exports it at 64 pixels
def test_b0_survives_export(tmp_path):
    spread = ship(make_lively(symbols.create("efficientnetv2_b0", size=48), passes=20), tmp_path)
    assert all(value > 0.01 for value in spread.values()), spread
    symbol = (tmp_path / "out" / "efficientnetv2_b0-symbol.json").read_text()
    assert "Dropout" not in symbol


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_both_survive_export_at_their_own_size(name, tmp_path):
    head = {"name": "groups", "hidden": 256}
    spread = ship(make_lively(symbols.create(name, age_head=head), passes=20), tmp_path)
    assert all(value > 0.01 for value in spread.values()), spread
