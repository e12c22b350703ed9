"""Build MTCNN's networks as graphs that MXNet runs fast on a CPU: the same functions, in operations of oneDNN.

MXNet implements PReLU as a simple loop, for which arrays leave oneDNN's layout. Here PReLU is built from operations
that MXNet fuses, two convolutions with a ReLU (the operation `Activation`; `relu` is not fused) and a sum:

    prelu(x) = relu((1 - slope) x) + slope x      for a slope <= 1
    -prelu(x) = relu((slope - 1) x) - slope x     for a slope > 1; the next layer's weights restore the sign

If max pooling follows, it is moved before the PReLU. For a slope >= 0, prelu is monotonic and commutes with the
maximum. For a negative slope, the maximum of prelu is that of x or of slope x:

    max prelu(x) = max(max x, max slope x) = relu(max x - max slope x) + max slope x

so such a channel is pooled twice, and the same two convolutions, now 1x1, combine the results. The scaling of the input
and its channel order are folded into the first weights. The two logits of a face are replaced by their difference.
"""

from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import numpy as np

from agedge.faces.mtcnn.weights import HEADS, LAYERS, load_weights, name_weights
from agedge.runtime.batch_runner import BatchRunner
from agedge.runtime.model_files import Checkpoint
from agedge.runtime.mxnet_executors import ExecutorPool

UNIT = 16  # channels are zero-padded to multiples of it, so that oneDNN keeps its fast layout between layers

Arrays = Dict[str, np.ndarray]
Layer = Tuple[np.ndarray, np.ndarray]  # weight, bias


class CascadeNetwork:
    """One of the three networks, run on batches of a few fixed sizes.

    The caller writes images into `data` (largest, 3, side, side) float32: BGR, 0..255. `outputs`: number of values
    per image, or per position of P-net's map: box, landmarks, and last the logit of a face. Another runtime needs
    another `runner` with the same input and the same single output.
    """

    def __init__(self, name: str, runner: BatchRunner, batches: Sequence[int], side: int):
        self.runner, self.batches, self.side = runner, sorted(batches), side
        self.data = runner.reserve((self.batches[-1], 3, side, side))
        self.outputs = sum(HEADS[name].values()) - 1

    def run(self, count: int) -> np.ndarray:
        """Return the outputs for the first `count` images of `data`.

        Their shape is (count, outputs) for R- and O-net, and (count, outputs, rows, columns) for P-net.
        """
        size = min(size for size in self.batches if size >= count)
        (output,) = self.runner.run((size, 3, self.side, self.side))
        return output[:count, : self.outputs]


def open_network(
    name: str, batches: Sequence[int], side: int, folder: Optional[Union[str, Path]] = None
) -> CascadeNetwork:
    """Open a network in MXNet from its weights in `folder`, by default those of the installed wheel.

    All batch sizes are bound at once, the largest first; the others share its memory.
    """
    import mxnet as mx

    symbol, arrays = build_graph(name, name_weights(name, load_weights(name, folder)))
    checkpoint = Checkpoint(symbol, {key: mx.nd.array(value) for key, value in arrays.items()}, {})
    pool = ExecutorPool(checkpoint, f"MTCNN's {name}")
    for size in sorted(batches, reverse=True):
        shape = (size, 3, side, side)
        pool.reserve(shape)
        pool.bind(shape)
    return CascadeNetwork(name, pool, batches, side)


def build_graph(name: str, weights: Arrays) -> Tuple[Any, Arrays]:
    """Return the symbol over `data` (n, 3, h, w), BGR, 0..255, and its arrays; `weights`: those of `name_weights`."""
    import mxnet as mx

    arrays: Arrays = {}
    x: Any = mx.sym.Variable("data")

    def apply(x: Any, layer: str, weight: np.ndarray, bias: np.ndarray, relu: bool = False) -> Any:
        arrays[f"{layer}_weight"], arrays[f"{layer}_bias"] = weight.astype(np.float32), bias.astype(np.float32)
        if weight.ndim == 2:
            x = mx.sym.FullyConnected(x, num_hidden=len(weight), name=layer)
        else:
            x = mx.sym.Convolution(x, kernel=weight.shape[2:], num_filter=len(weight), name=layer)
        return mx.sym.Activation(x, act_type="relu") if relu else x

    signs = np.ones(3)  # of the channels of x; 0 for padding
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
        if next_kind == "heads":  # the heads and the linear part of PReLU are merged into one layer
            heads = _join_heads(name, weights, signs)
            straight = _join_linear(straight, heads)
        sides = apply(x, f"bent{number}", *bent, relu=True)
        x = apply(x, f"straight{number}", *_pad_outputs(*straight))
        if next_kind == "heads":
            sides = apply(sides, "heads", *_pad_outputs(heads[0], 0 * heads[1]))
        x = x + sides
    return x, arrays


def _take_layer(weights: Arrays, number: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weight, bias and slopes of a layer, float64."""
    names = f"layer{number}_weight", f"layer{number}_bias", f"prelu{number}_gamma"
    weight, bias, slopes = (weights[name].astype(np.float64) for name in names)
    return weight, bias, slopes


def _take_pixels(weight: np.ndarray, bias: np.ndarray) -> Layer:
    """Convert the first weights from RGB input scaled to (x - 127.5) / 128 to BGR input of 0..255."""
    return weight[:, ::-1] / 128, bias - weight.sum(axis=(1, 2, 3)) * (127.5 / 128)


def _match_inputs(weight: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Adapt weights to the channels of the previous layer, which may be negated or padding."""
    if weight.ndim == 2:  # of a dense layer; the maps before it need no padding
        return weight * np.repeat(signs, weight.shape[1] // len(signs))
    missing = len(signs) - weight.shape[1]
    return np.pad(weight, ((0, 0), (0, missing), (0, 0), (0, 0))) * signs[:, None, None]


def _scale(weight: np.ndarray, bias: np.ndarray, factors: np.ndarray) -> Layer:
    return weight * factors.reshape(-1, *[1] * (weight.ndim - 1)), bias * factors


def _straight(slopes: np.ndarray) -> np.ndarray:
    return np.where(slopes > 1, -slopes, slopes)


def _double_falling(weight: np.ndarray, bias: np.ndarray, slopes: np.ndarray) -> Layer:
    """Return the channels, followed by copies, times their slope, of those with a negative slope."""
    falling = np.flatnonzero(slopes < 0)
    again = _scale(weight[falling], bias[falling], slopes[falling])
    return np.concatenate([weight, again[0]]), np.concatenate([bias, again[1]])


def _join_pooled(slopes: np.ndarray) -> Tuple[Layer, Layer]:
    """Return the 1x1 convolutions (with ReLU, linear) that compute PReLU from the channels of `_double_falling`."""
    channels, falling = len(slopes), np.flatnonzero(slopes < 0)
    again = channels + np.arange(len(falling))
    bent, straight = np.zeros((2, channels, len(_pad(np.zeros(channels + len(falling))))))
    np.fill_diagonal(bent, np.where(slopes < 0, 1, np.abs(1 - slopes)))
    np.fill_diagonal(straight, np.where(slopes < 0, 0, _straight(slopes)))
    bent[falling, again], straight[falling, again] = -1, 1
    bias = np.zeros(channels)
    return (bent[:, :, None, None], bias), (straight[:, :, None, None], bias)


def _join_heads(name: str, weights: Arrays, signs: np.ndarray) -> Layer:
    """Return the heads as one layer: box, landmarks, and the face logit minus the background logit."""
    joined = []
    for what in ("weight", "bias"):
        values = [weights[f"{head}_{what}"].astype(np.float64) for head in HEADS[name]]
        *others, score = values
        joined.append(np.concatenate([*others, score[1:] - score[:1]]))
    return _match_inputs(joined[0], signs), joined[1]


def _join_linear(first: Layer, second: Layer) -> Layer:
    """Merge two linear layers, of which the second is 1x1 or both are dense, into one."""
    (weight, bias), (mixing, shift) = first, second
    mixing = mixing.reshape(mixing.shape[:2])
    return np.tensordot(mixing, weight, 1), mixing @ bias + shift


def _pad_outputs(weight: np.ndarray, bias: np.ndarray) -> Layer:
    """Pad a convolution to a multiple of UNIT outputs; dense layers are not changed."""
    return (weight, bias) if weight.ndim == 2 else (_pad(weight), _pad(bias))


def _pad(array: np.ndarray) -> np.ndarray:
    return np.pad(array, [(0, -len(array) % UNIT)] + [(0, 0)] * (array.ndim - 1))
