"""C3AE: four convolutions of 32 channels, and the age as two neighbouring decades.

Zhang et al., CVPR 2019, "C3AE: Exploring the Limits of Compact Model for Age Estimation". The plain form takes one
image and has 36,345 parameters: 896 + 3 * 9,248 of the 3x3 convolutions (with biases), 1,024 of the 1x1 convolution
(without), 4 * 128 of the BatchNorms with their running statistics, 6,156 of the twelve bins and 13 of the age. The full
form takes three crops of a face through shared weights: its bins have 1,536 input features instead of 512.
"""

from typing import Any, Union

from mxnet.gluon import nn

from symbols.compact import CompactNet
from symbols.layers import NormRelu, scale_pixels
from symbols.options import require_bool
from symbols.registry import register

CHANNELS = 32
EPSILON = 1e-3  # of every BatchNorm, Keras' default
SMALLEST = 38  # pixels; three rounds of convolution and pooling reduce them to 3, for the fourth convolution
# At the end of training, the age loss (KL and L1) is about 15 and the gender's cross-entropy about 0.2.
GENDER_WEIGHT = 10.0
FULL_SIZE = 128  # pixels; the inner boxes have 96 and 64 pixels


class C3AE(CompactNet):
    """RGB 0..255 (N, 3, S, S) -> the heads. In the source, S is 64 for the plain form.

    `full`: the source crops three boxes around the nose from the photo and scales each to 64 pixels: about 1.4, 1.1 and
    0.75 times as large as the face's box. This network takes one image, so it crops centred boxes of S, 3/4 S and S/2
    pixels and scales the larger two down to S/2 by averaging: 128 pixels give three images of 64. The face crop needs a
    margin, so that the largest box shows context.
    """

    def __init__(
        self,
        size: int,
        full: bool = False,
        age_head: Union[str, dict] = "two_point",
        gender: bool = False,
        gender_weight: float = GENDER_WEIGHT,
    ) -> None:
        require_bool(full=full)
        smallest = 2 * SMALLEST if full else SMALLEST
        super().__init__("c3ae", size, smallest, age_head, gender, gender_weight, full=full)
        if full and size % 8:
            raise ValueError(f"size={size}: must be a multiple of 8 for the three boxes of full=true")
        self.full = full
        with self.name_scope():
            self.body = _body()

    def extract_features(self, F: Any, data: Any) -> Any:
        scaled = scale_pixels(data)
        if not self.full:
            return self.body(scaled)
        return F.concat(*(self.body(box) for box in cut_boxes(F, scaled, self.size)), dim=1)


def cut_boxes(F: Any, images: Any, size: int) -> tuple:
    """Return three crops (N, 3, size/2, size/2) of (N, 3, size, size): all, the middle 3/4 and the middle half.

    They are scaled by averaging areas. To scale by 2/3, every pixel is doubled, then 3x3 pixels are averaged.
    """
    middle = _centre(F, images, size // 8, size - size // 8)
    doubled = F.UpSampling(middle, scale=2, sample_type="nearest")
    return (
        F.Pooling(images, kernel=(2, 2), stride=(2, 2), pool_type="avg"),
        F.Pooling(doubled, kernel=(3, 3), stride=(3, 3), pool_type="avg"),
        _centre(F, images, size // 4, size - size // 4),
    )


def _centre(F, images, begin, end):
    return F.slice_axis(F.slice_axis(images, axis=2, begin=begin, end=end), axis=3, begin=begin, end=end)


def _body():
    body = nn.HybridSequential(prefix="body_")
    with body.name_scope():
        for depth in range(4):
            body.add(nn.Conv2D(CHANNELS, 3), NormRelu(epsilon=EPSILON))
            if depth < 3:
                body.add(nn.AvgPool2D(2))
        body.add(nn.Conv2D(CHANNELS, 1, use_bias=False), nn.Flatten())
    return body


@register
def c3ae(full: bool = False, **arguments: Any) -> C3AE:
    """Build C3AE, age by two points, 36,345 parameters; `full` uses three crops of the face, `gender` adds P(male)."""
    arguments.setdefault("size", FULL_SIZE if full is True else 64)
    return C3AE(full=full, **arguments)
