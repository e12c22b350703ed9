"""An age-and-gender network: one backbone, an age head and a gender head, trained together."""

from mxnet import init
from mxnet.gluon import HybridBlock, nn

from symbols.heads import create_age_head
from symbols.heads.gender import GenderHead
from symbols.layers import NormRelu


class AgeGenderNet(HybridBlock):
    """Input (N, 3, size, size) RGB 0..255 float32; the scaling to -1..1 is inside the graph.

    Calling it gives the heads' logits `(age, gender)`; `loss` and `decode` take those. `create_body(prefix)` builds the
    backbone, any block from images to (N, C, H, W). The heads see its features after global average pooling.
    `arguments`, with `name`, is what builds the same network again: `symbols.create(**network.arguments)`.
    """

    def __init__(
        self, name, size, create_body, body_arguments, age_head="distribution", dropout=0.0, gender_weight=1.0
    ):
        if not (isinstance(size, int) and size >= 16):
            raise ValueError(f"size={size}: a side of at least 16 pixels is wanted")
        if not (isinstance(dropout, (int, float)) and 0 <= dropout < 1):
            raise ValueError(f"dropout={dropout}: a share below 1 is wanted")
        # A fixed prefix gives the same parameter names in every process, and so in every file.
        super().__init__(prefix=f"{name}_")
        self.size = size
        self.gender_weight = gender_weight
        # Age heads with options of their own are given as {name: ..., option: ...}.
        head = dict(age_head) if isinstance(age_head, dict) else {"name": age_head}
        self.arguments = dict(
            name=name, size=size, age_head=age_head, dropout=dropout, gender_weight=gender_weight, **body_arguments
        )
        with self.name_scope():
            self.body = create_body("body_")
            self.pool = nn.GlobalAvgPool2D()
            self.dropout = nn.Dropout(dropout)
            self.age = create_age_head(**head)
            self.gender = GenderHead()

    def hybrid_forward(self, F, data):
        features = self.dropout(self.pool(self.body((data - 127.5) * 0.0078125)))
        return self.age(features), self.gender(features)

    def loss(self, F, outputs, labels):
        """(N,) losses, from logits and labels (N, 3) [gender, age_min, age_max]; what is unknown (-1) contributes 0."""
        age_logits, gender_logits = outputs
        gender = F.slice_axis(labels, axis=1, begin=0, end=1)
        age_min = F.slice_axis(labels, axis=1, begin=1, end=2)
        age_max = F.slice_axis(labels, axis=1, begin=2, end=3)
        age_loss = self.age.loss(F, age_logits, age_min, age_max)
        return age_loss + self.gender_weight * self.gender.loss(F, gender_logits, gender)

    def decode(self, F, outputs):
        """Age in years (N, 1) and P(male) (N, 1)."""
        return self.age.decode(F, outputs[0]), self.gender.decode(F, outputs[1])

    def distribution(self, F, outputs):
        """P(age = 0..100), (N, 101), where the age head has one; else None."""
        return self.age.distribution(F, outputs[0])

    def initialize_for_training(self, ctx):
        """Fresh weights, uniform within 0.07. BatchNorm undoes their scale, and to small weights Adam's steps are
        large: after 540 steps at 64 pixels the age MAE was 9.8, with He et al.'s larger ones 12.7."""
        self.initialize(init.Uniform(0.07), ctx=ctx)

    def fuse(self, fused=True):
        """Train with fused BatchNorm-ReLU where every context is a CPU. Call before `hybridize`."""
        self.apply(lambda block: setattr(block, "fused", fused) if isinstance(block, NormRelu) else None)

    def slim(self):
        """The same network, same parameters, for deployment: outputs named `age` (N, 1) years and `p_male` (N, 1)."""
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
        age, p_male = self.network.decode(F, self.network(data))
        return F.identity(age, name="age"), F.identity(p_male, name="p_male")
