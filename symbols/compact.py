"""What the smallest networks are alike in: few channels, and heads that see the whole last map, not its average."""

from symbols.heads import create_age_head
from symbols.heads.gender import GenderHead
from symbols.network import GENDER, FaceNet, split_labels
from symbols.options import require_bool, require_not_negative


class CompactNet(FaceNet):
    """A `body` from images to flat features (N, C), an age head on them, and where `gender` is true a gender head.

    Calling it gives `(age logits,)` or `(age logits, gender logits)`. A child makes `self.body` and, where it has to,
    overrides `see`. `gender_weight`: of the gender's cross-entropy beside the age head's loss.
    """

    def __init__(self, name, size, smallest, age_head, gender, gender_weight, **arguments):
        require_bool(gender=gender)
        require_not_negative(gender_weight=gender_weight)
        options = {"age_head": age_head, "gender": gender, "gender_weight": gender_weight}
        super().__init__(name, size, smallest, **options, **arguments)
        self.gender_weight = gender_weight
        with self.name_scope():
            self.age = create_age_head(age_head)
            self.gender = GenderHead() if gender else None
        self.answers = {**self.age.answers, **(GENDER if gender else {})}

    def see(self, F, data):
        """Images (N, 3, size, size) 0..255 -> flat features (N, C)."""
        return self.body(data)

    def hybrid_forward(self, F, data):
        features = self.see(F, data)
        return (self.age(features), self.gender(features)) if self.gender else (self.age(features),)

    def loss(self, F, outputs, labels):
        gender, age_min, age_max = split_labels(F, labels)
        loss = self.age.loss(F, outputs[0], age_min, age_max)
        if self.gender:
            loss = loss + self.gender_weight * self.gender.loss(F, outputs[1], gender)
        return loss

    def decode(self, F, outputs):
        said = self.age.answer(F, outputs[0])
        return (*said, self.gender.decode(F, outputs[1])) if self.gender else said

    def distribution(self, F, outputs):
        return self.age.distribution(F, outputs[0])
