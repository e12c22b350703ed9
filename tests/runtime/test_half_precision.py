"""Weights that half precision can hold: folded, they are halves; the network hardly changes."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

import symbols
from agedge.runtime.half_precision import round_to_half
from agedge.runtime.model_files import Checkpoint


@pytest.fixture
def checkpoint():
    """A small network whose BatchNorms have seen data, so that they fold in more than a 1."""
    network = symbols.create("mobilenet025", size=32)
    network.initialize_for_training(mx.cpu())
    for _ in range(3):
        with autograd.record():
            loss = network.loss(nd, network(nd.random.uniform(0, 255, (8, 3, 32, 32))), nd.ones((8, 3)))
        loss.backward()
    mx.nd.waitall()
    slim = network.slim()
    symbol = mx.sym.Group(list(slim(mx.sym.var("data"))))
    values = {name: value.data() for name, value in slim.collect_params().items()}
    args = {name: values[name] for name in symbol.list_arguments() if name != "data"}
    args["mobilenet025_body_normrelu1_gamma"][0] = 0  # a dead channel must not become NaN
    args["mobilenet025_body_normrelu1_gamma"][1] *= -1
    return Checkpoint(symbol, args, {name: values[name] for name in symbol.list_auxiliary_states()})


def folded(checkpoint, args, number):
    """The weights of a convolution as a converter folds them with its BatchNorm."""
    gamma = args[f"mobilenet025_body_normrelu{number}_gamma"].asnumpy()
    variance = checkpoint.aux[f"mobilenet025_body_normrelu{number}_running_var"].asnumpy()
    return (
        args[f"mobilenet025_body_conv{number}_weight"].asnumpy()
        * (gamma / np.sqrt(variance + 1e-5))[:, None, None, None]
    )


def off_from_half(values):
    return np.abs(values - values.astype(np.float16)).max() / np.abs(values).max()


def test_what_a_converter_rounds_is_already_a_half(checkpoint):
    rounded = round_to_half(*checkpoint)
    for number in (0, 1, 2, 13, 26):
        before, after = folded(checkpoint, checkpoint.args, number), folded(checkpoint, rounded, number)
        assert off_from_half(before) > 1e-4 > 2e-6 > off_from_half(after)
    dense = "mobilenet025_age_dense0_weight"
    assert off_from_half(checkpoint.args[dense].asnumpy()) > 0 == off_from_half(rounded[dense].asnumpy())


def test_the_network_stays_what_it_was(checkpoint):
    rounded = round_to_half(*checkpoint)
    data = nd.random.uniform(0, 255, (4, 3, 32, 32))
    ages = []
    for args in (checkpoint.args, rounded):
        executor = checkpoint.symbol.bind(mx.cpu(), {**args, "data": data}, aux_states=checkpoint.aux, grad_req="null")
        ages.append(executor.forward(is_train=False)[0].asnumpy())
    assert np.isfinite(ages[1]).all() and 0 < np.abs(ages[0] - ages[1]).max() < 0.1
    assert set(rounded) == set(checkpoint.args)
    for name, value in rounded.items():
        if not name.endswith("weight"):
            assert (value == checkpoint.args[name]).asnumpy().all()


def test_rounding_again_changes_nothing(checkpoint):
    once = round_to_half(*checkpoint)
    twice = round_to_half(checkpoint.symbol, once, checkpoint.aux)
    for name in once:
        np.testing.assert_allclose(once[name].asnumpy(), twice[name].asnumpy(), rtol=1e-6, atol=1e-9)
