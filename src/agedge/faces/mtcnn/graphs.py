"""MTCNN's networks as graphs that MXNet runs fast on a CPU: the same functions, written as what oneDNN computes itself.

MXNet has PReLU only as a plain loop over arrays that are first brought out of oneDNN's layout. Here it is what MXNet
does fuse, two convolutions with a ReLU (the operation `Activation`; one called `relu` is not fused) and a sum:

    prelu(x) = relu((1 - slope) x) + slope x      for a slope <= 1
    -prelu(x) = relu((slope - 1) x) - slope x     for a slope > 1; the next layer's weights take the sign back

Where a maximum is pooled from it, the pooling comes first. For a slope >= 0, prelu is monotonic and the two change
places; for one below, the maximum of prelu is that of x or of slope x:

    max prelu(x) = max(max x, max slope x) = relu(max x - max slope x) + max slope x

so that such a channel is pooled twice, and the same two convolutions, now 1x1, put it together. The scaling of the
input and the order of its channels go into the first weights; of the two logits of a face their difference remains.
"""

import os
from typing import Sequence

import numpy as np

from agedge.faces.mtcnn.weights import HEADS, LAYERS, load_weights, name_weights
from agedge.runtime.mxnet_executors import MXNET_LOCK

UNIT = 16  # channels come in multiples of it, the rest are zeros: oneDNN then keeps its fast layout from layer to layer


class Net:
    """One of the networks, ready to run on batches of a few fixed sizes.

    `data` (largest, 3, side, side) float32 is the input: BGR, 0..255, to be written in place. MXNet keeps an
    executor a batch size; the largest is bound first and the others share its memory.
    """

    def __init__(self, name: str, batches: Sequence[int], side: int, folder=None):
        os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # else a line on stderr for each executor
        import mxnet as mx

        symbol, arrays = build_graph(name, name_weights(name, load_weights(name, folder)))
        arrays = {key: mx.nd.array(value) for key, value in arrays.items()}
        buffer = np.zeros((max(batches), 3, side, side), np.float32)
        self.data = buffer[:]  # stays writable: from_numpy shares the memory, and closes the array that it is given
        self.outputs = sum(HEADS[name].values()) - 1
        self.executors, largest = {}, None
        for size in sorted(batches, reverse=True):
            data = mx.nd.from_numpy(buffer if size == max(batches) else self.data[:size], zero_copy=True)
            executor = symbol.bind(mx.cpu(), {**arrays, "data": data}, grad_req="null", shared_exec=largest)
            self.executors[size] = executor
            largest = largest or executor

    def run(self, count: int) -> np.ndarray:
        """The outputs for the first `count` images of `data`: (count, outputs) of R- and O-net, (count, outputs, rows,
        columns) of P-net; box, landmarks, and last the logit of a face."""
        size = min(size for size in self.executors if size >= count)
        with MXNET_LOCK:
            (output,) = self.executors[size].forward(is_train=False)
            return output.asnumpy()[:count, : self.outputs]


def build_graph(name: str, weights: dict) -> tuple:
    """The symbol over `data` (n, 3, h, w), BGR, 0..255, and its arrays, from `name_weights`."""
    import mxnet as mx

    arrays, x = {}, mx.sym.Variable("data")

    def apply(x, layer: str, weight: np.ndarray, bias: np.ndarray, relu: bool = False):
        arrays[f"{layer}_weight"], arrays[f"{layer}_bias"] = weight.astype(np.float32), bias.astype(np.float32)
        if weight.ndim == 2:
            x = mx.sym.FullyConnected(x, num_hidden=len(weight), name=layer)
        else:
            x = mx.sym.Convolution(x, kernel=weight.shape[2:], num_filter=len(weight), name=layer)
        return mx.sym.Activation(x, act_type="relu") if relu else x

    signs = np.ones(3)  # of the channels of x, 0 for those that are padding
    for number, (kind, *_) in enumerate(LAYERS[name], 1):
        if kind == "pool":
            continue
        weight, bias, slopes = _take_layer(weights, number)
        if number == 1:
            weight, bias = _take_pixels(weight, bias)
        weight = _match_inputs(weight, signs)
        next_kind, *pool = LAYERS[name][number] if number < len(LAYERS[name]) else ("heads",)
        if next_kind == "pool":
            kernel, rounding = pool
            x = apply(x, f"layer{number}", *_pad_outputs(*_double_falling(weight, bias, slopes)))
            x = mx.sym.Pooling(x, kernel=(kernel,) * 2, stride=(2, 2), pool_type="max", pooling_convention=rounding)
            bent, straight = _join_pooled(slopes)
        else:
            bent, straight = _scale(weight, bias, np.abs(1 - slopes)), _scale(weight, bias, _straight(slopes))
        bent, straight = _pad_outputs(*bent), _pad_outputs(*straight)
        signs = np.pad(np.where(slopes > 1, -1.0, 1.0), (0, len(bent[1]) - len(slopes)))
        if next_kind == "heads":  # they are linear as the straight part is: together one layer beside the bent part
            heads = _join_heads(name, weights, signs)
            straight = _join_linear(straight, heads)
        sides = apply(x, f"bent{number}", *bent, relu=True)
        x = apply(x, f"straight{number}", *_pad_outputs(*straight))
        if next_kind == "heads":
            sides = apply(sides, "heads", *_pad_outputs(heads[0], 0 * heads[1]))
        x = x + sides
    return x, arrays


def _take_layer(weights: dict, number: int) -> tuple:
    """Weight, bias and slopes of a layer, float64."""
    names = f"layer{number}_weight", f"layer{number}_bias", f"prelu{number}_gamma"
    return tuple(weights[name].astype(np.float64) for name in names)


def _take_pixels(weight: np.ndarray, bias: np.ndarray) -> tuple:
    """First weights that want RGB, (x - 127.5) / 128, made to want BGR, 0..255."""
    return weight[:, ::-1] / 128, bias - weight.sum(axis=(1, 2, 3)) * (127.5 / 128)


def _match_inputs(weight: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Weights for the channels that there are, which may be negated or padding."""
    if weight.ndim == 2:  # of a dense layer; the maps before it need no padding
        return weight * np.repeat(signs, weight.shape[1] // len(signs))
    missing = len(signs) - weight.shape[1]
    return np.pad(weight, ((0, 0), (0, missing), (0, 0), (0, 0))) * signs[:, None, None]


def _scale(weight: np.ndarray, bias: np.ndarray, factors: np.ndarray) -> tuple:
    return weight * factors.reshape(-1, *[1] * (weight.ndim - 1)), bias * factors


def _straight(slopes: np.ndarray) -> np.ndarray:
    return np.where(slopes > 1, -slopes, slopes)


def _double_falling(weight: np.ndarray, bias: np.ndarray, slopes: np.ndarray) -> tuple:
    """The channels, and after them those with a negative slope again, times that slope."""
    falling = np.flatnonzero(slopes < 0)
    again = _scale(weight[falling], bias[falling], slopes[falling])
    return np.concatenate([weight, again[0]]), np.concatenate([bias, again[1]])


def _join_pooled(slopes: np.ndarray) -> tuple:
    """(weight, bias) of the bent and the straight 1x1 convolution that make PReLU of what `_double_falling` gave."""
    channels, falling = len(slopes), np.flatnonzero(slopes < 0)
    again = channels + np.arange(len(falling))
    bent, straight = np.zeros((2, channels, len(_pad(np.zeros(channels + len(falling))))))
    np.fill_diagonal(bent, np.where(slopes < 0, 1, np.abs(1 - slopes)))
    np.fill_diagonal(straight, np.where(slopes < 0, 0, _straight(slopes)))
    bent[falling, again], straight[falling, again] = -1, 1
    return tuple((weight[:, :, None, None], np.zeros(channels)) for weight in (bent, straight))


def _join_heads(name: str, weights: dict, signs: np.ndarray) -> tuple:
    """The heads as one layer: box, landmarks, and how much more a face's logit is than that of none."""
    parts = []
    for what in ("weight", "bias"):
        values = [weights[f"{head}_{what}"].astype(np.float64) for head in HEADS[name]]
        *others, score = values
        parts.append(np.concatenate([*others, score[1:] - score[:1]]))
    return _match_inputs(parts[0], signs), parts[1]


def _join_linear(first: tuple, second: tuple) -> tuple:
    """One (weight, bias) for two layers of which the second is 1x1 or both are dense."""
    (weight, bias), (mixing, shift) = first, second
    mixing = mixing.reshape(mixing.shape[:2])
    return np.tensordot(mixing, weight, 1), mixing @ bias + shift


def _pad_outputs(weight: np.ndarray, bias: np.ndarray) -> tuple:
    """A convolution's (weight, bias) with as many outputs as oneDNN likes; dense layers stay as they are."""
    return (weight, bias) if weight.ndim == 2 else (_pad(weight), _pad(bias))


def _pad(array: np.ndarray) -> np.ndarray:
    return np.pad(array, [(0, -len(array) % UNIT)] + [(0, 0)] * (array.ndim - 1))
