"""SSR-Net's recipes: the settings of the source, and that they train on toy faces."""

import mxnet as mx
import numpy as np
import pytest

import symbols
from agedge.training.recipe import load_recipe
from agedge.training.tasks.age_gender import train
from tests.paths import ROOT
from tests.training.toy_runs import write_toys

RECIPES = ROOT / "recipes"
NAMES = ("ssrnet", "ssrnet_gender", "ssrnet_multi")


@pytest.mark.parametrize("name", ["ssrnet", "ssrnet_gender"])
def test_the_settings_are_those_of_the_source(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    network = symbols.create(**recipe.network)
    assert network.arguments["name"] == name and network.size == 64
    assert recipe.optimizer.steps == [40000, 70000, 100000] and recipe.train.max_steps == 120000
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.train.batch_size) == ("adam", 0.001, 128)


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_on_toy_faces(name, tmp_path):
    train_file, val_file = (
        write_toys(tmp_path / f"{part}.rec", 64, seed) for seed, part in enumerate(("train", "val"))
    )
    overrides = [
        f"data.train={train_file}",
        f"data.val={val_file}",
        "network.size=40",
        "train.batch_size=16",
        "train.max_steps=12",
        "train.epochs=3",
        f"run.dir={tmp_path / 'run'}",
    ]
    recipe = load_recipe(RECIPES / f"{name}.yaml", overrides)
    network = symbols.create(**recipe.network)
    train(network, recipe, [mx.cpu()], False, progress=False)
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert len(rows) > 1
    assert all(np.isfinite(value.data().asnumpy()).all() for value in network.collect_params().values())
