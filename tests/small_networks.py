"""Small networks for the tests of runtimes and deployment: seeded weights, answers that differ from face to face."""

import numpy as np

from agedge.runtime.card import Card
from agedge.runtime.model_files import INPUT, Checkpoint, save_checkpoint
from agedge.runtime.outputs import AGE_AND_GENDER

SIZE = 32


def describe(name="small", size=SIZE, **fields) -> Card:
    """A card for a network of ours."""
    shape = {"name": INPUT, "size": size, "channels": "RGB", "range": [0, 255]}
    return Card(name=name, network={"name": name}, input=shape, outputs=AGE_AND_GENDER, **fields)


def faces(count, size=SIZE, seed=1) -> np.ndarray:
    """(count, size, size, 3) uint8: noise of a brightness and a tint of its own for each."""
    random = np.random.RandomState(seed)
    base = random.uniform(20, 235, (count, 1, 1, 3))
    return np.clip(base + random.normal(0, 20, (count, size, size, 3)), 0, 255).astype(np.uint8)


def every_operation(split=True):
    """A symbol with what the networks of this house are made of, and with what the exporter is known to get wrong."""
    import mxnet as mx

    x = (mx.sym.var(INPUT) - 127.5) * 0.0078125
    x = mx.sym.Convolution(x, kernel=(3, 3), num_filter=16, stride=(2, 2), pad=(1, 1), no_bias=True, name="conv0")
    x = mx.sym.Activation(mx.sym.BatchNorm(x, name="norm0"), act_type="relu")  # fix_gamma is absent: true
    x = mx.sym.Convolution(x, kernel=(3, 3), num_filter=16, num_group=16, pad=(1, 1), no_bias=True, name="conv1")
    x = mx.sym.BatchNorm(x, fix_gamma=False, eps=2e-5, name="norm1")
    x = mx.sym.LeakyReLU(x, act_type="prelu", name="prelu1")
    if split:
        one, two = mx.sym.SliceChannel(x, num_outputs=2, axis=1, name="halves")
        x = mx.sym.concat(one * mx.sym.sigmoid(two), two, dim=1)
    x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")
    x = mx.sym.mean(x, axis=(2, 3), name="features")
    x = mx.sym.Dropout(x, p=0.5)
    x = mx.sym.FullyConnected(x, num_hidden=24, name="dense0")
    x = mx.sym.LeakyReLU(x, act_type="prelu", name="prelu2")
    years = mx.sym.expand_dims(mx.sym.arange(0, 101, name="years"), axis=0)
    chances = mx.sym.softmax(mx.sym.FullyConnected(x, num_hidden=101, name="logits"))
    age = mx.sym.sum(mx.sym.broadcast_mul(chances, years), axis=1, keepdims=True, name="age")
    p_male = mx.sym.sigmoid(mx.sym.FullyConnected(x, num_hidden=1, name="gender"), name="p_male")
    return mx.sym.Group([age, p_male])


def two_answers(features):
    """Age and P(male), a dense layer each, from any features."""
    import mxnet as mx

    age = mx.sym.FullyConnected(features, num_hidden=1, name="dense_age") * 10 + 40
    p_male = mx.sym.FullyConnected(features, num_hidden=1, name="dense_gender")
    return mx.sym.Group([mx.sym.identity(age, name="age"), mx.sym.sigmoid(p_male, name="p_male")])


def convolved():
    """(N, 8, 30, 30) features."""
    import mxnet as mx

    return mx.sym.Convolution(mx.sym.var(INPUT) / 255, kernel=(3, 3), num_filter=8, name="conv")


def with_weights(symbol, size=SIZE, seed=5) -> Checkpoint:
    """Random weights for a symbol; gammas are never 1, so that whether they count can be seen.

    The gain of 1.5 is measured: with 2 the ages are so steep that float32 rounding alone (MXNet and ONNX Runtime each
    5e-5 years from float64) is over ONNX's tolerance.
    """
    import mxnet as mx

    random = np.random.RandomState(seed)

    def draw(name, shape):
        if name.endswith(("var", "gamma")):
            return random.uniform(0.3, 2.0, shape)
        fan_in = max(1, int(np.prod(shape[1:])))
        return random.normal(0, 1.5 / np.sqrt(fan_in) if name.endswith("weight") else 0.3, shape)

    shapes, _, aux_shapes = symbol.infer_shape(**{INPUT: (1, 3, size, size)})
    args = {n: mx.nd.array(draw(n, s)) for n, s in zip(symbol.list_arguments(), shapes) if n != INPUT}
    aux = {n: mx.nd.array(draw(n, s)) for n, s in zip(symbol.list_auxiliary_states(), aux_shapes)}
    return Checkpoint(symbol, args, aux)


def save_small(folder, symbol=None, **fields) -> Card:
    """Write a small model into `folder`."""
    return save_checkpoint(with_weights(every_operation() if symbol is None else symbol), describe(**fields), folder)
