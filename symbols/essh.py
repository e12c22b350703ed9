"""ESSH, the face detector: a small body, fused feature maps, and a context head at strides 32, 16 and 8.

After "SSH: Single Stage Headless Face Detector" (Najibi et al., ICCV 2017), with its VGG16 body as an option, and with
the five landmarks and the top-down path over all three maps of RetinaFace (Deng et al., CVPR 2020).
"""

from typing import Any

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from symbols.layers import NormRelu, scale_pixels
from symbols.mobilenet import MobileNet
from symbols.network import fuse_norms
from symbols.options import is_whole
from symbols.registry import register_detector

STRIDES = (32, 16, 8)  # in the order of the outputs
ANCHORS = 2  # per position of a map
POINTS = 5
KINDS = ("score", "box", "landmarks")
OUTPUTS = tuple(f"{kind}{stride}" for stride in STRIDES for kind in KINDS)
NEGATIVES = 3  # hard negatives per face anchor
MIN_NEGATIVES = 16  # per image
SHARP = 8.0  # smooth L1 changes from quadratic to linear at 1 / SHARP**2 of an anchor's side


class MobileNetStages(HybridBlock):
    """Scaled images -> MobileNet 0.25's maps at strides 8, 16 and 32, of 64, 128 and 256 channels."""

    # Numbers of layers: a convolution and a norm for the stem, two of each per block.
    ENDS = (2 + 4 * 5, 2 + 4 * 11, 2 + 4 * 13)

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.layers = MobileNet(0.25, stem_stride=2, prefix="")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return _split(self.layers, self.ENDS, x)


class VGG16Stages(HybridBlock):
    """Scaled images -> VGG16's maps at strides 8, 16 and 32 (its fifth pooling), of 512 channels each."""

    BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix=prefix)
        ends = []
        with self.name_scope():
            self.layers = nn.HybridSequential(prefix="")
            for number, (convolutions, channels) in enumerate(self.BLOCKS):
                for _ in range(convolutions):
                    self.layers.add(nn.Conv2D(channels, 3, padding=1, activation="relu"))
                if number >= 3:
                    ends.append(len(self.layers))
                self.layers.add(nn.MaxPool2D(ceil_mode=True))
        self.ends = (*ends, len(self.layers))

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return _split(self.layers, self.ends, x)


BODIES = {"mobilenet025": MobileNetStages, "vgg16": VGG16Stages}


def _split(layers, ends, x):
    """Return the outputs of a sequence of layers after `ends[0]`, `ends[1]`, .. layers."""
    maps = []
    for number, layer in enumerate(layers, 1):
        x = layer(x)
        if number in ends:
            maps.append(x)
    return tuple(maps)


class Fusion(HybridBlock):
    """Maps at strides 8, 16 and 32 -> maps of `width` channels at 32, 16 and 8: a coarse map is upsampled by two and
    added to the next finer one, and a convolution blends them. The upsampled map is cropped to the finer one's size."""

    def __init__(self, width: int, prefix: str) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.lateral32, self.lateral16, self.lateral8 = (_convolution(width, 1) for _ in STRIDES)
            self.blend16, self.blend8 = _convolution(width, 3), _convolution(width, 3)

    def hybrid_forward(self, F: Any, map8: Any, map16: Any, map32: Any) -> Any:
        map32 = self.lateral32(map32)
        map16 = self.blend16(_add_coarser(F, self.lateral16(map16), map32))
        map8 = self.blend8(_add_coarser(F, self.lateral8(map8), map16))
        return map32, map16, map8


def _add_coarser(F, fine, coarse):
    return fine + F.slice_like(F.UpSampling(coarse, scale=2, sample_type="nearest"), fine, axes=(2, 3))


def _convolution(channels, kernel, relu=True):
    """Convolution and BatchNorm, with a ReLU or without."""
    layers = nn.HybridSequential(prefix="")
    layers.add(nn.Conv2D(channels, kernel, padding=kernel // 2, use_bias=False), NormRelu() if relu else nn.BatchNorm())
    return layers


class ContextHead(HybridBlock):
    """A map -> class logits, box deltas and landmark deltas: half of the features have a receptive field of 3x3, a
    quarter 5x5 and a quarter 7x7, from stacked 3x3 convolutions (SSH, figure 4)."""

    def __init__(self, width: int, prefix: str) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.near = _convolution(width // 2, 3, relu=False)
            self.context = _convolution(width // 4, 3)
            self.wide = _convolution(width // 4, 3, relu=False)
            self.wider = nn.HybridSequential(prefix="")
            self.wider.add(_convolution(width // 4, 3), _convolution(width // 4, 3, relu=False))
            self.score = nn.Conv2D(2 * ANCHORS, 1, prefix="score_")
            self.box = nn.Conv2D(4 * ANCHORS, 1, prefix="box_")
            self.landmarks = nn.Conv2D(2 * POINTS * ANCHORS, 1, prefix="landmarks_")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        context = self.context(x)
        merged = F.concat(self.near(x), self.wide(context), self.wider(context), dim=1)
        merged = F.Activation(merged, act_type="relu")
        return self.score(merged), self.box(merged), self.landmarks(merged)


class ESSH(HybridBlock):
    """(N, 3, H, W) RGB 0..255 float32 -> nine maps: for stride 32, 16, 8 class logits (N, 4, h, w) =
    [background a0, background a1, face a0, face a1], box deltas (N, 8, h, w) and landmark deltas (N, 20, h, w), whose
    channel is anchor * k + j. h and w are H and W over the stride, rounded up.

    `body`: "mobilenet025" or "vgg16". `width`: channels of the fused maps; with VGG16, the other widths are those of
    the paper. `slim()` returns a network with class probabilities instead of logits.
    """

    def __init__(self, body: str = "mobilenet025", width: int = 64) -> None:
        if body not in BODIES:
            raise ValueError(f"body={body}: choose one of {', '.join(BODIES)}")
        if not (is_whole(width) and width >= 8 and width % 4 == 0):
            raise ValueError(f"width={width}: must be a multiple of 4, at least 8")
        super().__init__(prefix="essh_")
        self.arguments = {"name": "essh", "body": body, "width": width}
        with self.name_scope():
            self.body = BODIES[body]("body_")
            self.fusion = Fusion(width, prefix="fusion_")
            for stride in STRIDES:
                setattr(self, f"head{stride}", ContextHead(width, prefix=f"head{stride}_"))

    def hybrid_forward(self, F: Any, data: Any) -> Any:
        maps = self.fusion(*self.body(scale_pixels(data)))
        return sum((getattr(self, f"head{stride}")(each) for stride, each in zip(STRIDES, maps)), ())

    def loss(self, F: Any, outputs: Any, faces: Any, boxes: Any, landmarks: Any) -> Any:
        """Return three losses (N,): softmax with hard negative mining, smooth L1 of boxes, and of landmarks.

        `outputs`: nine maps. For the A anchors of all maps, in the order of `anchors.lay_anchors`: `faces`
        (N, A) 2 for a face, 1 for a face with unknown landmarks, 0 for background, -1 to ignore; `boxes` (N, A, 4) and
        `landmarks` (N, A, 10) deltas.
        """
        logits = F.concat(*[F.reshape(each, shape=(0, 2, -1)) for each in outputs[0::3]], dim=2)  # (N, 2, A)
        entropy = -F.pick(F.log_softmax(logits, axis=1), F.clip(faces, 0, 1), axis=1)  # (N, A)
        is_face, is_background, has_landmarks = faces >= 1, faces == 0, faces == 2
        count = F.sum(is_face, axis=1, keepdims=True)
        hardness = F.BlockGrad(F.where(is_background, entropy, -F.ones_like(entropy)))
        rank = F.argsort(F.argsort(hardness, axis=1, is_ascend=False), axis=1)
        is_hard = F.broadcast_lesser(rank, F.maximum(NEGATIVES * count, MIN_NEGATIVES)) * is_background
        chosen = is_face + is_hard
        weight = 1 / F.maximum(F.sum(chosen, axis=1), 1)
        terms = [F.sum(entropy * chosen, axis=1) * weight]
        for maps, targets, mask, size in (
            (outputs[1::3], boxes, is_face, 4),
            (outputs[2::3], landmarks, has_landmarks, 10),
        ):
            deltas = F.concat(*[_by_anchor(F, each, size) for each in maps], dim=1)  # (N, A, size)
            off = F.smooth_l1(F.broadcast_mul(deltas - targets, mask.expand_dims(2)), scalar=SHARP)
            terms.append(F.sum(off, axis=(1, 2)) / F.maximum(F.sum(mask, axis=1), 1))
        return tuple(terms)

    def initialize_for_training(self, ctx: Any) -> None:
        """Initialise the weights by Xavier (Glorot and Bengio)."""
        self.initialize(init.Xavier(), ctx=ctx)

    def decode(self, F: Any, outputs: Any) -> Any:
        """Return the nine maps with class probabilities instead of logits, which are the outputs of `slim()`."""
        return tuple(_to_probability(F, each) if i % 3 == 0 else each for i, each in enumerate(outputs))

    def fuse(self, fused: bool = True) -> None:
        """Fuse like `FaceNet.fuse`, if oneDNN supports the width: 8, 24, 32 and 40 fail."""
        fuse_norms(self, fused and self.arguments["width"] % 64 == 0)

    def slim(self) -> "SlimDetector":
        """Return the same network for deployment: outputs named as in `OUTPUTS`, probabilities in `score32`, .."""
        self.fuse(False)
        self.hybridize(False)
        slim = SlimDetector(self)
        slim.hybridize()
        return slim


@register_detector
def essh(body: str = "mobilenet025", width: int = 64) -> ESSH:
    """Build a detector of faces and their five landmarks: 433,296 parameters with the body of MobileNet 0.25."""
    return ESSH(body, width)


class SlimDetector(HybridBlock):
    """The deployed form: probabilities, not logits."""

    def __init__(self, network: HybridBlock) -> None:
        super().__init__(prefix="")
        self.network = network

    def hybrid_forward(self, F: Any, data: Any) -> Any:
        maps = self.network.decode(F, self.network(data))
        return [F.identity(value, name=name) for name, value in zip(OUTPUTS, maps)]


def _to_probability(F, logits):
    """Return class probabilities for logits (N, 4, h, w).

    A softmax of two logits is a sigmoid of their difference, which all export formats support.
    """
    background, face = (F.slice_axis(logits, axis=1, begin=i * ANCHORS, end=(i + 1) * ANCHORS) for i in (0, 1))
    return F.concat(F.sigmoid(background - face), F.sigmoid(face - background), dim=1)


def _by_anchor(F, deltas, size):
    """Reshape (N, ANCHORS * size, h, w) to (N, ANCHORS * h * w, size)."""
    split = F.reshape(deltas, shape=(0, ANCHORS, size, -1))
    return F.reshape(F.transpose(split, axes=(0, 1, 3, 2)), shape=(0, -1, size))
