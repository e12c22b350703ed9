"""Age as one of six groups: softmax over 0-5, 6-18, 19-30, 31-45, 46-65 and 66 and over, as the field's networks for
age groups have it (EfficientNetV2 on age_gender.csv)."""

from typing import Any, Optional

from mxnet.gluon import nn

from symbols.heads.ages import LAST_AGE, AgeHead, clip_to_head, value_of
from symbols.heads.distribution import minus_log_mass
from symbols.options import is_whole, require_share

# First and last year of each group; labels end at 120.
GROUPS = ((0, 5), (6, 18), (19, 30), (31, 45), (46, 65), (66, 120))
ANSWER = {"kind": "age_groups", "bounds": [list(group) for group in GROUPS]}


class GroupsHead(AgeHead):
    """Features (N, C) -> logits (N, 6).

    `hidden`: units of a dense layer with ReLU before the last one, 0 for none; `dropout`: the share of them that
    training leaves out. The published form has 256 and .3.

    It outputs the probabilities of the groups, and an estimated age in years: the expectation where each
    group's probability is spread evenly over its years, the last one's over 66 to 100. A face that is surely of the
    fourth group is 38 years old.
    """

    answers = {"age": {"kind": "years"}, "age_group": ANSWER}

    def __init__(self, hidden: int = 0, dropout: float = 0.3, prefix: Optional[str] = None) -> None:
        if not (is_whole(hidden) and hidden >= 0):
            raise ValueError(f"hidden={hidden}: must be a number of units, 0 for none")
        require_share(dropout=dropout)
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.hidden = nn.HybridSequential(prefix="hidden_")
            if hidden:
                with self.hidden.name_scope():
                    self.hidden.add(nn.Dense(hidden, activation="relu"), nn.Dropout(dropout))
            self.dense = nn.Dense(len(GROUPS))
        bounds = [[float(group[side]) for group in GROUPS] for side in (0, 1)]
        self.first, self.last = (
            self.params.get_constant(name, [years]) for name, years in zip(("first", "last"), bounds)
        )

    def hybrid_forward(self, F: Any, features: Any, first: Any, last: Any) -> Any:
        return self.dense(self.hidden(features))

    def loss(self, F: Any, logits: Any, age_min: Any, age_max: Any) -> Any:
        """Return -log of the probability of the group, or of all groups that an interval overlaps. An age between two
        birthdays belongs to the year before: 5.5 is "5" until the sixth birthday."""
        low, high = clip_to_head(F, age_min), clip_to_head(F, age_max)
        first, last = value_of(F, self.first, logits), value_of(F, self.last, logits)
        reached = F.broadcast_lesser_equal(first, F.floor(high)) * F.broadcast_greater_equal(last, F.floor(low))
        loss = minus_log_mass(F, F.log_softmax(logits), reached)
        return F.squeeze((age_min >= 0) * loss, axis=1)

    def distribution(self, F: Any, logits: Any) -> Any:
        """Return each group's probability spread evenly over its years, up to 100."""
        p = F.softmax(logits)
        parts = []
        for index, (first, last) in enumerate(GROUPS):
            years = min(last, LAST_AGE) - first + 1
            parts.append(F.tile(F.slice_axis(p, axis=1, begin=index, end=index + 1) / years, reps=(1, years)))
        return F.concat(*parts, dim=1)

    def decode(self, F: Any, logits: Any) -> Any:
        middle = (value_of(F, self.first, logits) + F.clip(value_of(F, self.last, logits), 0, LAST_AGE)) / 2
        return F.sum(F.broadcast_mul(F.softmax(logits), middle), axis=1, keepdims=True)

    def answer(self, F: Any, logits: Any) -> Any:
        return self.decode(F, logits), F.softmax(logits)
