"""The teachers' part of the loss: what the student says is to be what they said.

Softened distributions by Hinton et al. 2015 ("Distilling the knowledge in a neural network"), features by Romero et al.
2015 ("FitNets: Hints for thin deep nets").
"""

import mxnet as mx
from mxnet.gluon import HybridBlock, nn

# What is taught, in the order in which lessons come: P(age = 0..100), or where either side has no distribution the age
# in years; P(male); the teachers' features.
AGES, AGE, P_MALE, FEATURES = "ages", "age", "p_male", "features"
ORDER = (AGES, AGE, P_MALE, FEATURES)
LEAST = 1e-30  # a probability whose logarithm, and the slope of it, float32 still holds


class DistillLoss(HybridBlock):
    """What `term` adds to the loss of a student. It has parameters, called distill_*, only where there are hints.

    `taught`: {what is taught: numbers a face}, as `Lessons.widths`. `distill`: that section of a recipe. The student is
    no child of this block, and this block is in no model file.
    """

    def __init__(self, network, taught, distill):
        super().__init__(prefix="distill_")
        self.taught = tuple(name for name in ORDER if name in taught)
        self.answers, self.decode, self.distribution = network.answers, network.decode, network.distribution
        self.temperature = float(distill["temperature"])
        self.weights = {AGES: distill["weight"], AGE: distill["weight"], P_MALE: distill["gender"]}
        self.weights[FEATURES] = distill["hints"]
        self.hints = FEATURES in self.taught
        if self.hints:
            with self.name_scope():
                self.projection = nn.Dense(
                    taught[FEATURES],
                    in_units=count_features(network),
                    weight_initializer=mx.init.Xavier(),
                    prefix="projection_",
                )

    def term(self, F, outputs, features, *lessons):
        """(N,) the student's distance from its teachers, 0 where it says what they do, labels or not.

        `outputs`: the student's; `features`: what its `embed` gives, None without hints; `lessons`: (N, k) each, in the
        order of `taught`. Distributions, that of gender too, by T^2 times the divergence of the student's from the
        teachers', both to the power of 1/T; ages by the years between them; features by the mean square of what a
        linear projection of the student's lacks to theirs.
        """
        said = dict(zip(self.answers, self.decode(F, outputs)))
        loss = 0
        for name, lesson in zip(self.taught, lessons):
            lesson = F.BlockGrad(lesson)
            if name == AGES:
                part = self._divergence(F, self.distribution(F, outputs), lesson)
            elif name == AGE:
                part = F.squeeze(F.abs(said["age"] - lesson), axis=1)
            elif name == P_MALE:
                part = self._divergence(F, both(F, said["p_male"]), both(F, lesson))
            else:
                part = F.mean((self.projection(features) - lesson) ** 2, axis=1)
            loss = loss + self.weights[name] * part
        return loss

    def _divergence(self, F, student, teacher):
        """(N,) T^2 * KL(teacher || student) of softened distributions (N, K)."""
        log_s, log_t = (F.log_softmax(F.log(F.maximum(p, LEAST)) / self.temperature) for p in (student, teacher))
        return self.temperature**2 * F.sum(F.exp(log_t) * (log_t - log_s), axis=1)


def both(F, p):
    """The distribution (N, 2) of an answer that is yes with P (N, 1)."""
    return F.concat(1 - p, p, dim=1)


class TeacherAnswers(HybridBlock):
    """data (N, 3, S, S) -> a tuple of what a network can teach, (N, k) each: what `names` says."""

    def __init__(self, network, features=False):
        super().__init__(prefix="")
        self.network = network
        self.names = [AGES] * has_distribution(network) + [FEATURES] * features
        self.names += [name for name in (AGE, P_MALE) if name in network.answers]

    def hybrid_forward(self, F, data):
        network = self.network
        features = network.embed(F, data) if FEATURES in self.names else None
        outputs = network(data) if features is None else network.answer(F, features)
        said = dict(zip(network.answers, network.decode(F, outputs)))
        said[AGES] = network.distribution(F, outputs)
        said[FEATURES] = None if features is None else F.flatten(features)
        return [said[name] for name in self.names]


def has_distribution(network) -> bool:
    """Whether a network tells P(age = 0..100)."""
    with mx.name.NameManager():
        return network.distribution(mx.sym, network(mx.sym.var("data"))) is not None


def count_features(network) -> int:
    """How many numbers a face `network.embed` gives."""
    with mx.name.NameManager():
        features = mx.sym.flatten(network.embed(mx.sym, mx.sym.var("data")))
    _, shapes, _ = features.infer_shape(data=(1, 3, network.size, network.size))
    return shapes[0][1]
