"""Combine the network and its loss in one graph, so that MXNet plans and runs a step as one call."""

from typing import Any, Sequence, Tuple

from mxnet.gluon import HybridBlock

from agedge.labels import is_male


class Objective(HybridBlock):
    """(data (N, 3, S, S), labels (N, 3), ...) -> loss (N,) and metric sums (6,).

    The metric sums are: number of faces, sum of their losses; number of known ages, sum of the absolute errors in
    years; number of known genders, number of correct ones. An age or gender that the network does not predict counts
    as unknown.

    With `mixup` (Zhang et al. 2018) the third input is the share (N, 1), at least 0.5, of each face i in its mixed
    image; the rest comes from face N - 1 - i of the batch. The loss is the mean of the losses of both labels, weighted
    by the shares; for a label distribution, this equals the loss of the mixed distribution. The metric sums use the
    label with the larger share.

    With `distillation` (a `DistillLoss`) the teachers' outputs are the last inputs, and its term is added to the loss.
    """

    def __init__(self, network: Any, mixup: bool = False, distillation: Any = None):
        super().__init__(prefix="")
        self.network, self.mixup = network, mixup
        self.distillation = distillation

    def hybrid_forward(self, F: Any, data: Any, labels: Any, *more: Any) -> Tuple[Any, Any]:
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
        return loss, F.BlockGrad(self.sum_metrics(F, loss, outputs, labels))

    def sum_metrics(self, F: Any, loss: Any, outputs: Any, labels: Any) -> Any:
        """Return the metric sums (6,)."""
        predicted = dict(zip(self.network.answers, self.network.decode(F, outputs)))
        gender, low, high = (F.slice_axis(labels, axis=1, begin=i, end=i + 1) for i in range(3))
        ages = genders = years_off = correct = F.zeros_like(gender)
        if "age" in predicted:
            ages = low >= 0
            years_off = ages * (F.relu(low - predicted["age"]) + F.relu(predicted["age"] - high))
        if "p_male" in predicted:
            genders = gender >= 0
            correct = genders * (is_male(predicted["p_male"]) == gender)
        sums = [F.sum(value) for value in (F.ones_like(loss), loss, ages, years_off, genders, correct)]
        return F.concat(*sums, dim=0)


def mix(F: Any, share: Any, values: Any) -> Any:
    """Return share * values[i] + (1 - share) * values[N - 1 - i] for each row i."""
    return F.broadcast_mul(values, share) + F.broadcast_mul(F.reverse(values, axis=0), 1 - share)


class Inference(HybridBlock):
    """data (N, 3, S, S) -> the network's predictions, a tuple in the order of `network.answers`, for validation."""

    def __init__(self, network: Any):
        super().__init__(prefix="")
        self.network = network

    def hybrid_forward(self, F: Any, data: Any) -> Any:
        return self.network.decode(F, self.network(data))


class DetectionObjective(HybridBlock):
    """(images (N, 3, S, S), targets of the anchors) -> loss (N,) and metric sums (4,): N, and the sum over N of each of
    the three loss terms.

    `weights`: weights of the terms, in the order of the return value of the network's `loss`.
    """

    def __init__(self, network: Any, weights: Sequence[float]):
        super().__init__(prefix="")
        self.network, self.weights = network, weights

    def hybrid_forward(self, F: Any, data: Any, faces: Any, boxes: Any, landmarks: Any) -> Tuple[Any, Any]:
        terms = self.network.loss(F, self.network(data), faces, boxes, landmarks)
        loss = sum(weight * term for weight, term in zip(self.weights, terms))
        sums = [F.sum(value) for value in (F.ones_like(loss), *terms)]
        return loss, F.BlockGrad(F.concat(*sums, dim=0))
