"""The head of six age groups: against plain NumPy, at its edges, and its gradients against differences."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

import symbols
from agedge.evaluation.metrics import BANDS
from agedge.runtime.outputs import group_bounds
from symbols.heads import create_age_head
from symbols.heads.groups import GROUPS


def head_of(**options):
    head = create_age_head("groups", **options)
    head.initialize()
    return head


def loss_of(logits, *ages):
    low, high = (nd.array([[pair[side]] for pair in ages]) for side in (0, 1))
    return head_of().loss(nd, nd.array(logits), low, high)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_the_groups_are_those_of_the_evaluation_and_of_the_card():
    assert GROUPS == BANDS
    assert tuple(group_bounds(head_of().answers)) == GROUPS


@pytest.mark.parametrize(
    "age,group",
    [(0, 0), (5, 0), (5.5, 0), (6, 1), (18.9, 1), (19, 2), (30.99, 2), (45, 3), (65.5, 4), (66, 5), (116, 5)],
)
def test_an_exact_age_is_the_cross_entropy_of_its_group(age, group):
    logits = np.random.normal(size=(1, 6)).astype(np.float32)
    assert loss_of(logits, (age, age)).asscalar() == pytest.approx(-np.log(softmax(logits)[0, group]), rel=1e-4)


@pytest.mark.parametrize(
    "ages,touched",
    [((20, 29), [2]), ((10, 19), [1, 2]), ((30.5, 31), [2, 3]), ((0, 120), range(6)), ((60, 120), [4, 5])],
)
def test_of_an_interval_every_group_counts_that_it_reaches_into(ages, touched):
    logits = np.random.normal(size=(1, 6)).astype(np.float32)
    wanted = -np.log(softmax(logits)[0, list(touched)].sum())
    assert loss_of(logits, ages).asscalar() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_unknown_ages_contribute_nothing_not_even_a_gradient():
    logits = nd.random.normal(shape=(3, 6))
    logits.attach_grad()
    head = head_of()
    with autograd.record():
        loss = head.loss(nd, logits, nd.array([[-1], [30], [-1]]), nd.array([[-1], [30], [-1]]))
    loss.backward()
    assert loss.asnumpy()[[0, 2]].tolist() == [0, 0] and loss[1].asscalar() > 0
    assert np.abs(logits.grad.asnumpy()[[0, 2]]).max() == 0 < np.abs(logits.grad.asnumpy()[1]).max()


def test_extreme_logits_give_the_loss_that_they_are():
    """A mask of -1e4 would hide less than such logits do."""
    logits = np.full((1, 6), -1e4, np.float32)
    logits[0, 0] = 1e4
    assert loss_of(logits, (20, 20)).asscalar() == pytest.approx(2e4)
    assert loss_of(logits, (3, 3)).asscalar() == pytest.approx(0, abs=1e-5)
    value = nd.array(logits)
    value.attach_grad()
    head = head_of()
    with autograd.record():
        loss = head.loss(nd, value, nd.array([[20]]), nd.array([[70]]))
    loss.backward()
    assert np.isfinite(value.grad.asnumpy()).all() and value.grad.asnumpy()[0, 0] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("ages", [(33, 33), (20, 29), (28, 60), (70, 120)])
def test_gradients_are_those_of_the_loss(ages):
    head, logits = head_of(), nd.random.normal(shape=(1, 6))
    low, high = nd.array([[ages[0]]]), nd.array([[ages[1]]])
    logits.attach_grad()
    with autograd.record():
        loss = head.loss(nd, logits, low, high)
    loss.backward()
    for _ in range(5):
        step = nd.random.normal(shape=logits.shape)
        step = 0.02 * step / step.norm()
        difference = (head.loss(nd, logits + step, low, high) - head.loss(nd, logits - step, low, high)).asscalar() / 2
        assert difference == pytest.approx((logits.grad * step).sum().asscalar(), abs=2e-4)


def test_the_age_is_the_expectation_of_groups_spread_over_their_years():
    logits = np.random.normal(scale=2, size=(4, 6)).astype(np.float32)
    p, wanted = softmax(logits), np.zeros((4, 101))
    for group, (first, last) in enumerate(BANDS):
        years = np.arange(first, min(last, 100) + 1)
        wanted[:, years] += p[:, [group]] / len(years)
    head = head_of()
    np.testing.assert_allclose(head.distribution(nd, nd.array(logits)).asnumpy(), wanted, atol=1e-6)
    age, groups = head.answer(nd, nd.array(logits))
    np.testing.assert_allclose(age.asnumpy()[:, 0], wanted @ np.arange(101), rtol=1e-5)
    np.testing.assert_allclose(groups.asnumpy(), p, rtol=1e-5)


def test_the_hidden_layer_is_optional_and_dropped_out_in_training_only():
    features = nd.random.normal(shape=(4, 10))
    plain, deep = head_of(), head_of(hidden=256)
    assert plain(features).shape == deep(features).shape == (4, 6)
    shapes = {name: each.shape for name, each in deep._collect_params_with_prefix().items()}
    assert shapes["hidden.0.weight"] == (256, 10) and shapes["dense.weight"] == (6, 256)
    assert "hidden.0.weight" not in plain._collect_params_with_prefix()
    assert (deep(features) == deep(features)).asnumpy().all()
    with autograd.train_mode():
        assert not (deep(features) == deep(features)).asnumpy().all()
    assert (deep.hidden(features) >= 0).asnumpy().all()


@pytest.mark.parametrize(
    "option", [{"hidden": -1}, {"hidden": 2.5}, {"hidden": True}, {"dropout": 1}, {"dropout": "a"}]
)
def test_options_are_checked(option):
    with pytest.raises(ValueError, match=f"age_head: {next(iter(option))}="):
        symbols.create("mobilenet025", age_head={"name": "groups", **option})


def test_it_runs_on_symbols_as_on_arrays():
    head = create_age_head("groups")
    loss = head.loss(mx.sym, mx.sym.var("logits"), mx.sym.var("low"), mx.sym.var("high"))
    assert loss.infer_shape(logits=(4, 6), low=(4, 1), high=(4, 1))[1] == [(4,)]
    age, groups = head.answer(mx.sym, mx.sym.var("logits"))
    assert mx.sym.Group([age, groups]).infer_shape(logits=(4, 6))[1] == [(4, 1), (4, 6)]
