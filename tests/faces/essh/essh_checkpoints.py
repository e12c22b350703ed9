"""Small checkpoints of the ESSH family, made for tests: one whose answer is known, random ones, and foreign ones."""

import json
from pathlib import Path

import mxnet as mx
import numpy as np

from agedge.faces.essh.card import DetectorCard, save_detector
from symbols.essh import ESSH

WORD = {"symbol": "essh-symbol.json", "params": "essh-0000.params"}


def write(folder: Path, symbol, params: dict) -> Path:
    """The two files, as an MXNet trainer leaves them; `params` under the names that they are to have there."""
    symbol.save(str(folder / WORD["symbol"]))
    mx.nd.save(str(folder / WORD["params"]), {name: mx.nd.array(value) for name, value in params.items()})
    return folder


def write_card(folder: Path, mean=(0, 0, 0), threshold=0.5) -> None:
    """The card of the checkpoint in `folder`."""
    card = DetectorCard(files={"mxnet": WORD}, threshold=threshold)
    card.input["mean"] = list(mean)
    card.save(folder)


def write_random(folder: Path) -> Path:
    """The network that is shipped, narrow and untrained, with a card."""
    network = ESSH(width=8)
    network.initialize(mx.init.Xavier(magnitude=12))
    slim = network.slim()
    slim(mx.nd.zeros((1, 3, 64, 64)))
    save_detector(slim, DetectorCard(), folder)
    return folder


def block_symbol(growth: float = 0.0, rounding: str = "valid"):
    """A detector of 64x64 blocks, bright on black, whose corner lies at 16 * k - 24: a face is an average of the anchor
    over 245 while the 128x128 about it are dark. Boxes are the anchors, e ** growth times as large; landmarks lie at
    their centres. Of what was trained it has a 1x1 convolution to grey, with its BatchNorm.
    """
    grey = mx.sym.Convolution(mx.sym.var("data"), kernel=(1, 1), num_filter=1, no_bias=True, name="grey")
    grey = mx.sym.BatchNorm(grey, eps=1e-5, use_global_stats=True, name="norm")

    def average(side, stride):
        pad = (side - stride) // 2
        return mx.sym.Pooling(
            grey, kernel=(side, side), stride=(stride, stride), pad=(pad, pad), pool_type="avg",
            pooling_convention=rounding,
        )  # fmt: skip

    outputs = []
    for stride in (32, 16, 8):
        zero = average(stride, stride) * 0
        face = zero
        if stride == 16:
            face = mx.sym.sigmoid(average(64, 16) - 2 * mx.sym.relu(average(128, 16) - 70) - 245)
        shift = mx.sym.concat(zero, zero, zero + growth, zero + growth, dim=1)
        outputs += [
            mx.sym.concat(zero + 1, 1 - face, zero, face, dim=1, name=f"prob{stride}"),
            mx.sym.concat(shift, shift, dim=1, name=f"bbox{stride}"),
            mx.sym.concat(*[zero] * 20, dim=1, name=f"points{stride}"),
        ]
    return mx.sym.Group(outputs)


def block_weights(rgb=(1 / 3, 1 / 3, 1 / 3)) -> dict:
    return {
        "arg:grey_weight": np.array(rgb).reshape(1, 3, 1, 1),
        "arg:norm_gamma": np.ones(1),
        "arg:norm_beta": np.zeros(1),
        "aux:norm_moving_mean": np.zeros(1),
        "aux:norm_moving_var": np.ones(1),
    }


def draw_blocks(height: int, width: int, *corners, side: int = 64, colour=(255, 255, 255)) -> np.ndarray:
    """A black image with bright blocks at corners (x, y)."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y in corners:
        image[max(y, 0) : y + side, max(x, 0) : x + side] = colour
    return image


def foreign_symbol(channels=(4, 8, 20), ceil: bool = False, dropped: int = 0):
    """A network that is not this house's: plain convolutions and poolings without BatchNorm, outputs of other names,
    probabilities by a SoftmaxOutput that wants labels."""
    x, maps = mx.sym.var("data") / 255, {}
    for level, width in enumerate((4, 4, 8, 8, 8), 1):
        x = mx.sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=width, name=f"conv{level}_1")
        x = mx.sym.Activation(x, act_type="relu")
        convention = "full" if ceil else "valid"
        x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", pooling_convention=convention)
        maps[2**level] = x
    outputs = []
    for stride in (32, 16, 8):
        for kind, count in zip(("cls", "loc", "kps"), channels):
            y = mx.sym.Convolution(maps[stride], kernel=(1, 1), num_filter=count, name=f"{kind}_p{stride}")
            if kind == "cls" and count == 4:
                pairs = mx.sym.reshape(y, shape=(0, 2, -1, 0))
                pairs = mx.sym.SoftmaxOutput(pairs, multi_output=True, name=f"rpn_{stride}")
                y = mx.sym.reshape_like(pairs, y)
            outputs.append(y)
    return mx.sym.Group(outputs[: len(outputs) - dropped])


def random_weights(symbol, scale: float = 0.5) -> dict:
    """Weights of a symbol without statistics, with the same names as its arguments."""
    shapes, _, _ = symbol.infer_shape_partial(data=(1, 3, 64, 64))
    draw = np.random.RandomState(5)
    return {
        name: draw.normal(0, scale, shape)
        for name, shape in zip(symbol.list_arguments(), shapes)
        if name.endswith(("weight", "bias"))
    }


def change_card(folder: Path, **values) -> None:
    path = folder / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
