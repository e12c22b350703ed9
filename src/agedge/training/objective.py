"""The network with its loss as one graph, so that a step is one call for MXNet to plan and run."""

from mxnet.gluon import HybridBlock

from agedge.labels import is_male


class Objective(HybridBlock):
    """(data (N, 3, S, S), labels (N, 3), ...) -> loss (N,) and tallies (6,).

    Tallies are the number of faces and the sum of their losses; the number of known ages and the sum of the years by
    which they are missed; the number of known genders and that of right ones. What the network does not answer counts
    as not known.

    With `mixup` (Zhang et al. 2018) the third input is the share (N, 1), at least a half, of every face in its picture;
    the rest of it is the face at the same place counted from the other end. The loss is that of both labels by their
    shares, which for a label distribution is that of the mixed distribution; tallies count the larger share's label.

    With `distillation`, a `DistillLoss`, the teachers' outputs come last, and its term is added to the loss.
    """

    def __init__(self, network, mixup=False, distillation=None):
        super().__init__(prefix="")
        self.network, self.mixup = network, mixup
        self.distillation = distillation

    def hybrid_forward(self, F, data, labels, *more):
        share, targets = (more[0], more[1:]) if self.mixup else (None, more)
        if self.mixup:
            data = mix(F, F.reshape(share, (-1, 1, 1, 1)), data)
        features = self.network.embed(F, data) if self.distillation and self.distillation.hints else None
        outputs = self.network(data) if features is None else self.network.answer(F, features)
        loss = self.network.loss(F, outputs, labels)
        if self.mixup:
            other = self.network.loss(F, outputs, F.reverse(labels, axis=0))
            share = F.reshape(share, (-1,))
            loss = share * loss + (1 - share) * other
        if self.distillation:
            if self.mixup:
                targets = [mix(F, more[0], target) for target in targets]
            loss = loss + self.distillation.term(F, outputs, features, *targets)
        return loss, F.BlockGrad(self.count(F, loss, outputs, labels))

    def count(self, F, loss, outputs, labels):
        """The tallies."""
        said = dict(zip(self.network.answers, self.network.decode(F, outputs)))
        gender, low, high = (F.slice_axis(labels, axis=1, begin=i, end=i + 1) for i in range(3))
        nothing = F.zeros_like(gender)
        ages = genders = years_off = right = nothing
        if "age" in said:
            ages = low >= 0
            years_off = ages * (F.relu(low - said["age"]) + F.relu(said["age"] - high))
        if "p_male" in said:
            genders = gender >= 0
            right = genders * (is_male(said["p_male"]) == gender)
        tallies = [F.sum(value) for value in (F.ones_like(loss), loss, ages, years_off, genders, right)]
        return F.concat(*tallies, dim=0)


def mix(F, share, values):
    """`share` of every row and the rest of the row at the same place from the other end."""
    return F.broadcast_mul(values, share) + F.broadcast_mul(F.reverse(values, axis=0), 1 - share)


class Inference(HybridBlock):
    """data (N, 3, S, S) -> a tuple of what the network's `answers` name, for validation between epochs."""

    def __init__(self, network):
        super().__init__(prefix="")
        self.network = network

    def hybrid_forward(self, F, data):
        return self.network.decode(F, self.network(data))


class DetectionObjective(HybridBlock):
    """(images (N, 3, S, S), what each of the anchors is to say) -> loss (N,) and tallies (4,): N, and the three terms
    of the loss summed over N.

    `weights`: of the terms, as the network's `loss` gives them.
    """

    def __init__(self, network, weights):
        super().__init__(prefix="")
        self.network, self.weights = network, weights

    def hybrid_forward(self, F, data, faces, boxes, landmarks):
        terms = self.network.loss(F, self.network(data), faces, boxes, landmarks)
        loss = sum(weight * term for weight, term in zip(self.weights, terms))
        sums = [F.sum(value) for value in (F.ones_like(loss), *terms)]
        return loss, F.BlockGrad(F.concat(*sums, dim=0))
