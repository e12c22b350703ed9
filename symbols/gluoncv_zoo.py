"""Any backbone of GluonCV's model zoo with the heads of this package: `symbols.create("gluoncv:mobilenetv2_0.5")`.

A network of the zoo is traced as a symbol and cut where its map of features is pooled, whatever the names of its
attributes. The layers before that stay as the zoo has them, its stem too; pixels are scaled to -1..1.
"""

import difflib
import json
import warnings
from typing import Any, Callable, Optional

import mxnet as mx
from mxnet.gluon import HybridBlock, SymbolBlock, nn

from symbols.network import AgeGenderNet
from symbols.options import require_bool
from symbols.registry import register_family

FAMILY = "gluoncv"
# The zoo's modules of classifiers. Others detect, segment or classify videos, and some of those load files when built.
CLASSIFIERS = ("alexnet", "cifarresnet", "cifarresnext", "cifarwideresnet", "darknet", "densenet", "dla", "googlenet")
CLASSIFIERS += ("hrnet", "inception", "mobilenet", "mobilenetv3", "nasnet", "residual_attentionnet", "resnest")
CLASSIFIERS += ("resnet", "resnetv1b", "resnext", "senet", "shufflenet", "squeezenet", "vgg", "xception")
# Operators between the last feature map and the output; poolings of a fixed size would not fit other image sizes.
TAIL = ("Pooling", "Dropout", "Flatten", "Reshape", "FullyConnected")


@register_family(FAMILY)
def create_from_zoo(member: str, size: int = 112, face_stem: bool = False, **arguments: Any) -> AgeGenderNet:
    """Build the network "gluoncv:MEMBER". `face_stem`: a ResNet (v1, v1b and their kin) begins with a 3x3 convolution
    of stride 1 and without pooling, as for faces of 112; by default as in the zoo, mostly 7x7 of stride 2 and a
    pooling.

    Raises `ValueError` if gluoncv is missing, has no such network, or that has no feature map to pool.
    """
    require_bool(face_stem=face_stem)
    find_builder(member)

    def body(prefix):
        return ZooBody(member, size, face_stem, prefix=prefix)

    return AgeGenderNet(f"{FAMILY}:{member}", size, body, {"face_stem": face_stem}, **arguments)


def find_builder(member: str) -> Callable:
    """Return the zoo's function for a name. Raises `ValueError` for an unknown name or one that is not a classifier."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies' ages, and of torch
            from gluoncv.model_zoo.model_zoo import _models as builders
    except ImportError:
        raise ValueError(f"network {FAMILY}:{member}: gluoncv is not installed; `make` installs it") from None
    builder = builders.get(member)
    if builder is None:
        known = [name for name in builders if is_classifier(builders[name])]
        nearest = difflib.get_close_matches(member, known, 5, cutoff=0.4) or sorted(known)[:5]
        raise ValueError(f"network: GluonCV has no '{member}'; the nearest are {', '.join(nearest)}")
    if not is_classifier(builder):
        raise ValueError(f"network {FAMILY}:{member}: is not an image classifier, so it has no feature map to pool")
    return builder


def is_classifier(builder: Callable) -> bool:
    return name_module(builder) in CLASSIFIERS


def name_module(builder: Callable) -> str:
    return builder.__module__.rpartition(".")[2]


class ZooBody(HybridBlock):
    """(N, 3, size, size) scaled images -> (N, C, H, W) features of a network of the zoo, initialised afresh."""

    def __init__(self, member: str, size: int, face_stem: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        builder = find_builder(member)
        with self.name_scope(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zoo = build_with_face_stem(builder, member) if face_stem else builder(pretrained=False)
            features = trace_features(zoo, member, size)
            self.features = SymbolBlock(features, mx.sym.var("data"), params=zoo.collect_params())

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.features(x)


def build_with_face_stem(builder: Callable, member: str) -> Any:
    """Build a ResNet with a stem of stride 1, without pooling. Raises `ValueError` for a network of another family."""
    module = name_module(builder)
    if module == "resnet":
        return builder(pretrained=False, thumbnail=True)
    if module != "resnetv1b":
        raise ValueError(f"network {FAMILY}:{member}: face_stem is for the ResNets v1, v1b and their kin")
    zoo = builder(pretrained=False)
    if isinstance(zoo.conv1, nn.Conv2D):
        with zoo.name_scope():
            zoo.conv1 = nn.Conv2D(64, 3, 1, 1, use_bias=False, prefix="stem_")
    else:  # three 3x3 convolutions, the first of stride 2
        zoo.conv1[0]._kwargs["stride"] = (1, 1)
    zoo.maxpool = nn.MaxPool2D(1, 1)  # of one pixel: nothing
    return zoo


def trace_features(zoo: Any, member: str, size: int) -> Any:
    """Return the symbol of the last feature map (N, C, H, W) that a classifier of the zoo computes from `data`."""
    data = mx.sym.var("data")
    symbol, found = zoo(data), False
    if not isinstance(symbol, (list, tuple)) and find_rank(symbol, size) in (2, None):
        if hasattr(zoo, "features") and hasattr(zoo, "output"):  # which may be a convolution: the zoo's own cut
            symbol = zoo.features(data)
        while find_operation(symbol) in TAIL or is_activated_row(symbol, size):
            symbol = symbol.get_children()[0]
        found = find_rank(symbol, size) == 4
    if not found:
        raise ValueError(f"network {FAMILY}:{member}: at {size} pixels it has no feature map to pool")
    return symbol


def find_rank(symbol: Any, size: int) -> Optional[int]:
    """Return the number of dimensions of a symbol's output for images of this size; None if the size does not fit."""
    try:
        return len(symbol.infer_shape_partial(data=(1, 3, size, size))[1][0])
    except mx.MXNetError:
        return None


def is_activated_row(symbol: Any, size: int) -> bool:
    """Return whether a symbol is an activation between two dense layers."""
    return find_operation(symbol) == "Activation" and find_rank(symbol, size) == 2


def find_operation(symbol: Any) -> str:
    graph = json.loads(symbol.tojson())
    return graph["nodes"][graph["heads"][0][0]]["op"]
