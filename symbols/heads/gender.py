"""Gender: two logits (0 female, 1 male), softmax cross-entropy."""

from typing import Any

from mxnet.gluon import HybridBlock, nn


class GenderHead(HybridBlock):
    """Features (N, C) -> logits (N, 2)."""

    def __init__(self, prefix: str = "gender_") -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.dense = nn.Dense(2)

    def hybrid_forward(self, F: Any, features: Any) -> Any:
        return self.dense(features)

    def loss(self, F: Any, logits: Any, gender: Any) -> Any:
        """Return the cross-entropy (N,) against gender (N, 1); 0 where it is -1."""
        known = F.squeeze(gender >= 0, axis=1)
        chosen = F.pick(F.log_softmax(logits), F.squeeze(F.relu(gender), axis=1))
        return -known * chosen

    def decode(self, F: Any, logits: Any) -> Any:
        """Return P(male), (N, 1)."""
        return F.slice_axis(F.softmax(logits), axis=1, begin=1, end=2)
