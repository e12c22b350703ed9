"""The vision transformer of CLIP (Dosovitskiy et al. 2021, "An image is worth 16x16 words"; Radford et al. 2021,
"Learning transferable visual models"), the body of AGMixer. FaRL's weights (Zheng et al. 2022) have this architecture.

Pre-LN blocks, QuickGELU, a class token whose last state is normed and projected to the features.
"""

from typing import Any

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from symbols.options import require_count

# Mean and standard deviation of CLIP's training images, RGB 0..1.
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def scale_as_clip(F: Any, data: Any) -> Any:
    """Normalise pixels 0..255 RGB (N, 3, H, W) to mean 0 and variance 1 per channel, as CLIP does."""
    channels = [F.slice_axis(data, axis=1, begin=index, end=index + 1) for index in range(3)]
    # A scalar per channel, not a constant (1, 3, 1, 1), which would be one parameter more than in the source.
    scaled = [(channel - 255 * mean) * (1 / (255 * spread)) for channel, mean, spread in zip(channels, MEAN, SPREAD)]
    return F.concat(*scaled, dim=1)


class Attention(HybridBlock):
    """Multi-head self-attention, (N, T, width) -> same shape. `width` must be a multiple of `heads`."""

    def __init__(self, width: int, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.heads = width, heads
        with self.name_scope():
            self.qkv = nn.Dense(3 * width, flatten=False, in_units=width)
            self.out = nn.Dense(width, flatten=False, in_units=width)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        qkv = self.qkv(x)
        query, key, value = (self._of_heads(F, qkv, part) for part in range(3))
        # Scaled before the product, so that the sums do not overflow in half precision.
        scores = F.linalg_gemm2(query * (self.width // self.heads) ** -0.5, F.transpose(key, axes=(0, 1, 3, 2)))
        mixed = F.linalg_gemm2(F.softmax(scores, axis=-1), value)
        return self.out(F.reshape(F.transpose(mixed, axes=(0, 2, 1, 3)), shape=(0, 0, self.width)))

    def _of_heads(self, F, qkv, part):
        """Return the query, key or value (N, heads, T, width / heads)."""
        one = F.slice_axis(qkv, axis=2, begin=part * self.width, end=(part + 1) * self.width)
        return F.transpose(F.reshape(one, shape=(0, 0, self.heads, self.width // self.heads)), axes=(0, 2, 1, 3))


class TransformerLayer(HybridBlock):
    """(N, T, width) -> same: attention, then a perceptron (4 * width), each after a LayerNorm, with shortcuts."""

    def __init__(self, width: int, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.ln_1 = nn.LayerNorm(in_channels=width)
            self.attention = Attention(width, heads)
            self.ln_2 = nn.LayerNorm(in_channels=width)
            self.widen = nn.Dense(4 * width, flatten=False, in_units=width)
            self.narrow = nn.Dense(width, flatten=False, in_units=4 * width)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = x + self.attention(self.ln_1(x))
        wide = self.widen(self.ln_2(x))
        return x + self.narrow(wide * F.sigmoid(1.702 * wide))  # QuickGELU


class VisualTransformer(HybridBlock):
    """(N, 3, size, size), scaled by `scale_as_clip` -> (N, features). The defaults are ViT-B/16, 86,192,640 parameters.

    Raises `ValueError` if `size` is not a multiple of `patch`, or `width` of `heads`.
    """

    def __init__(
        self,
        size: int = 224,
        patch: int = 16,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        features: int = 512,
        **kwargs: Any,
    ) -> None:
        require_count(patch=patch, width=width, layers=layers, heads=heads, features=features)
        if size % patch:
            raise ValueError(f"patch={patch}: must divide the size of {size} pixels")
        if width % heads:
            raise ValueError(f"heads={heads}: must divide the width of {width}")
        super().__init__(**kwargs)
        spread = init.Normal(width**-0.5)  # as in CLIP
        with self.name_scope():
            self.patches = nn.Conv2D(width, patch, patch, use_bias=False, in_channels=3)
            self.class_embedding = self.params.get("class_embedding", shape=(width,), init=spread)
            tokens = (size // patch) ** 2 + 1
            self.position_embedding = self.params.get("position_embedding", shape=(tokens, width), init=spread)
            self.ln_pre = nn.LayerNorm(in_channels=width)
            self.layers = nn.HybridSequential()
            for _ in range(layers):
                self.layers.add(TransformerLayer(width, heads))
            self.ln_post = nn.LayerNorm(in_channels=width)
            self.projection = nn.Dense(features, use_bias=False, in_units=width)

    def hybrid_forward(self, F: Any, x: Any, class_embedding: Any, position_embedding: Any) -> Any:
        patches = F.transpose(F.reshape(self.patches(x), shape=(0, 0, -1)), axes=(0, 2, 1))
        # The class token for every face of the batch; ncnn does not support `broadcast_to`.
        none = 0 * F.slice_axis(patches, axis=1, begin=0, end=1)
        token = F.broadcast_add(none, F.reshape(class_embedding, shape=(1, 1, -1)))
        tokens = F.concat(token, patches, dim=1)
        tokens = F.broadcast_add(tokens, F.expand_dims(position_embedding, axis=0))
        tokens = self.layers(self.ln_pre(tokens))
        first = F.squeeze(F.slice_axis(tokens, axis=1, begin=0, end=1), axis=1)
        return self.projection(self.ln_post(first))
