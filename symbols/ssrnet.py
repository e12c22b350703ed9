"""SSR-Net: two small streams, fused at three depths, each a stage of a soft stagewise regression.

Yang et al., IJCAI 2018, "SSR-Net: A Compact Soft Stagewise Regression Network for Age Estimation". 40,531 parameters;
`ssrnet_gender` is the same network with a score for gender, `ssrnet_multi` gives both from one body.
"""

from typing import Any, Dict, Optional

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from symbols.heads.ages import LAST_AGE, clip_to_head, distance_to_interval
from symbols.heads.stagewise import StagewiseHead
from symbols.layers import NormRelu, scale_pixels
from symbols.network import AGE, GENDER, FaceNet, split_labels
from symbols.options import is_number, require_bool, require_not_negative, require_share
from symbols.registry import register

YEARS = 101.0  # that a score of 1 stands for
EPSILON = 2e-5  # of every BatchNorm
SMALLEST = 38  # pixels, of which three rounds of convolution and pooling leave 3 for the last convolution
# Of each stage: the map of the streams that it sees, counted from the image, and how it is pooled.
STAGES = ((3, 0), (1, 4), (0, 8))
# The L1 of a gender score starts at 0.5, that of an age in UTKFace at some 15 years: 30 makes them weigh alike.
GENDER_WEIGHT = 30.0


class Streams(HybridBlock):
    """Scaled images (N, 3, S, S) -> flat maps s1, x1, s2, x2, s3, x3, each (N, 10 * side * side) of its stage.

    Stream x: 32 channels, ReLU, averages; stream s: 16 channels, tanh, maxima. `first_relu`: a ReLU behind the 1x1
    convolutions of stage 1 too, as in the Keras original; the existing MXNet checkpoints have none.
    """

    def __init__(self, first_relu: bool = False, prefix: Optional[str] = None) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            for stream, pool in (("s", nn.MaxPool2D), ("x", nn.AvgPool2D)):
                layers, maps = nn.HybridSequential(prefix=f"{stream}_"), nn.HybridSequential(prefix=f"{stream}_maps_")
                with layers.name_scope():
                    for depth in range(4):
                        layers.add(_convolution(stream, pool(2) if depth < 3 else None))
                with maps.name_scope():
                    for stage, (_, window) in enumerate(STAGES):
                        maps.add(_flat_map(first_relu or stage > 0, pool(window) if window else None))
                setattr(self, stream, layers)
                setattr(self, f"{stream}_maps", maps)

    def hybrid_forward(self, F: Any, images: Any) -> Any:
        flat = {}
        for stream, layers, maps in (("s", self.s, self.s_maps), ("x", self.x, self.x_maps)):
            seen = [images]
            for layer in layers:
                seen.append(layer(seen[-1]))
            flat[stream] = [block(seen[1 + depth]) for block, (depth, _) in zip(maps, STAGES)]
        return tuple(block for pair in zip(flat["s"], flat["x"]) for block in pair)


def _convolution(stream, pool):
    block = nn.HybridSequential(prefix="")
    if stream == "x":
        block.add(nn.Conv2D(32, 3), NormRelu(epsilon=EPSILON))
    else:
        block.add(nn.Conv2D(16, 3), nn.BatchNorm(epsilon=EPSILON), nn.Activation("tanh"))
    if pool:
        block.add(pool)
    return block


def _flat_map(relu, pool):
    block = nn.HybridSequential(prefix="")
    block.add(nn.Conv2D(10, 1))
    if relu:
        block.add(nn.Activation("relu"))
    if pool:
        block.add(pool)
    block.add(nn.Flatten())
    return block


class SSRNet(FaceNet):
    """Streams, and a stagewise head for each output. Calling it gives a tuple of scores (N, 1), in order of `weights`.

    `weights`: {output: its weight in the loss}. `scaled`: (x - 127.5) / 128 inside of the graph, as the MXNet
    checkpoints have it; False: raw 0..255, as the Keras ones. `lambda_local` and `lambda_d` scale the shift of the bins
    and the stretch of the stages. Raises `ValueError` for a size below 38 pixels.
    """

    def __init__(
        self,
        name: str,
        size: int,
        weights: Dict[str, float],
        arguments: dict,
        scaled: bool = True,
        dropout: float = 0.2,
        lambda_local: float = 1.0,
        lambda_d: float = 1.0,
        first_relu: bool = False,
    ) -> None:
        require_bool(scaled=scaled, first_relu=first_relu)
        require_share(dropout=dropout)
        for option, value in (("lambda_local", lambda_local), ("lambda_d", lambda_d)):
            if not (is_number(value) and 0 <= value <= 1):
                raise ValueError(f"{option}={value}: must be a number of 0 to 1")
        head: Dict[str, Any] = {"dropout": dropout, "lambda_local": lambda_local, "lambda_d": lambda_d}
        super().__init__(name, size, SMALLEST, scaled=scaled, first_relu=first_relu, **head, **arguments)
        self.scaled, self.weights = scaled, weights
        self.answers = {answer: kind for answer, kind in {**AGE, **GENDER}.items() if answer in weights}
        with self.name_scope():
            self.body = Streams(first_relu, prefix="body_")
            if "age" in weights:
                self.age = StagewiseHead(start=0.3, prefix="age_", **head)
            if "p_male" in weights:
                self.gender = StagewiseHead(start=0.5, prefix="gender_", **head)

    def hybrid_forward(self, F: Any, data: Any) -> Any:
        maps = self.body(scale_pixels(data) if self.scaled else data)
        heads = {"age": "age", "p_male": "gender"}
        return tuple(getattr(self, heads[answer])(*maps) for answer in self.answers)

    def loss(self, F: Any, outputs: Any, labels: Any) -> Any:
        """Return the L1 loss: of the age to the label's interval in years, of the gender score to 0 or 1."""
        gender, age_min, age_max = split_labels(F, labels)
        losses = []
        for answer, score in zip(self.answers, outputs):
            if answer == "age":
                off = distance_to_interval(F, YEARS * score, clip_to_head(F, age_min), clip_to_head(F, age_max))
                known = age_min >= 0
            else:
                off, known = F.abs(score - gender), gender >= 0
            losses.append(self.weights[answer] * known * off)
        return F.squeeze(sum(losses[1:], losses[0]), axis=1)

    def decode(self, F: Any, outputs: Any) -> Any:
        """Return age in years, 0 to 100, and P(male), which is the score clipped to 0..1 and not a calibrated
        probability."""
        ends = {"age": (YEARS, LAST_AGE), "p_male": (1.0, 1.0)}
        return tuple(
            F.clip(ends[answer][0] * score, 0, ends[answer][1]) for answer, score in zip(self.answers, outputs)
        )

    def initialize_for_training(self, ctx: Any) -> None:
        """Initialise with Glorot's uniform weights, as the source does; biases start where no ReLU of a head is
        dead."""
        self.initialize(init.Xavier(), ctx=ctx)


@register
def ssrnet(size: int = 64, **arguments: Any) -> SSRNet:
    """Build SSR-Net, age by soft stagewise regression, 40,531 parameters."""
    return SSRNet("ssrnet", size, {"age": 1.0}, {}, **arguments)


@register
def ssrnet_gender(size: int = 64, **arguments: Any) -> SSRNet:
    """Build SSR-Net with a gender score, over 0.5 male."""
    return SSRNet("ssrnet_gender", size, {"p_male": 1.0}, {}, **arguments)


@register
def ssrnet_multi(size: int = 64, gender_weight: float = GENDER_WEIGHT, **arguments: Any) -> SSRNet:
    """Build SSR-Net with age and gender from one body; `gender_weight` of the gender score's L1 against years."""
    require_not_negative(gender_weight=gender_weight)
    weights = {"age": 1.0, "p_male": gender_weight}
    return SSRNet("ssrnet_multi", size, weights, {"gender_weight": gender_weight}, **arguments)
