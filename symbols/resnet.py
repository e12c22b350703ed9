"""Residual networks of Gluon's model zoo with the stem of face recognition (He et al. 2016, "Deep residual learning
for image recognition"; the stem is a 3x3 convolution of stride 1 without the maximum pooling, as for faces of 112)."""

from typing import Any

from mxnet.gluon import nn
from mxnet.gluon.model_zoo.vision import get_resnet

from symbols.network import AgeGenderNet
from symbols.registry import register


class ResNet(nn.HybridSequential):
    """(N, 3, S, S) scaled images -> (N, 512 or 2048, S / 8, S / 8) features, from 18, 34 or 50 layers."""

    def __init__(self, layers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            zoo = get_resnet(1, layers, thumbnail=True, prefix="zoo_")
            for layer in list(zoo.features)[:-1]:  # the last is the pooling
                self.add(layer)


@register
def resnet18(size: int = 112, **arguments: Any) -> AgeGenderNet:
    """Build ResNet-18: 11.2 million parameters."""
    return _resnet("resnet18", 18, size, **arguments)


@register
def resnet34(size: int = 112, **arguments: Any) -> AgeGenderNet:
    """Build ResNet-34: 21.3 million parameters."""
    return _resnet("resnet34", 34, size, **arguments)


@register
def resnet50(size: int = 112, **arguments: Any) -> AgeGenderNet:
    """Build ResNet-50: 23.7 million parameters, bottleneck blocks."""
    return _resnet("resnet50", 50, size, **arguments)


def _resnet(name, layers, size, **arguments):
    return AgeGenderNet(name, size, lambda prefix: ResNet(layers, prefix=prefix), {}, **arguments)
