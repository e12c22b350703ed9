"""The head of AGMixer: branches for age and gender, and a mixer of both ("AGMixer: age estimation
using gender feature and improved ordinal loss", ISCAS 2025; the blocks are those of Tolstikhin et al. 2021,
"MLP-Mixer")."""

from typing import Any

from mxnet.gluon import HybridBlock, nn


class Perceptron(HybridBlock):
    """Dense, GELU and dense (`units`) along the last axis, each dense layer followed by dropout."""

    def __init__(self, hidden: int, units: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.widen = nn.Dense(hidden, flatten=False)
            self.narrow = nn.Dense(units, flatten=False)
            self.dropout = nn.Dropout(dropout)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        hidden = F.LeakyReLU(self.widen(x), act_type="gelu")
        return self.dropout(self.narrow(self.dropout(hidden)))


class Branch(HybridBlock):
    """Features (N, C) -> (branch features (N, width), logits of `head` for these features)."""

    def __init__(self, width: int, head: HybridBlock, dropout: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.norm = nn.LayerNorm()
            self.perceptron = Perceptron(2 * width, width, dropout)
            self.shortcut = nn.Dense(width)
            self.head = head

    def hybrid_forward(self, F: Any, features: Any) -> Any:
        branched = self.perceptron(self.norm(features)) + self.shortcut(features)
        return branched, self.head(branched)


class MixerBlock(HybridBlock):
    """(N, tokens, width) -> same shape: perceptrons across the tokens, then the channels, each after a LayerNorm."""

    def __init__(self, tokens: int, width: int, expansion: int, dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.token_norm = nn.LayerNorm()
            self.across_tokens = Perceptron(tokens * expansion, tokens, dropout)
            self.channel_norm = nn.LayerNorm()
            self.across_channels = Perceptron(width * expansion, width, dropout)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        turned = F.transpose(self.token_norm(x), axes=(0, 2, 1))
        x = x + F.transpose(self.across_tokens(turned), axes=(0, 2, 1))
        return x + self.across_channels(self.channel_norm(x))


class Mixer(HybridBlock):
    """Two views (N, width) of the same faces -> (N, width): `depth` blocks, LayerNorm, maximum of both views."""

    def __init__(self, width: int, depth: int = 3, expansion: int = 4, dropout: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.blocks = nn.HybridSequential()
            for _ in range(depth):
                self.blocks.add(MixerBlock(2, width, expansion, dropout))
            self.norm = nn.LayerNorm()

    def hybrid_forward(self, F: Any, one: Any, other: Any) -> Any:
        tokens = F.concat(F.expand_dims(one, axis=1), F.expand_dims(other, axis=1), dim=1)
        return F.max(self.norm(self.blocks(tokens)), axis=1)
