"""AGMixer: age estimation with a gender feature ("AGMixer: age estimation using gender feature and improved ordinal
loss", ISCAS 2025). `agmixer_mobile` is a variant of this project for phones, without the transformer.

A gender branch and an age branch each take the normalised features. A mixer joins their outputs; the age classes are
predicted from the sum of its output and a projection of the features.
"""

from typing import Any, Callable

from mxnet.gluon import HybridBlock, nn

from symbols.heads.age_range import AgeClassesHead, AgeShareHead, require_range
from symbols.heads.gender import GenderHead
from symbols.heads.mixer import Branch, Mixer
from symbols.heads.order import ORDERS, order_loss
from symbols.layers import scale_pixels
from symbols.mobilenet import MobileNet, require_stem_stride
from symbols.network import FaceNet, split_labels
from symbols.options import require_count, require_share
from symbols.registry import register
from symbols.vit import VisualTransformer, scale_as_clip


class AGMixer(FaceNet):
    """A body, branches for a share of the age range ("age1") and for gender, the mixer, and classes of age ("age2").

    It returns (share logits (N, 1), class logits (N, K), gender logits (N, 2), joined features (N, mixer_width)).
    `create_body(prefix)`: a block from images, scaled by `scale(F, data)`, to features (N, C); `body_arguments`: the
    arguments of the network that determine the body. Classes are the years `age_min`..`age_max`, by default 0..100 as
    in the other heads; the source uses the range of each dataset: UTKFace 1..116, IMDB-Clean 1..95, AFAD 15..72, CACD
    14..62, AgeDB 1..101, FG-NET 0..69, CLAP 1..96. `order`: name of the loss that orders the joined features.
    """

    classes = ("age2.*",)

    def __init__(
        self,
        name: str,
        size: int,
        create_body: Callable[[str], HybridBlock],
        scale: Callable[[Any, Any], Any],
        body_arguments: dict,
        age_min: Any = 0,
        age_max: Any = 100,
        order: str = "iorder",
        mixer_width: int = 128,
        mixer_depth: int = 3,
        dropout: float = 0.5,
    ) -> None:
        require_range(age_min, age_max)
        if order not in ORDERS:
            raise ValueError(f"order: unknown '{order}'; choose one of {', '.join(ORDERS)}")
        require_count(mixer_width=mixer_width, mixer_depth=mixer_depth)
        require_share(dropout=dropout)
        options = {"age_min": age_min, "age_max": age_max, "order": order, "dropout": dropout}
        super().__init__(name, size, **options, mixer_width=mixer_width, mixer_depth=mixer_depth, **body_arguments)
        self.order, self.scale = order, scale
        with self.name_scope():
            self.body = create_body("body_")
            self.age1 = Branch(mixer_width, AgeShareHead(age_min, age_max, prefix="share_"), dropout, prefix="age1_")
            self.gender = Branch(mixer_width, GenderHead(prefix="head_"), dropout, prefix="gender_")
            self.mixer = Mixer(mixer_width, mixer_depth, dropout=dropout, prefix="mixer_")
            self.shortcut = nn.Dense(mixer_width, prefix="shortcut_")
            self.age2 = AgeClassesHead(age_min, age_max, prefix="age2_")

    def hybrid_forward(self, F: Any, data: Any) -> Any:
        features = self.body(self.scale(F, data))
        features = F.broadcast_div(features, F.sqrt(F.sum(features**2, axis=1, keepdims=True) + 1e-12))
        age_feature, share = self.age1(features)
        gender_feature, gender = self.gender(features)
        joined = self.shortcut(features) + self.mixer(age_feature, gender_feature)
        return share, self.age2(joined), gender, joined

    def loss(self, F: Any, outputs: Any, labels: Any) -> Any:
        """Return the losses (N,): half the RMS error of the share, the cross-entropies of class and gender,
        and the order loss. The first and the last are the same number for the whole batch. Pairs consist of exact ages
        only, since the distance between two intervals is unknown.
        """
        share, age_logits, gender_logits, joined = outputs
        gender, age_min, age_max = split_labels(F, labels)
        loss = 0.5 * self.age1.head.loss(F, share, age_min, age_max)
        loss = loss + self.age2.loss(F, age_logits, age_min, age_max)
        loss = loss + self.gender.head.loss(F, gender_logits, gender)
        if self.order != "none":
            exact = (age_min >= 0) * (age_min == age_max)
            age = F.clip(age_min, self.age2.first, self.age2.last)
            loss = F.broadcast_add(loss, order_loss(F, joined, age, exact, improved=self.order == "iorder"))
        return loss

    def decode(self, F: Any, outputs: Any) -> Any:
        return self.age2.decode(F, outputs[1]), self.gender.head.decode(F, outputs[2])

    def distribution(self, F: Any, outputs: Any) -> Any:
        return self.age2.distribution(F, outputs[1])


class PooledMobileNet(MobileNet):
    """MobileNet with average pooling, (N, C) features; its weights have the names of a `mobilenet025`'s body."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        maps = super().hybrid_forward(F, x)
        return F.flatten(F.Pooling(maps, kernel=(1, 1), pool_type="avg", global_pool=True))


@register
def agmixer(
    size: int = 224,
    patch: int = 16,
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    features: int = 512,
    **arguments: Any,
) -> AGMixer:
    """Build AGMixer on CLIP's ViT-B/16, to be trained from FaRL's or CLIP's weights: 87.1 million parameters."""
    shape = {"patch": patch, "width": width, "layers": layers, "heads": heads, "features": features}

    def body(prefix):
        return VisualTransformer(size, **shape, prefix=prefix)

    return AGMixer("agmixer", size, body, scale_as_clip, shape, **arguments)


@register
def agmixer_mobile(size: int = 112, stem_stride: int = 1, mixer_width: int = 28, **arguments: Any) -> AGMixer:
    """Build AGMixer on MobileNet 0.25: 1.27 MB, its graph counted; with a `mixer_width` of 32 it is 1.33."""
    require_stem_stride(stem_stride)

    def body(prefix):
        return PooledMobileNet(0.25, stem_stride, prefix=prefix)

    def scale(F, data):
        return scale_pixels(data)

    return AGMixer(
        "agmixer_mobile", size, body, scale, {"stem_stride": stem_stride}, mixer_width=mixer_width, **arguments
    )
