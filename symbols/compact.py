"""What the smallest networks are alike in: few channels, and heads that see the whole last map, not its average."""

from symbols.heads import create_age_head
from symbols.heads.gender import GenderHead
from symbols.network import GENDER, FaceNet, require_bool, split_labels


class CompactNet(FaceNet):
    """A `body` from images to flat features (N, C), an age head on them, and where `gender` is true a gender head.

    Calling it gives `(age logits,)` or `(age logits, gender logits)`. A child makes `self.body` and, where it has to,
    overrides `see`. `gender_weight`: of the gender's cross-entropy beside the age head's loss.
    """

    def __init__(self, name, size, smallest, age_head, gender, gender_weight, **arguments):
        require_bool(gender=gender)
        options = {"age_head": age_head, "gender": gender, "gender_weight": gender_weight}
        super().__init__(name, size, smallest, **options, **arguments)
        if isinstance(gender_weight, bool) or not (isinstance(gender_weight, (int, float)) and gender_weight >= 0):
            raise ValueError(f"gender_weight={gender_weight}: a number of at least 0 is wanted")
        self.gender_weight = gender_weight
        # Age heads with options of their own are given as {name: ..., option: ...}.
        head = dict(age_head) if isinstance(age_head, dict) else {"name": age_head}
        with self.name_scope():
            self.age = create_age_head(**head)
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


def require_share(**options):
    """Raises `ValueError` where a chance of dropout is none."""
    for name, value in options.items():
        if isinstance(value, bool) or not (isinstance(value, (int, float)) and 0 <= value < 1):
            raise ValueError(f"{name}={value}: a share below 1 is wanted")
