"""What every network of this house offers, and the usual one: a backbone with an age head and a gender head."""

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from symbols.heads import create_age_head
from symbols.heads.gender import GenderHead
from symbols.layers import NormRelu, scale_pixels
from symbols.options import is_whole, require_bool, require_not_negative, require_share

# Outputs as cards have them, by name; docs/card.md has the table of kinds. Age groups: `heads.groups.ANSWER`.
AGE = {"age": {"kind": "years"}}
GENDER = {"p_male": {"kind": "probability_male"}}


def split_labels(F, labels):
    """Labels (N, 3) as gender, age_min and age_max, each (N, 1); -1 is unknown."""
    return [F.slice_axis(labels, axis=1, begin=index, end=index + 1) for index in range(3)]


def fuse_norms(network, fused):
    """Run each BatchNorm and its ReLU as one operator, or as two; see `NormRelu`."""
    network.apply(lambda block: setattr(block, "fused", fused) if isinstance(block, NormRelu) else None)


class FaceNet(HybridBlock):
    """A network from faces to ages, genders or both.

    Input (N, 3, size, size) RGB 0..255 float32; scaling is inside the graph. Calling it gives logits and whatever else
    its loss needs, a tuple; `loss` and `decode` take that.

    `answers`: the outputs of the slim form as the card has them, in order: {"age": {"kind": "years"}, ..}.
    `arguments`: what builds the same network again, with its name: `symbols.create(**network.arguments)`.
    """

    answers = {**AGE, **GENDER}
    # Patterns of the parameters that fine-tuning to other classes (`train.py --fin`) freezes, and begins anew.
    backbone, classes = ("body.*",), ("age.*",)
    # Whether there is one place of features, `embed`, from which a student can learn a teacher's.
    embeds = False

    def __init__(self, name, size, smallest=16, **arguments):
        if not (is_whole(size) and size >= smallest):
            raise ValueError(f"size={size}: a side of at least {smallest} pixels is wanted")
        # A fixed prefix gives the same parameter names in every process, and so in every file.
        super().__init__(prefix=f"{name.rpartition(':')[2]}_")
        self.size = size
        self.arguments = {"name": name, "size": size, **arguments}

    def loss(self, F, outputs, labels):
        """(N,) losses, from logits and labels (N, 3) [gender, age_min, age_max]; what is unknown (-1) contributes 0."""
        raise NotImplementedError

    def decode(self, F, outputs):
        """A tuple of what `answers` names: age in years (N, 1), P(male) (N, 1), probabilities of groups (N, 6)."""
        raise NotImplementedError

    def distribution(self, F, outputs):
        """P(age = 0..100), (N, 101), where the age head has one; else None."""
        return None

    def embed(self, F, data):
        """Where `embeds`: what the heads see of the images, (N, C) or (N, C, 1, 1), before dropout."""
        raise NotImplementedError

    def answer(self, F, features):
        """Where `embeds`: the outputs that calling the network gives, from what `embed` gives."""
        raise NotImplementedError

    def initialize_for_training(self, ctx):
        """Fresh weights, uniform within 0.07. BatchNorm undoes their scale, and to small weights Adam's steps are
        large: after 540 steps at 64 pixels the age MAE was 9.8, with He et al.'s larger ones 12.7."""
        self.initialize(init.Uniform(0.07), ctx=ctx)

    def fuse(self, fused=True):
        """Train with fused BatchNorm-ReLU where every context is a CPU. Call before `hybridize`."""
        fuse_norms(self, fused)

    def slim(self):
        """The same network, same parameters, for deployment: `decode` inside the graph, outputs named as in `answers`,
        such as `age` (N, 1) years and `p_male` (N, 1)."""
        self.fuse(False)
        self.hybridize(False)
        slim = SlimNet(self)
        slim.hybridize()
        return slim


class SlimNet(HybridBlock):
    """What is shipped: `decode` inside the graph, nothing that only training needs."""

    def __init__(self, network):
        super().__init__(prefix="")
        self.network = network

    def hybrid_forward(self, F, data):
        said = zip(self.network.answers, self.network.decode(F, self.network(data)))
        named = [F.identity(value, name=name) for name, value in said]
        return named if len(named) > 1 else named[0]


class AgeGenderNet(FaceNet):
    """One backbone, an age head and a gender head, trained together. Calling it gives `(age logits, gender logits)`.

    `create_body(prefix)` builds the backbone, any block from scaled images to (N, C, H, W); `body_arguments` are those
    of the network that it follows from. The heads see its features after global average pooling. `norm_logits` puts a
    BatchNorm behind each head, as existing MXNet trainers of faces do.
    """

    embeds = True

    def __init__(
        self,
        name,
        size,
        create_body,
        body_arguments,
        age_head="distribution",
        dropout=0.0,
        gender_weight=1.0,
        norm_logits=False,
    ):
        require_share(dropout=dropout)
        require_not_negative(gender_weight=gender_weight)
        require_bool(norm_logits=norm_logits)
        options = {"age_head": age_head, "dropout": dropout, "gender_weight": gender_weight, "norm_logits": norm_logits}
        super().__init__(name, size, **options, **body_arguments)
        self.gender_weight = gender_weight
        with self.name_scope():
            self.body = create_body("body_")
            self.pool = nn.GlobalAvgPool2D()
            self.dropout = nn.Dropout(dropout)
            self.age = create_age_head(age_head)
            self.gender = GenderHead()
            if norm_logits:
                self.age_norm = nn.BatchNorm(epsilon=2e-5, scale=False)
                self.gender_norm = nn.BatchNorm(epsilon=2e-5, scale=False)
        self.norm_logits = norm_logits
        self.answers = {**self.age.answers, **GENDER}

    def hybrid_forward(self, F, data):
        return self.answer(F, self.embed(F, data))

    def embed(self, F, data):
        return self.pool(self.body(scale_pixels(data)))

    def answer(self, F, features):
        features = self.dropout(features)
        age, gender = self.age(features), self.gender(features)
        if self.norm_logits:
            age, gender = self.age_norm(age), self.gender_norm(gender)
        return age, gender

    def loss(self, F, outputs, labels):
        age_logits, gender_logits = outputs
        gender, age_min, age_max = split_labels(F, labels)
        age_loss = self.age.loss(F, age_logits, age_min, age_max)
        return age_loss + self.gender_weight * self.gender.loss(F, gender_logits, gender)

    def decode(self, F, outputs):
        return (*self.age.answer(F, outputs[0]), self.gender.decode(F, outputs[1]))

    def distribution(self, F, outputs):
        return self.age.distribution(F, outputs[0])
