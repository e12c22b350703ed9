"""MobileNet v1, the body of the smallest models (Howard et al. 2017, "MobileNets", table 1)."""

from typing import Any

from mxnet.gluon import nn

from symbols.layers import NormRelu
from symbols.network import AgeGenderNet
from symbols.options import is_whole, require_bool
from symbols.registry import register

# (channels at multiplier 1, stride) of each depthwise-separable block, in order.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class MobileNet(nn.HybridSequential):
    """(N, 3, S, S) scaled images -> (N, 1024 * multiplier, S', S') features, S' = S / (16 * stem_stride).

    `stem_stride` is 2 in the paper; 1 keeps a 112-pixel face at full resolution in the first block, at four times the
    cost. `prelu` adds a BatchNorm and a PReLU after the last block, as MXNet face recognition trainers do ("GAP").
    """

    def __init__(self, multiplier: float = 0.25, stem_stride: int = 1, prelu: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            channels = int(32 * multiplier)
            self._convolution(channels, 3, stem_stride)
            for wide, stride in BLOCKS:
                self._convolution(channels, 3, stride, groups=channels)
                channels = int(wide * multiplier)
                self._convolution(channels, 1, 1)
            if prelu:
                self.add(nn.BatchNorm(epsilon=2e-5), nn.PReLU(in_channels=channels))

    def _convolution(self, channels, kernel, stride, groups=1):
        self.add(nn.Conv2D(channels, kernel, stride, kernel // 2, groups=groups, use_bias=False))
        self.add(NormRelu())


@register
def mobilenet025(size: int = 112, **arguments: Any) -> AgeGenderNet:
    """Build MobileNet with a quarter of the channels: about 240,000 parameters, one megabyte."""
    return _mobilenet("mobilenet025", 0.25, size, **arguments)


@register
def mobilenet050(size: int = 112, **arguments: Any) -> AgeGenderNet:
    """Build MobileNet with half of the channels: about 870,000 parameters."""
    return _mobilenet("mobilenet050", 0.5, size, **arguments)


@register
def mobilenet100(size: int = 112, **arguments: Any) -> AgeGenderNet:
    """Build MobileNet at full width: about 3.3 million parameters."""
    return _mobilenet("mobilenet100", 1.0, size, **arguments)


def require_stem_stride(stem_stride: int) -> None:
    """Raise `ValueError` unless the stride is 1 or 2."""
    if not (is_whole(stem_stride) and stem_stride in (1, 2)):
        raise ValueError(f"stem_stride={stem_stride}: must be 1 or 2")


def _mobilenet(name, multiplier, size, stem_stride=1, prelu=False, **arguments):
    require_stem_stride(stem_stride)
    require_bool(prelu=prelu)

    def body(prefix):
        return MobileNet(multiplier, stem_stride, prelu, prefix=prefix)

    return AgeGenderNet(name, size, body, {"stem_stride": stem_stride, "prelu": prelu}, **arguments)
