"""AEC, the "age estimation compact model": 16 channels everywhere, and the age as a cascade of digits.

20,014 parameters, with the running statistics of BatchNorm. No paper is known. The architecture is that of the
published Keras weights, which have two convolutions before every pooling. The current code of the source has 3, 1, 2
and 2 instead, with the same shapes and the same number of parameters: `blocks` builds either. Measured once, by hand,
on 2,000 UTKFace faces of 21 to 60 years: the published weights have an age MAE of 5.8 years with 2, 2, 2, 2, and of at
least 6.7 years with 3, 1, 2, 2 (best of five crops).
"""

from typing import Any, Sequence, Union

import numpy as np
from mxnet import init
from mxnet.gluon import nn

from symbols.compact import CompactNet
from symbols.layers import NormRelu
from symbols.options import is_whole, require_share
from symbols.registry import register

BLOCKS = (2, 2, 2, 2)  # convolutions before each pooling
CHANNELS, LAST = 16, 10
EPSILON = 1e-3  # of every BatchNorm, Keras' default
# Initial kernel of the first convolution, for each colour: the sum of the eight neighbours minus seven times the pixel,
# which keeps constant areas. In the source, only the first colour starts with it, and the other two with zeros.
SHARPEN = np.array([[1, 1, 1], [1, -7, 1], [1, 1, 1]], np.float32)
# With the weights of the cascade head, an age error of 6 years has a loss of about 140; a random gender has one of 0.7.
GENDER_WEIGHT = 100.0


class AEC(CompactNet):
    """RGB 0..255 (N, 3, S, S), not scaled -> 10 * (S / 16)^2 features -> the heads. S is 64 in the source."""

    def __init__(
        self,
        size: int,
        blocks: Sequence[int] = BLOCKS,
        dropout: float = 0.2,
        age_head: Union[str, dict] = "cascade",
        gender: bool = False,
        gender_weight: float = GENDER_WEIGHT,
    ) -> None:
        require_share(dropout=dropout)
        blocks = tuple(blocks) if isinstance(blocks, (list, tuple)) else blocks
        if not (isinstance(blocks, tuple) and blocks and all(is_whole(count) and count > 0 for count in blocks)):
            raise ValueError(
                f"blocks={blocks}: must be a list of positive integers (convolutions per block), such as {list(BLOCKS)}"
            )
        arguments = {"blocks": list(blocks), "dropout": dropout}
        super().__init__("aec", size, 2 ** len(blocks), age_head, gender, gender_weight, **arguments)
        with self.name_scope():
            self.body = _body(blocks, dropout)


def _body(blocks, dropout):
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    for colour in range(3):
        kernel[colour, colour] = SHARPEN
    body = nn.HybridSequential(prefix="body_")
    with body.name_scope():
        body.add(nn.Conv2D(3, 3, padding=1, weight_initializer=init.Constant(kernel)))
        for count in blocks:
            for _ in range(count):
                body.add(nn.Conv2D(CHANNELS, 3, padding=1), NormRelu(epsilon=EPSILON))
            body.add(nn.AvgPool2D(2))
        he_uniform = init.Xavier("uniform", "in", 6)  # as in the source; all other blocks have a BatchNorm
        body.add(nn.Conv2D(LAST, 1, activation="relu", weight_initializer=he_uniform))
        body.add(nn.Flatten(), nn.Dropout(dropout))
    return body


@register
def aec(size: int = 64, **arguments: Any) -> AEC:
    """Build AEC: age by a cascade, 20,014 parameters; with `gender=True` also P(male)."""
    return AEC(size, **arguments)
