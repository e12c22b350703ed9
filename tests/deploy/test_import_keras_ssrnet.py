"""The Keras SSR-Net: its own arithmetic in plain NumPy, channels last, against the imported network, layer by layer."""

import numpy as np
import pytest
from mxnet import nd
from numpy.lib.stride_tricks import sliding_window_view

import symbols
from agedge.errors import AgedgeError
from deploy.importers.ssrnet import from_keras, keras_layer, number_layers
from tests.paths import SHARED

FILE = SHARED / "upstream" / "ssrnet_keras_imdb.h5"


def drawn_weights():
    """Seeded weights under Keras' names and in its shapes."""
    random = np.random.RandomState(3)
    sides, found = (4, 3, 3), {}
    for layer, (kind, number) in number_layers("age").items():
        name, stage = keras_layer(kind, number), number if kind in ("p", "eta", "delta") else number // 3
        if kind == "convolution":
            wide = 32 if (number < 4 or number > 7 and number % 2) else 16
            shape = (1, 1, wide, 10) if number > 7 else (3, 3, 3 if number % 4 == 0 else wide, wide)
        elif kind == "norm":
            wide = 32 if number < 4 else 16
            for weight, low, high in (("gamma", 0.5, 1.5), ("beta", -1, 1), ("moving_mean", -1, 1)):
                found[f"{name}/{weight}"] = random.uniform(low, high, wide).astype(np.float32)
            found[f"{name}/moving_variance"] = random.uniform(0.5, 2, wide).astype(np.float32)
            continue
        else:
            flat = 10 * sides[stage] ** 2
            mixing = kind == "dense" and number % 3 == 2
            shape = (3, 6) if mixing else (flat, 1) if kind == "delta" else (flat, 3) if kind == "dense" else (6, 3)
        spread = 1 / np.sqrt(np.prod(shape[:-1]))
        spread = spread / 100 if layer in ("body.x.0.0", "body.s.0.0") else spread
        found[f"{name}/kernel"] = random.normal(0, spread, shape).astype(np.float32)
        found[f"{name}/bias"] = random.normal(0, 0.3, shape[-1]).astype(np.float32)
    return found


def keras_weights(source):
    if source == "drawn":
        return drawn_weights()
    if not FILE.is_file():
        pytest.skip(f"{FILE} is not there: weights of the Keras original")
    h5_file = pytest.importorskip("deploy.importers.h5_file")
    return h5_file.read_h5(FILE)


def convolve(weights, layer, data):
    kernel = weights[f"{layer}/kernel"]
    windows = sliding_window_view(data, kernel.shape[:2], axis=(1, 2))  # (N, H, W, C, kh, kw)
    return np.einsum("nyxcij,ijco->nyxo", windows, kernel, optimize=True) + weights[f"{layer}/bias"]


def norm(weights, layer, data):
    scale = weights[f"{layer}/gamma"] / np.sqrt(weights[f"{layer}/moving_variance"] + 1e-3)
    return (data - weights[f"{layer}/moving_mean"]) * scale + weights[f"{layer}/beta"]


def pool(data, side, how):
    rows, columns = data.shape[1] // side, data.shape[2] // side
    cut = data[:, : rows * side, : columns * side]
    return how(cut.reshape(len(data), rows, side, columns, side, -1), axis=(2, 4))


def relu(data):
    return np.maximum(data, 0)


def run_keras(weights, bgr):
    """{our name of a layer: what the original says there, channels last}, and "age", of BGR (N, 64, 64, 3) 0..255."""

    def dense(layer, data):
        return data @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]

    seen, flats = {}, {}
    for stream, first, how, act in (("x", 1, np.mean, relu), ("s", 5, np.max, np.tanh)):
        maps, data = [], bgr.astype(np.float64)
        for depth in range(4):
            data = convolve(weights, f"conv2d_{first + depth}", data)
            data = act(norm(weights, f"batch_normalization_{first + depth}", data))
            data = pool(data, 2, how) if depth < 3 else data
            seen[f"body.{stream}.{depth}"] = data
            maps.append(data)
        for stage, (depth, window) in enumerate(((3, 1), (1, 4), (0, 8))):
            number = 9 + 2 * stage + (stream == "x")
            flat = pool(relu(convolve(weights, f"conv2d_{number}", maps[depth])), window, how)
            seen[f"body.{stream}_maps.{stage}"] = flat
            flats[stream, stage] = flat.reshape(len(flat), -1)
    age, worth = 0, 101
    for stage in range(3):
        s, x = flats["s", stage], flats["x", stage]
        mixed = relu(dense(f"dense_{3 * stage + 1}", s)) * relu(dense(f"dense_{3 * stage + 2}", x))
        mixed = relu(dense(f"dense_{3 * stage + 3}", mixed))
        p = relu(dense(f"pred_age_stage{stage + 1}", mixed))
        eta = np.tanh(dense(f"local_delta_stage{stage + 1}", mixed))
        worth = worth / (3 * (1 + np.tanh(dense(f"delta_s{stage + 1}", s * x))))
        age = age + worth * ((np.arange(3) + eta) * p).sum(axis=1, keepdims=True)
    seen["age"] = age
    return seen


def soft_faces(count=6):
    random = np.random.RandomState(1)
    coarse = random.uniform(0, 255, (count, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return np.clip(coarse + random.normal(0, 12, coarse.shape), 0, 255).round().astype(np.float32)


@pytest.mark.parametrize("source", ["drawn", "original"])
def test_layer_by_layer_as_the_original(source):
    weights = keras_weights(source)
    imported = from_keras(weights)
    network = symbols.create(**imported.arguments)
    network.initialize()
    rgb = soft_faces()
    data = nd.array(rgb.transpose(0, 3, 1, 2))
    network(data)
    parameters = network._collect_params_with_prefix()
    for name, array in imported.weights.items():
        parameters[name].set_data(nd.array(array))
    seen = run_keras({name: array.astype(np.float64) for name, array in weights.items()}, rgb[..., ::-1])
    for stream in "xs":
        value, maps = data, []
        layers, heads = getattr(network.body, stream), getattr(network.body, f"{stream}_maps")
        for depth, layer in enumerate(layers):
            value = layer(value)
            maps.append(value)
            np.testing.assert_allclose(
                value.asnumpy().transpose(0, 2, 3, 1), seen[f"body.{stream}.{depth}"], rtol=1e-4, atol=1e-4
            )
        for stage, depth in enumerate((3, 1, 0)):
            wanted = seen[f"body.{stream}_maps.{stage}"].transpose(0, 3, 1, 2).reshape(len(rgb), -1)
            np.testing.assert_allclose(heads[stage](maps[depth]).asnumpy(), wanted, rtol=1e-4, atol=1e-4)
    age = 101 * network(data)[0].asnumpy()
    np.testing.assert_allclose(age, seen["age"], rtol=1e-5, atol=1e-4)
    assert np.ptp(seen["age"]) > 0.1


def test_differences_are_listed_in_the_terms_of_keras():
    weights = drawn_weights()
    weights["conv2d_1/kernel"] = weights["conv2d_1/kernel"][:, :, :1]
    del weights["delta_s2/bias"]
    weights["dense_10/kernel"] = np.zeros((4, 4), np.float32)
    with pytest.raises(AgedgeError) as error:
        from_keras(weights)
    assert "conv2d_1/kernel is 3x3x1x32, not 3x3x3x32" in str(error.value)
    assert "delta_s2/bias 1 is missing" in str(error.value) and "dense_10/kernel 4x4 is unknown" in str(error.value)


def test_many_differences_are_counted():
    with pytest.raises(AgedgeError, match="and 87 more") as error:
        from_keras({"stranger/kernel": np.zeros(3, np.float32)})
    assert "\n" not in str(error.value)
