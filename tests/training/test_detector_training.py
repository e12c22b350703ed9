"""A detector trained through the door: on composed scenes and on photographs, stopped and gone on with."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import symbols
from agedge.errors import AgedgeError
from agedge.faces.annotations import Photo, write_annotations
from agedge.training.checkpoint import load_checkpoint
from agedge.training.detection import take_body, train_detector, validate
from agedge.training.finish_detector import finish_detector
from agedge.training.recipe import load_recipe
from rec_tools.compose import compose

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Discs with five dots for faces, striped backgrounds, and 20 composed scenes to measure with."""
    folder = tmp_path_factory.mktemp("scenes")
    points = np.array([(16.0, 18), (32, 18), (24, 26), (18, 34), (30, 34)])
    photos = []
    for number in range(3):
        image = np.full((48, 48, 3), 40 * number, np.uint8)
        cv2.circle(image, (24, 24), 20, (90, 150 + 20 * number, 220), -1)
        for x, y in points.astype(int).tolist():
            cv2.circle(image, (x, y), 2, (20, 20, 20), -1)
        cv2.imwrite(str(folder / f"face{number}.png"), image)
        photos.append(Photo(folder / f"face{number}.png", [[4, 4, 44, 44]], points[None]))
    write_annotations(folder / "faces.txt", photos)
    (folder / "backgrounds").mkdir()
    for number in range(11):
        stripes = np.tile(np.arange(96, dtype=np.uint8) * (number + 1), (96, 1))
        cv2.imwrite(str(folder / "backgrounds" / f"{number}.png"), cv2.cvtColor(stripes, cv2.COLOR_GRAY2BGR))
    compose([folder / "faces.txt"], folder / "backgrounds", folder / "val", count=20, size=96)
    return folder


def recipe_of(data, run, *overrides):
    return load_recipe(
        None,
        [
            "network.name=essh",
            "network.width=8",
            f"data.train={data / 'faces.txt'}",
            f"data.val={data / 'val' / 'label.txt'}",
            "data.threads=1",
            f"scenes.backgrounds={data / 'backgrounds'}",
            "scenes.size=64",
            "scenes.an_epoch=16",
            "optimizer.warmup=2",
            "train.batch_size=4",
            "train.epochs=2",
            f"run.dir={run}",
            *overrides,
        ],
    )


def train(recipe, resume=False):
    import mxnet as mx

    network = symbols.create(**recipe.network)
    return train_detector(network, recipe, [mx.cpu()], resume, progress=False)


def parameters(folder, recipe) -> dict:
    network = symbols.create(**recipe.network)
    load_checkpoint(folder / "last.ckpt", network)
    return {name: p.data().asnumpy() for name, p in network._collect_params_with_prefix().items()}


def test_a_run_leaves_a_model_its_card_and_its_figures(data, tmp_path):
    recipe = recipe_of(data, tmp_path / "run", f"scenes.photographs={data / 'val' / 'label.txt'}")
    folder = train(recipe)
    said = finish_detector(symbols.create(**recipe.network), recipe, folder)
    rows = (folder / "log.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,step,lr,loss,face_loss,box_loss,landmarks_loss,val_recall") and len(rows) == 3
    assert (folder / "curves.png").stat().st_size > 5000
    card = json.loads((folder / "model" / "card.json").read_text())
    assert card["task"] == "detection" and card["training"]["scenes"] in (16, 32)  # the best epoch
    report = json.loads((folder / "report.json").read_text())
    assert report["photos"] == 20 and {row["tag"] for row in report["occlusion"]} >= {"none"}
    assert "recall by pixels" in said and str(folder / "model") in said
    assert {"essh-symbol.json", "essh-0000.params"} <= {path.name for path in (folder / "model").iterdir()}


def test_a_resumed_run_ends_as_one_that_was_not_stopped(data, tmp_path):
    whole, parted = recipe_of(data, tmp_path / "whole"), recipe_of(data, tmp_path / "parted")
    train(whole)
    # The schedule is that of two epochs; it is stopped after one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agedge.training.detection.validate", stop_after(1))
        with pytest.raises(KeyboardInterrupt):
            train(parted)
    train(parted, resume=True)
    mine, its = parameters(tmp_path / "whole", whole), parameters(tmp_path / "parted", parted)
    for name, value in mine.items():
        np.testing.assert_array_equal(value, its[name], err_msg=name)


def stop_after(epochs: int):
    done = []

    def watch(*arguments):
        done.append(1)
        if len(done) > epochs:
            raise KeyboardInterrupt
        return validate(*arguments)

    return watch


def test_the_loss_falls(data, tmp_path):
    recipe = recipe_of(data, tmp_path / "run", "train.epochs=6", "optimizer.lr=0.01")
    folder = train(recipe)
    losses = [float(row.split(",")[3]) for row in (folder / "log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.7 * losses[0]


def test_a_body_of_another_model_is_taken_or_refused(data, tmp_path):
    import mxnet as mx

    network = symbols.create("essh")
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, 64, 64)))
    before = network.body.layers[0].weight.data().asnumpy().copy()
    assert take_body(network, str(ROOT / "models" / "mobilenet025"), mx.cpu()) == 135
    assert (network.body.layers[0].weight.data().asnumpy() != before).any()
    other = symbols.create("essh", body="vgg16", width=8)
    other.initialize_for_training(mx.cpu())
    other(mx.nd.zeros((1, 3, 64, 64)))
    with pytest.raises(AgedgeError, match="not the body of this network"):
        take_body(other, str(ROOT / "models" / "mobilenet025"), mx.cpu())


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["data.train=[]"], "no face: give files of annotated faces"),
        (["data.val=[]"], "data.val: not given"),
        (["scenes.backgrounds=nowhere"], "nowhere: a folder of photographs without a face is wanted"),
        (["scenes.backgrounds=''"], "scenes.backgrounds: a folder of photographs"),
        (["data.train=nowhere.txt"], "nowhere.txt"),
    ],
)
def test_what_is_missing_is_named(data, tmp_path, overrides, said):
    with pytest.raises(AgedgeError, match=said):
        train(recipe_of(data, tmp_path / "run", *overrides))


def test_scenes_are_not_written_over(data):
    with pytest.raises(AgedgeError, match=r"label\.txt: there already"):
        compose([data / "faces.txt"], data / "backgrounds", data / "val", count=1, size=96)


def test_the_door_composes_scenes_of_what_training_leaves_out(data, tmp_path):
    command = [sys.executable, "-m", "rec_tools", "compose", str(data / "faces.txt"), "--backgrounds"]
    command += [str(data / "backgrounds"), "--out", str(tmp_path / "out"), "--count", "3", "--size", "96"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "in 3 scenes" in done.stdout, done.stderr
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 1 and "label.txt: there already" in again.stderr


def test_the_door_trains_a_detector(data, tmp_path):
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(
        f"network: {{name: essh, width: 8}}\n"
        f"data: {{train: {data / 'faces.txt'}, val: {data / 'val' / 'label.txt'}, threads: 1}}\n"
        f"scenes: {{size: 64, an_epoch: 8, backgrounds: {data / 'backgrounds'}}}\n"
        f"train: {{epochs: 1, batch_size: 4}}\n"
        f"run: {{dir: {tmp_path / 'run'}}}\n"
    )
    command = [sys.executable, "train.py", "--recipe", str(recipe), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"model: {tmp_path / 'run' / 'model'}" in done.stdout
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 1 and "holds a run already" in again.stderr
    for flag in ("--test", "--fin"):
        refused = subprocess.run([*command, flag], cwd=ROOT, capture_output=True, text=True)
        assert refused.returncode == 2 and flag in refused.stderr and len(refused.stderr.splitlines()) == 1
