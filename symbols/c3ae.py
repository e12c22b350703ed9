"""C3AE: four convolutions of 32 channels, and the age as two neighbouring decades.

Zhang et al., CVPR 2019, "C3AE: Exploring the Limits of Compact Model for Age Estimation". Plain, one image: 36,345
parameters, which is: biases on the 3x3 convolutions (896 + 3 * 9,248), none on the 1x1 one (1,024), four BatchNorms and
their running statistics (4 * 128), 6,156 for the twelve bins and 13 for the age. Full, three crops of one face through
shared weights: the bins then see 1,536 features in place of 512.
"""

from typing import Any, Union

from mxnet.gluon import nn

from symbols.compact import CompactNet
from symbols.layers import NormRelu, scale_pixels
from symbols.options import require_bool
from symbols.registry import register

CHANNELS = 32
EPSILON = 1e-3  # of every BatchNorm, Keras' default
SMALLEST = 38  # pixels, of which three rounds of convolution and pooling leave 3 for the fourth convolution
# Of KL and L1 together some 15 remain at the end of a training, of the gender's cross-entropy 0.2.
GENDER_WEIGHT = 10.0
FULL_SIZE = 128  # three quarters and one half of which are boxes of 96 and 64 pixels


class C3AE(CompactNet):
    """RGB 0..255 (N, 3, S, S) -> the heads. Plain, S is 64 in the source.

    `full`: the source cuts three boxes about the nose from the photo, each scaled to 64 pixels: the outermost about
    1.4, the middle 1.1 and the innermost 0.75 times as large as the face's box. A network here takes one image, so
    it crops centred boxes of S, 3/4 S and S/2 pixels and averages the larger ones down to S/2, exactly: 128 pixels give
    three images of 64. Its crop needs a margin, so that the outermost box shows context.
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
    """Crop (N, 3, size, size) to three of (N, 3, size/2, size/2): all, the middle three quarters, the middle half.

    They are scaled by averages over areas. For two thirds, every pixel is doubled and threes are averaged.
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
    """Build C3AE, age by two points, 36,345 parameters; `full` takes three crops of the face, `gender` adds P(male)."""
    arguments.setdefault("size", FULL_SIZE if full is True else 64)
    return C3AE(full=full, **arguments)
