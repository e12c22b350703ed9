"""Recipes and their networks: which weights train, and what train.sh does with a recipe."""

import os
import subprocess
import sys

import pytest

import symbols
from agedge.training.recipe import load_recipe
from agedge.training.weights.param_groups import match_names
from tests.paths import ROOT

RECIPES = sorted(path.stem for path in ROOT.glob("recipes/*.yaml"))


def test_of_agmixers_body_only_the_last_six_layers_and_the_last_norm_train():
    recipe = load_recipe(ROOT / "recipes/agmixer.yaml")
    names = symbols.create(**recipe.network)._collect_params_with_prefix()
    frozen = match_names(recipe.optimizer.freeze, names, "optimizer.freeze")
    assert all(name.startswith("body.") for name in frozen)
    trained = {name for name in names if name.startswith("body.") and name not in frozen}
    layers = {f"layers.{index}" for index in range(6, 12)}
    assert {name.rpartition(".")[0].split(".", 1)[1] for name in trained if "ln_post" in name} == {"ln_post"}
    assert {".".join(name.split(".")[1:3]) for name in trained if "ln_post" not in name} == layers


@pytest.fixture
def python(tmp_path):
    """Return a program for train.sh that prints its arguments, but answers for a recipe as Python does."""
    program = tmp_path / "python"
    program.write_text(f"""#!/bin/sh
case "$1 $2" in
    "-m agedge.training.show_recipe" | "-c "*) exec "{sys.executable}" "$@" ;;
    *) echo "$@" ;;
esac
""")
    program.chmod(0o755)
    return str(program)


def train_sh(python, folder, recipe, **environment):
    given = {**os.environ, "PYTHON": python, "DEMO": "1", "DATA_DIR": str(folder), "RECIPE": recipe, **environment}
    return subprocess.run(["sh", "train.sh"], cwd=ROOT, env=given, capture_output=True, text=True)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "essh"])
def test_train_sh_packs_faces_no_smaller_than_the_network(name, tmp_path, python):
    done = train_sh(python, tmp_path / "data", name)
    recipe = load_recipe(ROOT / f"recipes/{name}.yaml")
    size = recipe.network.size
    assert f"--out {tmp_path}/data/packed{f'-{size}' if size > 112 else ''}/imdb" in done.stdout
    if f"{name}_wiki" not in RECIPES:
        assert f"--recipe recipes/{name}.yaml" in done.stdout.splitlines()[-1]
        assert f" optimizer.lr={0.1 * recipe.optimizer.lr} " in done.stdout.splitlines()[-1]


def test_train_sh_without_data_or_recipe_says_what_is_missing(tmp_path, python):
    done = train_sh(python, tmp_path / "data", "mobilenet025", DEMO="")
    assert done.returncode == 1 and f"train.sh: {tmp_path}/data/imdb_crop/imdb.mat: missing." in done.stderr
    done = train_sh(python, tmp_path / "data", "mobilnet")
    assert done.returncode == 2 and "no recipes/mobilnet.yaml; choose one of aec " in done.stderr


def test_train_sh_refuses_the_recipe_of_a_detector(tmp_path, python):
    done = train_sh(python, tmp_path / "data", "essh")
    assert done.returncode == 2 and "python train.py --recipe recipes/essh.yaml" in done.stderr
    assert not (tmp_path / "data").exists()
