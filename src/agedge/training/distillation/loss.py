"""The distillation term of the loss: the distance of the student's outputs from the teachers'.

Softened distributions by Hinton et al. 2015 ("Distilling the knowledge in a neural network"), features by Romero et al.
2015 ("FitNets: Hints for thin deep nets").
"""

from typing import Any, Dict, List

import mxnet as mx
from mxnet.gluon import HybridBlock, nn

from agedge.training.recipe import DistillSection

# The targets, in the order in which batches have them: P(age = 0..100), or the age in years where either side has no
# distribution; P(male); the teachers' features.
AGES, AGE, P_MALE, FEATURES = "ages", "age", "p_male", "features"
TARGETS = (AGES, AGE, P_MALE, FEATURES)
LEAST = 1e-30  # a probability whose logarithm, and the slope of it, float32 can still represent


class DistillLoss(HybridBlock):
    """The distillation term of a student's loss. It has parameters, named distill_*, only with hints.

    `widths`: {target: numbers a face}, as `TeacherOutputs.widths` has them. The student is not a child of this block,
    and this block is in no model file.
    """

    def __init__(self, network: HybridBlock, widths: Dict[str, int], distill: DistillSection):
        super().__init__(prefix="distill_")
        self.targets = tuple(name for name in TARGETS if name in widths)
        self.answers, self.decode, self.distribution = network.answers, network.decode, network.distribution
        self.temperature = float(distill.temperature)
        self.weights = {AGES: distill.weight, AGE: distill.weight, P_MALE: distill.gender, FEATURES: distill.hints}
        self.hints = FEATURES in self.targets
        if self.hints:
            with self.name_scope():
                self.projection = nn.Dense(
                    widths[FEATURES],
                    in_units=count_features(network),
                    weight_initializer=mx.init.Xavier(),
                    prefix="projection_",
                )

    def term(self, F: Any, outputs: Any, features: Any, *targets: Any) -> Any:
        """Return the distance (N,) of the student's outputs from the targets, 0 where they agree.

        `outputs`: the student's; `features`: what its `embed` returns, None without hints; `targets`: (N, k) each, in
        the order of `self.targets`. Distributions, that of gender too: T^2 times the divergence of the student's from
        the teachers', both to the power of 1/T; ages: the absolute difference in years; features: the mean squared
        error of a linear projection of the student's.
        """
        predicted = dict(zip(self.answers, self.decode(F, outputs)))
        loss = 0
        for name, target in zip(self.targets, targets):
            target = F.BlockGrad(target)
            if name == AGES:
                distance = self._divergence(F, self.distribution(F, outputs), target)
            elif name == AGE:
                distance = F.squeeze(F.abs(predicted["age"] - target), axis=1)
            elif name == P_MALE:
                distance = self._divergence(F, both(F, predicted["p_male"]), both(F, target))
            else:
                distance = F.mean((self.projection(features) - target) ** 2, axis=1)
            loss = loss + self.weights[name] * distance
        return loss

    def _divergence(self, F: Any, student: Any, teacher: Any) -> Any:
        """Return (N,) T^2 * KL(teacher || student) of softened distributions (N, K)."""
        log_s, log_t = (F.log_softmax(F.log(F.maximum(p, LEAST)) / self.temperature) for p in (student, teacher))
        return self.temperature**2 * F.sum(F.exp(log_t) * (log_t - log_s), axis=1)


def both(F: Any, p: Any) -> Any:
    """Return the distribution (N, 2) of a binary output of probability `p` (N, 1)."""
    return F.concat(1 - p, p, dim=1)


class TeacherNetwork(HybridBlock):
    """data (N, 3, S, S) -> the outputs of a network that can be distilled, (N, k) each, in the order of `names`."""

    def __init__(self, network: HybridBlock, features: bool = False):
        super().__init__(prefix="")
        self.network = network
        self.names = [AGES] * has_distribution(network) + [FEATURES] * features
        self.names += [name for name in (AGE, P_MALE) if name in network.answers]

    def hybrid_forward(self, F: Any, data: Any) -> List[Any]:
        network = self.network
        features = network.embed(F, data) if FEATURES in self.names else None
        outputs = network(data) if features is None else network.answer(F, features)
        predicted = dict(zip(network.answers, network.decode(F, outputs)))
        predicted[AGES] = network.distribution(F, outputs)
        predicted[FEATURES] = None if features is None else F.flatten(features)
        return [predicted[name] for name in self.names]


def has_distribution(network: HybridBlock) -> bool:
    """Return whether a network predicts P(age = 0..100)."""
    with mx.name.NameManager():
        return network.distribution(mx.sym, network(mx.sym.var("data"))) is not None


def count_features(network: HybridBlock) -> int:
    """Return the number of features a face that `network.embed` has."""
    with mx.name.NameManager():
        features = mx.sym.flatten(network.embed(mx.sym, mx.sym.var("data")))
    _, shapes, _ = features.infer_shape(data=(1, 3, network.size, network.size))
    return shapes[0][1]
