"""What recipes say to the networks: which weights train, and how large train.sh packs their faces."""

import os
import shutil
import subprocess

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


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "essh"])
def test_train_sh_packs_faces_no_smaller_than_the_network_wants(name, tmp_path):
    given = {"PYTHON": shutil.which("echo"), "DEMO": "1", "DATA_DIR": str(tmp_path), "RECIPE": name}
    done = subprocess.run(["sh", "train.sh"], cwd=ROOT, env={**os.environ, **given}, capture_output=True, text=True)
    size = load_recipe(ROOT / f"recipes/{name}.yaml").network.size
    assert f"--out {tmp_path}/packed{f'-{size}' if size > 112 else ''}/imdb" in done.stdout


def test_train_sh_sends_a_detectors_recipe_to_its_own_door(tmp_path):
    given = {**os.environ, "DEMO": "1", "DATA_DIR": str(tmp_path), "RECIPE": "essh"}
    done = subprocess.run(["sh", "train.sh"], cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.returncode == 2 and "python train.py --recipe recipes/essh.yaml" in done.stderr
    assert not list(tmp_path.iterdir())
