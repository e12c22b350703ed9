"""Age by 100 binary decisions "older than k years", k = 0..99 (Niu et al. 2016, "Ordinal regression with multiple
output CNN"; as in the existing 1 MB MXNet checkpoints)."""

from typing import Any, Optional

from mxnet.gluon import nn

from symbols.heads.ages import LAST_AGE, AgeHead, clip_to_head
from symbols.options import require_not_negative


class OrdinalHead(AgeHead):
    """Features (N, C) -> logits (N, 100) of "older than k". The age is the sum of the probabilities.

    `weight` scales the loss, a sum over 100 decisions, to the magnitude of a softmax loss over ages.
    """

    units = LAST_AGE

    def __init__(self, weight: float = 0.1, prefix: Optional[str] = None) -> None:
        require_not_negative(weight=weight)
        super().__init__(prefix=prefix)
        self.weight = float(weight)
        with self.name_scope():
            self.dense = nn.Dense(self.units)

    def hybrid_forward(self, F: Any, features: Any) -> Any:
        return self.dense(features)

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return sums of binary cross-entropies (N,). For an interval, only the decisions that it determines count:
        k < age_min is "older", k >= age_max is "not older". As in the existing trainers, age 0 counts as 1."""
        low, high = F.maximum(clip_to_head(F, age_min), 1), F.maximum(clip_to_head(F, age_max), 1)
        z = self._older_logits(F, logits)
        k = F.expand_dims(F.contrib.arange_like(z, axis=1), axis=0)
        older, not_older = F.broadcast_lesser(k, low), F.broadcast_greater_equal(k, high)
        losses = older * F.Activation(-z, "softrelu") + not_older * F.Activation(z, "softrelu")
        return F.squeeze(age_min >= 0, axis=1) * self.weight * F.sum(losses, axis=1)

    def distribution(self, F: Any, logits: Any) -> Any:
        """Return P(age = a) = P(older than a-1) - P(older than a); negative differences become 0."""
        older = F.sigmoid(self._older_logits(F, logits))
        certain = F.ones_like(F.slice_axis(older, axis=1, begin=0, end=1))
        steps = F.relu(F.concat(certain, older, dim=1) - F.concat(older, 0 * certain, dim=1))
        return F.broadcast_div(steps, F.sum(steps, axis=1, keepdims=True))

    def decode(self, F: Any, logits: Any) -> Any:
        return F.sum(F.sigmoid(self._older_logits(F, logits)), axis=1, keepdims=True)

    def _older_logits(self, F, logits):
        return logits


class OrdinalPairsHead(OrdinalHead):
    """Features (N, C) -> logits (N, 200): pair k is (not older than k, older than k), as in the existing checkpoints.
    The age is the number of pairs whose second logit is the larger."""

    units = 2 * LAST_AGE

    def decode(self, F: Any, logits: Any) -> Any:
        return F.sum(self._older_logits(F, logits) > 0, axis=1, keepdims=True)

    def _older_logits(self, F, logits):
        pairs = F.reshape(logits, (-1, LAST_AGE, 2))
        return F.squeeze(
            F.slice_axis(pairs, axis=2, begin=1, end=2) - F.slice_axis(pairs, axis=2, begin=0, end=1), axis=2
        )
