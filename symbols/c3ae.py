"""C3AE: four convolutions of 32 channels, and the age as two neighbouring decades.

Zhang et al., CVPR 2019, "C3AE: Exploring the Limits of Compact Model for Age Estimation". Plain, one picture: 36,345
parameters, which is: biases on the 3x3 convolutions (896 + 3 * 9,248), none on the 1x1 one (1,024), four BatchNorms and
their running statistics (4 * 128), 6,156 for the twelve bins and 13 for the age. Full, three crops of one face through
shared weights: the bins then see 1,536 features in place of 512.
"""

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
    1.4, the middle 1.1 and the innermost 0.75 times as large as the face's box. A network of ours sees one picture, so
    it cuts centred boxes of S, 3/4 S and S/2 pixels and averages the larger ones down to S/2, exactly: 128 pixels give
    three pictures of 64. Its crop wants a margin, so that the outermost has context to show.
    """

    def __init__(self, size, full=False, age_head="two_point", gender=False, gender_weight=GENDER_WEIGHT):
        require_bool(full=full)
        smallest = 2 * SMALLEST if full else SMALLEST
        super().__init__("c3ae", size, smallest, age_head, gender, gender_weight, full=full)
        if full and size % 8:
            raise ValueError(f"size={size}: a multiple of 8 is wanted for the three boxes of full=true")
        self.full = full
        with self.name_scope():
            self.body = _body()

    def see(self, F, data):
        scaled = scale_pixels(data)
        if not self.full:
            return self.body(scaled)
        return F.concat(*(self.body(box) for box in cut_boxes(F, scaled, self.size)), dim=1)


def cut_boxes(F, images, size):
    """(N, 3, size, size) -> three of (N, 3, size/2, size/2): all of it, the middle three quarters, the middle half.

    Averages over areas. Two thirds are doubling every pixel and averaging threes.
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
def c3ae(full=False, **arguments):
    """Age by two points, 36,345 parameters; `full` sees three crops of the face, and `gender` adds P(male)."""
    arguments.setdefault("size", FULL_SIZE if full is True else 64)
    return C3AE(full=full, **arguments)
