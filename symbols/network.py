"""Base class of all face networks, and the usual network: a backbone with an age head and a gender head."""

from typing import Any, Callable, Union

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from symbols.heads import create_age_head
from symbols.heads.gender import GenderHead
from symbols.layers import NormRelu, scale_pixels
from symbols.options import is_whole, require_bool, require_not_negative, require_share

# Outputs as cards have them, by name; docs/card.md has the table of kinds. Age groups: `heads.groups.ANSWER`.
AGE = {"age": {"kind": "years"}}
GENDER = {"p_male": {"kind": "probability_male"}}


def split_labels(F: Any, labels: Any) -> list:
    """Split labels (N, 3) into gender, age_min and age_max, each (N, 1); -1 is unknown."""
    return [F.slice_axis(labels, axis=1, begin=index, end=index + 1) for index in range(3)]


def fuse_norms(network: HybridBlock, fused: bool) -> None:
    """Run each BatchNorm and its ReLU as one operator, or as two; see `NormRelu`."""
    network.apply(lambda block: setattr(block, "fused", fused) if isinstance(block, NormRelu) else None)


class FaceNet(HybridBlock):
    """A network from faces to ages, genders or both.

    Input (N, 3, size, size) RGB 0..255 float32; scaling is inside the graph. Calling it gives logits and whatever else
    its loss needs, a tuple; `loss` and `decode` take that.

    `answers`: the outputs of the slim form as the card has them, in order: {"age": {"kind": "years"}, ..}.
    `arguments`: the name and options that build the same network again: `symbols.create(**network.arguments)`.
    """

    answers = {**AGE, **GENDER}
    # Patterns of the parameters that fine-tuning to other classes (`train.py --fin`) freezes, and initialises anew.
    backbone, classes = ("body.*",), ("age.*",)
    # Whether `embed` gives features that distillation can compare with a teacher's.
    embeds = False

    def __init__(self, name: str, size: int, smallest: int = 16, **arguments: Any) -> None:
        if not (is_whole(size) and size >= smallest):
            raise ValueError(f"size={size}: must be a whole number of at least {smallest} pixels")
        # A fixed prefix gives the same parameter names in every process, and so in every file.
        super().__init__(prefix=f"{name.rpartition(':')[2]}_")
        self.size = size
        self.arguments = {"name": name, "size": size, **arguments}

    def loss(self, F: Any, outputs: Any, labels: Any) -> Any:
        """Return losses (N,) from outputs and labels (N, 3) [gender, age_min, age_max]; unknown (-1) contributes 0."""
        raise NotImplementedError

    def decode(self, F: Any, outputs: Any) -> Any:
        """Return a tuple in the order of `answers`: age in years (N, 1), P(male) (N, 1), group probabilities (N, 6)."""
        raise NotImplementedError

    def distribution(self, F: Any, outputs: Any) -> Any:
        """Return P(age = 0..100), (N, 101), or None if the age head has no distribution."""
        return None

    def embed(self, F: Any, data: Any) -> Any:
        """Where `embeds`: return the features before the heads and dropout, (N, C) or (N, C, 1, 1)."""
        raise NotImplementedError

    def answer(self, F: Any, features: Any) -> Any:
        """Where `embeds`: return the outputs of the network from the features of `embed`."""
        raise NotImplementedError

    def initialize_for_training(self, ctx: Any) -> None:
        """Initialise the weights uniformly within 0.07. BatchNorm undoes their scale, and to small weights Adam's steps
        are large: after 540 steps at 64 pixels the age MAE was 9.8, with He et al.'s larger ones 12.7."""
        self.initialize(init.Uniform(0.07), ctx=ctx)

    def fuse(self, fused: bool = True) -> None:
        """Train with fused BatchNorm-ReLU where every context is a CPU. Call before `hybridize`."""
        fuse_norms(self, fused)

    def slim(self) -> "SlimNet":
        """Return the same network with the same parameters for deployment: `decode` inside the graph, outputs named as
        in `answers`, such as `age` (N, 1) years and `p_male` (N, 1)."""
        self.fuse(False)
        self.hybridize(False)
        slim = SlimNet(self)
        slim.hybridize()
        return slim


class SlimNet(HybridBlock):
    """The deployed form: `decode` inside the graph, nothing that only training needs."""

    def __init__(self, network: HybridBlock) -> None:
        super().__init__(prefix="")
        self.network = network

    def hybrid_forward(self, F: Any, data: Any) -> Any:
        outputs = zip(self.network.answers, self.network.decode(F, self.network(data)))
        named = [F.identity(value, name=name) for name, value in outputs]
        return named if len(named) > 1 else named[0]


class AgeGenderNet(FaceNet):
    """One backbone, an age head and a gender head, trained together. Calling it gives `(age logits, gender logits)`.

    `create_body(prefix)` builds the backbone, any block from scaled images to (N, C, H, W); `body_arguments` are those
    of the network that it follows from. The heads take its features after global average pooling. `norm_logits` puts a
    BatchNorm behind each head, as existing MXNet trainers of faces do.
    """

    embeds = True

    def __init__(
        self,
        name: str,
        size: int,
        create_body: Callable[[str], HybridBlock],
        body_arguments: dict,
        age_head: Union[str, dict] = "distribution",
        dropout: float = 0.0,
        gender_weight: float = 1.0,
        norm_logits: bool = False,
    ) -> None:
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

    def hybrid_forward(self, F: Any, data: Any) -> Any:
        return self.answer(F, self.embed(F, data))

    def embed(self, F: Any, data: Any) -> Any:
        return self.pool(self.body(scale_pixels(data)))

    def answer(self, F: Any, features: Any) -> Any:
        features = self.dropout(features)
        age, gender = self.age(features), self.gender(features)
        if self.norm_logits:
            age, gender = self.age_norm(age), self.gender_norm(gender)
        return age, gender

    def loss(self, F: Any, outputs: Any, labels: Any) -> Any:
        age_logits, gender_logits = outputs
        gender, age_min, age_max = split_labels(F, labels)
        age_loss = self.age.loss(F, age_logits, age_min, age_max)
        return age_loss + self.gender_weight * self.gender.loss(F, gender_logits, gender)

    def decode(self, F: Any, outputs: Any) -> Any:
        return (*self.age.answer(F, outputs[0]), self.gender.decode(F, outputs[1]))

    def distribution(self, F: Any, outputs: Any) -> Any:
        return self.age.distribution(F, outputs[0])
