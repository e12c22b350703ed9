"""The learning rate of every step."""

import pytest

from agedge.training.recipe import load_recipe
from agedge.training.schedule import learning_rate


def rates(total, *overrides):
    rate = learning_rate(load_recipe(None, overrides).optimizer, total)
    return [rate(step) for step in range(total)]


def test_warm_up_then_cosine_to_nothing():
    values = rates(1000, "optimizer.lr=0.01", "optimizer.warmup=100")
    assert values[0] == pytest.approx(0.0001, rel=0.1) and values[50] == pytest.approx(0.005, rel=0.05)
    assert values[100] == max(values) == pytest.approx(0.01)
    assert values[550] == pytest.approx(0.005, rel=0.02) and values[-1] < 1e-6
    assert values[100:] == sorted(values[100:], reverse=True)


def test_steps():
    values = rates(40, "optimizer.schedule=steps", "optimizer.steps=[10, 30]", "optimizer.warmup=4", "optimizer.lr=1")
    assert values[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert (values[9], values[10], values[29]) == (1, pytest.approx(0.1), pytest.approx(0.1))
    assert values[30] == pytest.approx(0.01)


def test_a_run_shorter_than_its_warm_up():
    assert max(rates(10, "optimizer.warmup=300")) <= 0.003


def test_inverse_of_the_epoch():
    recipe = load_recipe(None, ["optimizer.schedule=inverse", "optimizer.decay=0.5", "optimizer.warmup=0"])
    rate = learning_rate(recipe.optimizer, 40, steps_per_epoch=10)
    assert [rate(step) / recipe.optimizer.lr for step in (0, 9, 10, 29, 39)] == pytest.approx([1, 1, 1 / 1.5, 0.5, 0.4])
