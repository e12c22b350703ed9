"""AEC from Keras: every layer has the output of a plain NumPy forward pass on the Keras arrays."""

from pathlib import Path

import numpy as np
import pytest
from mxnet import nd
from numpy.lib.stride_tricks import sliding_window_view

from agedge.errors import AgedgeError
from deploy.importers.aec import from_keras
from deploy.importers.convert import build
from deploy.importers.h5_file import KerasWeights, read_h5
from tests.paths import SHARED

UPSTREAM = SHARED / "upstream"
PUBLISHED = UPSTREAM / "aec_keras_weights.hdf5"
STAGES = ((1, 20), (4, 4), (7, 1))  # number of the first dense of a stage, years of its steps


def drawn(blocks=(2, 2, 2, 2), first=1):
    """Random weights as Keras' file would list them, layers numbered from `first` on."""
    weights, layers = KerasWeights(), ["input_1"]

    def add(kind, number, **arrays):
        layers.append(f"{kind}_{number + first - 1}")
        for name, array in arrays.items():
            weights[f"{layers[-1]}/{name}"] = array.astype(np.float32)

    def convolution(number, shape):
        scale = np.sqrt(2 / np.prod(shape[:3])) / (60 if number == 1 else 1)
        add("conv2d", number, kernel=np.random.normal(0, scale, shape), bias=np.random.normal(0, 0.1, shape[3]))

    convolution(1, (3, 3, 3, 3))
    number = 0
    for pool, count in enumerate(blocks, 1):
        for _ in range(count):
            number += 1
            convolution(number + 1, (3, 3, 3 if number == 1 else 16, 16))
            statistics = {"moving_mean": np.random.normal(0, 0.3, 16), "moving_variance": np.random.uniform(0.3, 2, 16)}
            scales = {"gamma": np.random.uniform(0.5, 1.5, 16), "beta": np.random.normal(0, 0.3, 16)}
            add("batch_normalization", number, **scales, **statistics)
        layers.append(f"average_pooling2d_{pool}")
    convolution(number + 2, (1, 1, 16, 10))
    for dense, sizes in ((1, (160, 5, 10, 5)), (4, (160, 5, 10, 5)), (7, (160, 4, 8, 4))):
        for step, shape in enumerate(zip(sizes, sizes[1:])):
            kernel = np.random.normal(0, np.sqrt(2 / shape[0]), shape)
            add("dense", dense + step, kernel=kernel, bias=np.random.normal(0.1, 0.1, shape[1]))
    weights.layers = tuple(layers)
    return weights


def run_numpy(weights, bgr, blocks):
    """BGR (N, H, W, 3) raw -> [each map], {years of a stage: its probabilities}, age (N,). Channels last, float64."""
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    maps = []

    def convolve(x, number):
        kernel = weights[f"conv2d_{number}/kernel"]
        pad = kernel.shape[0] // 2
        windows = sliding_window_view(np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))), kernel.shape[:2], (1, 2))
        maps.append(np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True) + weights[f"conv2d_{number}/bias"])
        return maps[-1]

    def norm_relu(x, number):
        gamma, beta, mean, variance = (
            weights[f"batch_normalization_{number}/{name}"]
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        maps.append(np.maximum((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0))
        return maps[-1]

    x, number = convolve(bgr.astype(np.float64), 1), 0
    for count in blocks:
        for _ in range(count):
            number += 1
            x = norm_relu(convolve(x, number + 1), number)
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
        maps.append(x)
    convolve(x, number + 2)
    maps[-1] = np.maximum(maps[-1], 0)
    stages, age = {}, 0
    for first, years in STAGES:
        h = maps[-1].reshape(len(bgr), -1)
        for dense in range(first, first + 3):
            h = h @ weights[f"dense_{dense}/kernel"] + weights[f"dense_{dense}/bias"]
            h = np.maximum(h, 0) if dense < first + 2 else np.exp(h - h.max(axis=1, keepdims=True))
        stages[years] = h / h.sum(axis=1, keepdims=True)
        age = age + stages[years][:, 0] + years * stages[years] @ np.arange(h.shape[1])
    return maps, stages, age


def compare(weights, blocks):
    """Our network with these weights against NumPy, map by map; returns the ages."""
    imported = from_keras(weights)
    assert imported.complete and imported.arguments["blocks"] == list(blocks)
    network = build(imported, Path("drawn.h5"))
    bgr = np.random.randint(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    maps, stages, age = run_numpy(weights, bgr, blocks)
    x = nd.array(bgr[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32))  # ours takes RGB
    ours = []
    for layer in list(network.body)[:-2]:
        x = layer(x)
        ours.append(x.asnumpy().transpose(0, 2, 3, 1))
    assert len(ours) == len(maps) == 2 + 2 * sum(blocks) + len(blocks)
    for one, other in zip(ours, maps):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * max(1, np.abs(other).max()))
    (logits,) = network(nd.array(bgr[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)))
    begin = 0
    for years, p in stages.items():
        predicted = nd.softmax(logits[:, begin : begin + p.shape[1]]).asnumpy()
        np.testing.assert_allclose(predicted, p, atol=1e-4, err_msg=f"the stage of {years} years")
        begin += p.shape[1]
    np.testing.assert_allclose(network.decode(nd, (logits,))[0].asnumpy().ravel(), age, atol=1e-4)
    return age


@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (3, 1, 2, 2)])
def test_every_layer_says_what_numpy_says(blocks):
    assert np.ptp(compare(drawn(blocks), blocks)) > 0.01


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published weights lie in ../shared, which is absent")
def test_the_published_weights_say_what_numpy_says():
    weights = read_h5(PUBLISHED)
    assert sum(array.size for array in weights.values()) == 20014
    compare(weights, (2, 2, 2, 2))


def test_layers_may_be_numbered_from_anywhere():
    weights = drawn(first=12)
    plain = {name: array for name, array in from_keras(weights).weights.items()}
    renamed = KerasWeights()
    for name, array in weights.items():
        layer, _, weight = name.rpartition("/")
        kind, _, number = layer.rpartition("_")
        number = int(number) - 12  # tf.keras calls the first one plain "dense"
        renamed[f"{kind}_{number}/{weight}" if number else f"{kind}/{weight}"] = array
    renamed.layers = weights.layers
    again = from_keras(renamed).weights
    for name, array in plain.items():
        np.testing.assert_array_equal(array, again[name])


def test_weights_of_another_network_are_told():
    weights = drawn()
    del weights["dense_9/bias"]
    weights["conv2d_1/kernel"] = np.zeros((3, 3, 1, 3), np.float32)
    weights["pred_a/kernel"] = np.zeros((4, 1), np.float32)
    with pytest.raises(AgedgeError, match="weights of aec") as caught:
        from_keras(weights)
    text = str(caught.value)
    assert all(part in text for part in ("dense_9/bias", "conv2d_1/kernel is 3x3x1x3", "pred_a/kernel"))
    assert "\n" not in text
    with pytest.raises(AgedgeError, match="weights of aec"):
        from_keras(KerasWeights())


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published weights lie in ../shared, which is absent")
def test_the_published_weights_of_another_network_are_told():
    with pytest.raises(AgedgeError, match="weights of aec: .* and [0-9]+ more") as caught:
        from_keras(read_h5(UPSTREAM / "ssrnet_keras_imdb.h5"))
    assert "\n" not in str(caught.value)
