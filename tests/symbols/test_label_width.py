"""The width of label distributions: one, one that grows with age, or one learnt for each age."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

import symbols
from agedge.runtime import Card, save_model
from symbols.heads import create_age_head

YEARS = np.arange(101)
LEARNT = {"name": "distribution", "sigma": "learnt", "l1": 0}


def head_of(**options):
    head = create_age_head({"name": "distribution", "l1": 0, **options})
    head.initialize()
    return head


def widths(head):
    return head.width(nd, nd.array(YEARS[:, None])).asnumpy()[:, 0]


def label(age, width):
    gaussian = np.exp(-((YEARS - age) ** 2) / (2 * width**2))
    return gaussian / gaussian.sum()


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def loss_and_gradient(head, logits, age_min, age_max=None):
    logits = nd.array(logits)
    logits.attach_grad()
    low, high = (nd.array(np.reshape(age, (-1, 1))) for age in (age_min, age_min if age_max is None else age_max))
    with autograd.record():
        loss = head.loss(nd, logits, low, high)
    loss.backward()
    return loss.asnumpy(), logits.grad.asnumpy()


def fit(head, logits, ages, steps=300, rate=0.05):
    """Train the widths alone."""
    trainer = gluon.Trainer({"log_sigma": head.log_sigma}, "adam", {"learning_rate": rate})
    for step in range(steps):
        trainer.set_learning_rate(rate * (1 - step / steps))
        with autograd.record():
            loss = head.loss(nd, logits, ages, ages)
        loss.backward()
        trainer.step(len(ages))


@pytest.mark.parametrize("name", ["distribution", "dex", "mean_variance"])
@pytest.mark.parametrize("age, width", [(0, 1), (30, 2.2), (100, 5), (50.5, 3.02)])
def test_a_width_that_grows_with_age(name, age, width):
    logits = np.random.normal(size=(1, 101))
    others = {"mean": 0, "variance": 0} if name == "mean_variance" else {"l1": 0}
    head = create_age_head({"name": name, "sigma": [1, 5], **others})
    head.initialize()
    loss, _ = loss_and_gradient(head, logits, [age])
    assert loss[0] == pytest.approx(-(label(age, width) * log_softmax(logits[0])).sum(), rel=1e-4)
    np.testing.assert_allclose(widths(head), 1 + YEARS / 25, rtol=1e-6)


def test_a_learnt_width_begins_as_the_usual_one_and_teaches_the_network_the_same():
    logits = np.random.normal(size=(2, 101))
    fixed, learnt = head_of(sigma=2.5), head_of(sigma="learnt")
    np.testing.assert_allclose(widths(learnt), widths(fixed), rtol=1e-5)
    (_, wanted), (_, gradient) = (loss_and_gradient(head, logits, [40, 71.5]) for head in (fixed, learnt))
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)
    np.testing.assert_allclose(widths(head_of(sigma={"start": 4})), 4, rtol=1e-5)


def test_the_loss_is_the_divergence_and_the_likelihood_of_the_width():
    logits = np.random.normal(size=(1, 101))
    log_p, q = log_softmax(logits[0]), label(40, 4)
    error = abs(np.exp(log_p) @ YEARS - 40)
    wanted = (q * (np.log(q) - log_p)).sum() + np.log(4) + error / 4
    loss, _ = loss_and_gradient(head_of(sigma={"start": 4}), logits, [40])
    assert loss[0] == pytest.approx(wanted, rel=1e-4)


def test_each_age_learns_how_far_off_the_network_is_there():
    """Labels of the young are 2 years off what is said, those of the old 6; nobody says anything about 90."""
    ages = np.repeat([[20.0], [60.0]], 40, axis=0)
    off = np.repeat([[2.0], [6.0]], 40, axis=0) * np.random.choice([-1, 1], (80, 1))
    logits = nd.array(-np.abs(YEARS - (ages + off)) * 20)
    head = head_of(sigma="learnt")
    fit(head, logits, nd.array(ages))
    found = widths(head)
    assert found[20] == pytest.approx(2, rel=0.05) and found[60] == pytest.approx(6, rel=0.05)
    assert found[90] == pytest.approx(2.5, rel=1e-5)


@pytest.mark.parametrize("off, bound", [(0, 0.5), (60, 10)])
def test_a_learnt_width_stays_in_its_bounds_and_comes_back(off, bound):
    ages = nd.array([[20]] * 4)
    head = head_of(sigma="learnt")
    fit(head, nd.array(-np.abs(YEARS - (20 + off)) * np.full((4, 1), 20.0)), ages)
    assert widths(head)[20] == pytest.approx(bound, rel=0.01)
    fit(head, nd.array(-np.abs(YEARS - 23) * np.full((4, 1), 20.0)), ages)
    assert widths(head)[20] == pytest.approx(3, rel=0.05)


def test_intervals_and_unknown_ages_teach_no_width_and_weight_decay_neither():
    head, logits = head_of(sigma="learnt"), nd.random.normal(shape=(2, 101))
    trainer = gluon.Trainer({"log_sigma": head.log_sigma}, "sgd", {"learning_rate": 1.0, "wd": 0.1})
    before = head.log_sigma.data().asnumpy()
    low, high = nd.array([[20], [-1]]), nd.array([[29], [-1]])
    with autograd.record():
        loss = head.loss(nd, logits, low, high)
    loss.backward()
    trainer.step(1)
    assert head.log_sigma.data().asnumpy().tolist() == before.tolist()


def test_extreme_logits_give_numbers():
    for sigma in ("learnt", [0.5, 10]):
        loss, gradient = loss_and_gradient(head_of(sigma=sigma), 1e4 * np.eye(101)[[0, 50, 100]], [100, 0, 30.7])
        assert np.isfinite(loss).all() and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "sigma", ["wide", [2], [1, 2, 3], [2, "x"], [0, 3], [2, float("nan")], {"start": 0.1}, {"start": 11}, {"from": 2}]
)
def test_a_width_that_is_none_is_refused_in_a_line(sigma):
    with pytest.raises(ValueError, match="^age_head: sigma=.*: must be a number of at least 0, .*learnt") as caught:
        create_age_head({"name": "distribution", "sigma": sigma})
    assert "\n" not in str(caught.value)


def test_the_widths_belong_to_the_training_and_to_no_model(tmp_path):
    network = symbols.create("mobilenet025", size=32, stem_stride=2, age_head=LEARNT)
    network.initialize_for_training(mx.cpu())
    data, labels = nd.random.uniform(0, 255, (2, 3, 32, 32)), nd.array([[0, 20, 20], [1, 60, 60]])
    network(data)
    parameter = network._collect_params_with_prefix()["age.log_sigma"]
    assert parameter.shape == (1, 101) and parameter.wd_mult == 0

    class Graph(gluon.HybridBlock):
        def __init__(self):
            super().__init__(prefix="")
            self.network = network

        def hybrid_forward(self, F, data, labels):
            return self.network.loss(F, self.network(data), labels)

    graph = Graph()
    graph.hybridize(static_alloc=True, static_shape=True)
    with autograd.record():
        loss = graph(data, labels)
    loss.backward()
    assert np.flatnonzero(parameter.grad().asnumpy()).tolist() == [20, 60]

    shape = {"name": "data", "size": 32, "channels": "RGB", "range": [0, 255]}
    card = Card(name="m", network=network.arguments, input=shape, outputs=dict(network.answers))
    card = save_model(network.slim(), card, tmp_path)
    assert not [name for name in mx.nd.load(str(card.path("mxnet", "params"))) if "log_sigma" in name]
    assert "log_sigma" not in card.path("mxnet", "symbol").read_text()
    again = symbols.create(**json.loads((tmp_path / "card.json").read_text())["network"])
    assert "age.log_sigma" in again._collect_params_with_prefix()
