"""EfficientNetV2, the body of the networks for age groups (Tan & Le 2021, "EfficientNetV2: Smaller Models and Faster
Training": table 4 for S; B0 is the base that the authors published with their code, a third of it).

Its early blocks are fused: one full convolution for the pointwise and the depthwise one of an inverted residual block.
"""

from typing import Any, Sequence

from mxnet.gluon import HybridBlock, nn

from symbols.network import AgeGenderNet
from symbols.options import require_share
from symbols.registry import register

# (expansion, stride, channels, layers, fused) of each stage; kernels are 3x3.
S = (24, (1, 1, 24, 2, True), (4, 2, 48, 4, True), (4, 2, 64, 4, True))
S += ((4, 2, 128, 6, False), (6, 1, 160, 9, False), (6, 2, 256, 15, False))
B0 = (32, (1, 1, 16, 1, True), (4, 2, 32, 2, True), (4, 2, 48, 2, True))
B0 += ((4, 2, 96, 3, False), (6, 1, 112, 5, False), (6, 2, 192, 8, False))
LAST_CHANNELS = 1280
SQUEEZE = 4  # squeeze-and-excitation has a quarter of the channels that come into a block
EPSILON = 1e-3  # of every BatchNorm


class SiLU(HybridBlock):
    """x * sigmoid(x), of any shape."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return x * F.sigmoid(x)


class ConvNorm(nn.HybridSequential):
    """Convolution, BatchNorm and, where `active`, SiLU; (N, C, H, W) -> (N, channels, H / stride, W / stride)."""

    def __init__(
        self, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1, active: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.add(nn.Conv2D(channels, kernel, stride, kernel // 2, groups=groups, use_bias=False))
            self.add(nn.BatchNorm(epsilon=EPSILON))
            if active:
                self.add(SiLU())


class SqueezeExcite(HybridBlock):
    """Channels weighted by their means over the whole image (Hu et al. 2018); (N, C, H, W) -> the same."""

    def __init__(self, channels: int, squeezed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.pool = nn.GlobalAvgPool2D()
            self.squeeze = nn.Conv2D(squeezed, 1)
            self.silu = SiLU()
            self.excite = nn.Conv2D(channels, 1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.broadcast_mul(x, F.sigmoid(self.excite(self.silu(self.squeeze(self.pool(x))))))


class Block(HybridBlock):
    """An inverted residual block, (N, came, H, W) -> (N, channels, H / stride, W / stride).

    In training the branch of a face is left out with the probability `drop`, each face by itself, where there is a
    shortcut (stochastic depth, Huang et al. 2016); what is kept is divided by 1 - drop, so inference changes nothing.
    """

    def __init__(
        self, came: int, channels: int, expansion: int, stride: int, fused: bool, drop: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.shortcut = stride == 1 and came == channels
        wide = came * expansion
        with self.name_scope():
            self.branch = nn.HybridSequential(prefix="")
            if fused and expansion == 1:
                self.branch.add(ConvNorm(channels, 3, stride))
            elif fused:
                self.branch.add(ConvNorm(wide, 3, stride), ConvNorm(channels, 1, active=False))
            else:
                self.branch.add(ConvNorm(wide, 1), ConvNorm(wide, 3, stride, groups=wide))
                self.branch.add(SqueezeExcite(wide, came // SQUEEZE), ConvNorm(channels, 1, active=False))
            # A dropout of one number a face: inference and slim() already treat a dropout as the identity.
            self.drop = nn.Dropout(drop, axes=(1, 2, 3)) if self.shortcut and drop else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        y = self.branch(x)
        if self.drop is not None:
            y = self.drop(y)
        return x + y if self.shortcut else y


class EfficientNetV2(nn.HybridSequential):
    """(N, 3, S, S) scaled images -> (N, 1280, S / 32, S / 32) features.

    `drop`: the probability of leaving out a block's branch, rising from 0 at the first block.
    """

    def __init__(self, plan: Sequence, drop: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        came, *stages = plan
        total, placed = sum(layers for _, _, _, layers, _ in stages), 0
        with self.name_scope():
            self.add(ConvNorm(came, 3, 2))
            for expansion, stride, channels, layers, fused in stages:
                for layer in range(layers):
                    step = stride if layer == 0 else 1
                    self.add(Block(came, channels, expansion, step, fused, drop * placed / total))
                    came, placed = channels, placed + 1
            self.add(ConvNorm(LAST_CHANNELS, 1))


@register
def efficientnetv2_s(size: int = 128, **arguments: Any) -> AgeGenderNet:
    """Build EfficientNetV2-S: 20.2 million parameters without the heads."""
    return _efficientnetv2("efficientnetv2_s", S, size, **arguments)


@register
def efficientnetv2_b0(size: int = 128, **arguments: Any) -> AgeGenderNet:
    """Build EfficientNetV2-B0: 5.9 million parameters without the heads."""
    return _efficientnetv2("efficientnetv2_b0", B0, size, **arguments)


def _efficientnetv2(name, plan, size, age_head="groups", stochastic_depth=0.2, **arguments):
    require_share(stochastic_depth=stochastic_depth)

    def body(prefix):
        return EfficientNetV2(plan, stochastic_depth, prefix=prefix)

    return AgeGenderNet(name, size, body, {"stochastic_depth": stochastic_depth}, age_head=age_head, **arguments)
