"""The base class of the smallest networks: few channels, heads on the flattened last feature map, no pooling."""

from typing import Any, Union

from symbols.heads import create_age_head
from symbols.heads.gender import GenderHead
from symbols.network import GENDER, FaceNet, split_labels
from symbols.options import require_bool, require_not_negative


class CompactNet(FaceNet):
    """A `body` from images to flat features (N, C), an age head and, if `gender` is true, a gender head.

    It returns `(age logits,)` or `(age logits, gender logits)`. A subclass creates `self.body` and can override
    `extract_features`. `gender_weight`: weight of the gender's cross-entropy relative to the age head's loss.
    """

    def __init__(
        self,
        name: str,
        size: int,
        smallest: int,
        age_head: Union[str, dict],
        gender: bool,
        gender_weight: float,
        **arguments: Any,
    ) -> None:
        require_bool(gender=gender)
        require_not_negative(gender_weight=gender_weight)
        options = {"age_head": age_head, "gender": gender, "gender_weight": gender_weight}
        super().__init__(name, size, smallest, **options, **arguments)
        self.gender_weight = gender_weight
        with self.name_scope():
            self.age = create_age_head(age_head)
            self.gender = GenderHead() if gender else None
        self.answers = {**self.age.answers, **(GENDER if gender else {})}

    def extract_features(self, F: Any, data: Any) -> Any:
        """Return the flat features (N, C) of images (N, 3, size, size) 0..255."""
        return self.body(data)

    def hybrid_forward(self, F: Any, data: Any) -> Any:
        features = self.extract_features(F, data)
        return (self.age(features), self.gender(features)) if self.gender else (self.age(features),)

    def loss(self, F: Any, outputs: Any, labels: Any) -> Any:
        gender, age_min, age_max = split_labels(F, labels)
        loss = self.age.loss(F, outputs[0], age_min, age_max)
        if self.gender:
            loss = loss + self.gender_weight * self.gender.loss(F, outputs[1], gender)
        return loss

    def decode(self, F: Any, outputs: Any) -> Any:
        decoded = self.age.answer(F, outputs[0])
        return (*decoded, self.gender.decode(F, outputs[1])) if self.gender else decoded

    def distribution(self, F: Any, outputs: Any) -> Any:
        return self.age.distribution(F, outputs[0])
