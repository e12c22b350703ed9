"""The network with its loss as one graph, so that a step is one call for MXNet to plan and run."""

from mxnet.gluon import HybridBlock


class Objective(HybridBlock):
    """(data (N, 3, S, S), labels (N, 3)) -> loss (N,) and tallies (6,).

    Tallies are the number of faces and the sum of their losses; the number of known ages and the sum of the years by
    which they are missed; the number of known genders and that of right ones. What the network does not answer counts
    as not known.
    """

    def __init__(self, network):
        super().__init__(prefix="")
        self.network = network

    def hybrid_forward(self, F, data, labels):
        outputs = self.network(data)
        loss = self.network.loss(F, outputs, labels)
        said = dict(zip(self.network.answers, self.network.decode(F, outputs)))
        gender, low, high = (F.slice_axis(labels, axis=1, begin=i, end=i + 1) for i in range(3))
        nothing = F.zeros_like(gender)
        ages = genders = years_off = right = nothing
        if "age" in said:
            ages = low >= 0
            years_off = ages * (F.relu(low - said["age"]) + F.relu(said["age"] - high))
        if "p_male" in said:
            genders = gender >= 0
            right = genders * ((said["p_male"] > 0.5) == gender)
        tallies = [F.sum(value) for value in (F.ones_like(loss), loss, ages, years_off, genders, right)]
        return loss, F.BlockGrad(F.concat(*tallies, dim=0))


class Inference(HybridBlock):
    """data (N, 3, S, S) -> a tuple of what the network's `answers` name, for validation between epochs."""

    def __init__(self, network):
        super().__init__(prefix="")
        self.network = network

    def hybrid_forward(self, F, data):
        return self.network.decode(F, self.network(data))


class Tallies:
    """Running sums of `Objective`'s tallies. Adding does not wait for the device; asking does."""

    def __init__(self):
        self.total = {}
        self.faces = 0

    def add(self, tallies) -> None:
        at = tallies.context
        self.total[at] = self.total[at] + tallies if at in self.total else tallies

    def means(self) -> dict:
        """Mean loss a face, age MAE in years and gender accuracy; None where nothing was known."""
        self.faces, loss, ages, years_off, genders, right = sum(total.asnumpy() for total in self.total.values())
        return {
            "loss": float(loss / self.faces),
            "age_mae": float(years_off / ages) if ages else None,
            "gender_acc": float(right / genders) if genders else None,
        }


class DetectionObjective(HybridBlock):
    """(images (N, 3, S, S), what each of the anchors is to say) -> loss (N,), and its three terms summed over N.

    `weights`: of the terms, as the network's `loss` gives them.
    """

    def __init__(self, network, weights):
        super().__init__(prefix="")
        self.network, self.weights = network, weights

    def hybrid_forward(self, F, data, faces, boxes, landmarks):
        terms = self.network.loss(F, self.network(data), faces, boxes, landmarks)
        loss = sum(weight * term for weight, term in zip(self.weights, terms))
        return loss, F.BlockGrad(F.concat(*[F.sum(term) for term in terms], dim=0))
