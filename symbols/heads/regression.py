"""Age as one number, trained by its distance in years."""

from typing import Any, Optional

from mxnet.gluon import nn

from symbols.heads.ages import LAST_AGE, AgeHead, clip_to_head, distance_to_interval
from symbols.options import require_not_negative

# A network starts near 30 +- 20 years, about the mean and the spread of UTKFace and IMDB-WIKI, not near 0.
MEAN_AGE, AGE_SPREAD = 30.0, 20.0


class RegressionHead(AgeHead):
    """Features (N, C) -> (N, 1), the age in units of 20 years about 30. `weight` scales the loss in years."""

    def __init__(self, weight: float = 0.2, prefix: Optional[str] = None) -> None:
        require_not_negative(weight=weight)
        super().__init__(prefix=prefix)
        self.weight = float(weight)
        with self.name_scope():
            self.dense = nn.Dense(1)

    def hybrid_forward(self, F: Any, features: Any) -> Any:
        return self.dense(features)

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return `weight` times the years outside of the label: the L1 loss for an exact age."""
        years = MEAN_AGE + AGE_SPREAD * logits
        off = distance_to_interval(F, years, clip_to_head(F, age_min), clip_to_head(F, age_max))
        return F.squeeze((age_min >= 0) * self.weight * off, axis=1)

    def decode(self, F: Any, logits: Any) -> Any:
        return F.clip(MEAN_AGE + AGE_SPREAD * logits, 0, LAST_AGE)
