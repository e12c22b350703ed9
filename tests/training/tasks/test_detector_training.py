"""A detector trained by the command: on composed scenes and on photographs, stopped and gone on with."""

import json
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest

import symbols
from agedge.errors import AgedgeError, UsageError
from agedge.faces.annotations import Photo, read_annotations, write_annotations
from agedge.training.recipe import load_recipe, refuse_keys
from agedge.training.run.checkpoint import load_checkpoint
from agedge.training.run.pretrained import load_pretrained_detector
from agedge.training.tasks.detection import DetectionTask, TrainedDetector, train_detector, validate
from agedge.training.tasks.finalize_detection import finish_detector
from rec_tools.detection.compose import compose
from tests.card_schema import assert_valid
from tests.paths import ROOT
from tests.training.toy_runs import draw_nothing

VALIDATED = ("recall", "precision", "average_precision")


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
    compose([folder / "faces.txt"], folder / "backgrounds", folder / "val", count=8, size=96)
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


def train(recipe, resume=False, curves=False):
    import mxnet as mx

    network = symbols.create(**recipe.network)
    plot = DetectionTask.plot if curves else draw_nothing
    with patch.object(DetectionTask, "plot", staticmethod(plot)):
        return train_detector(network, recipe, [mx.cpu()], resume, progress=False)


def parameters(folder, recipe) -> dict:
    network = symbols.create(**recipe.network)
    load_checkpoint(folder / "last.ckpt", network)
    return {name: p.data().asnumpy() for name, p in network._collect_params_with_prefix().items()}


def test_a_run_leaves_a_model_its_card_and_its_figures(data, tmp_path):
    recipe = recipe_of(data, tmp_path / "run", f"scenes.photographs={data / 'val' / 'label.txt'}")
    folder = train(recipe, curves=True)
    said = finish_detector(symbols.create(**recipe.network), recipe, folder)
    rows = (folder / "log.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,step,lr,loss,face_loss,box_loss,landmarks_loss,val_recall") and len(rows) == 3
    assert (folder / "curves.png").stat().st_size > 5000
    card = assert_valid(folder / "model")
    assert card["task"] == "detection" and card["training"]["scenes"] in (16, 32)  # the best epoch
    report = json.loads((folder / "report.json").read_text())
    assert report["photos"] == 8 and {row["tag"] for row in report["occlusion"]} >= {"none"}
    assert "recall by pixels" in said and str(folder / "model") in said
    assert {"essh-symbol.json", "essh-0000.params"} <= {path.name for path in (folder / "model").iterdir()}


def test_a_resumed_run_ends_as_one_that_was_not_stopped(data, tmp_path):
    whole, parted = (recipe_of(data, tmp_path / name, "scenes.an_epoch=8") for name in ("whole", "parted"))
    train(whole)
    # The schedule is that of two epochs; it is stopped after one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agedge.training.tasks.detection.validate", stop_after(1))
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


def test_the_loss_falls_and_patience_ends_a_run(data, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("agedge.training.tasks.detection.validate", lambda *_: dict.fromkeys(VALIDATED, 0.5))
    overrides = ("train.epochs=9", "optimizer.lr=0.01", "train.patience=3", "optimizer.freeze=[body.*]")
    folder = train(recipe_of(data, tmp_path / "run", *overrides))
    losses = [float(row.split(",")[3]) for row in (folder / "log.csv").read_text().splitlines()[1:]]
    assert len(losses) == 4 and losses[-1] < 0.7 * losses[0]
    assert "parameters are frozen" in caplog.text and "stopped: no better than epoch 1 for 3 epochs" in caplog.text


def test_a_finished_run_resumed_goes_on_only_as_asked(data, tmp_path):
    recipe = recipe_of(data, tmp_path / "run", "train.epochs=1", "scenes.an_epoch=4")
    folder = train(recipe)
    before = (folder / "log.csv").read_text()
    assert train(recipe, resume=True) == folder and (folder / "log.csv").read_text() == before
    larger = recipe_of(data, tmp_path / "run", "train.epochs=2", "scenes.an_epoch=4", "scenes.size=100")
    train(larger, resume=True)
    assert len((folder / "log.csv").read_text().splitlines()) == 3


def shaped(**arguments):
    import mxnet as mx

    network = symbols.create("essh", **arguments)
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, 64, 64)))
    return network


def test_a_body_of_another_model_is_taken_or_refused():
    import mxnet as mx

    network = shaped()
    before = network.body.layers[0].weight.data().asnumpy().copy()
    model = ROOT / "models" / "mobilenet025"
    for source in (str(model), f"{model / 'mobilenet025'},0"):
        started = load_pretrained_detector(network, source, mx.cpu())
        assert not any(name.startswith("body.") for name in started.fresh) and "head32.score.weight" in started.fresh
        assert (network.body.layers[0].weight.data().asnumpy() != before).any()
    with pytest.raises(AgedgeError, match="mobilenet025-0000.params: not the body of this network: body.layers.0"):
        load_pretrained_detector(shaped(body="vgg16", width=8), str(model), mx.cpu())


def test_a_detector_starts_from_a_detector_however_it_is_named(data, tmp_path):
    import mxnet as mx

    recipe = recipe_of(data, tmp_path / "run", "train.epochs=1", "scenes.an_epoch=4")
    folder = train(recipe)
    finish_detector(symbols.create(**recipe.network), recipe, folder)
    wanted = parameters(folder, recipe)
    for source in (folder, folder / "model", f"{folder / 'model' / 'essh'},0"):
        network = shaped(width=8)
        assert not load_pretrained_detector(network, str(source), mx.cpu()).fresh
        for name, parameter in network._collect_params_with_prefix().items():
            np.testing.assert_allclose(parameter.data().asnumpy(), wanted[name], rtol=2e-3, atol=1e-6)
    kept = load_pretrained_detector(shaped(width=8), str(folder), mx.cpu(), ["head*"]).fresh
    assert kept and all(name.startswith("head") for name in kept)
    with pytest.raises(AgedgeError, match="of another network"):
        load_pretrained_detector(shaped(width=16), str(folder / "model"), mx.cpu())
    with pytest.raises(AgedgeError, match="nowhere: no such model folder"):
        load_pretrained_detector(network, "nowhere", mx.cpu())
    with pytest.raises(AgedgeError, match="not an MXNet parameter file"):
        load_pretrained_detector(network, f"{write_text(tmp_path / 'x.params')}", mx.cpu())


def write_text(file: Path) -> Path:
    file.write_text("no parameters")
    return file


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["data.train=[]"], "data.train or scenes.photographs must be files of annotated faces"),
        (["data.val=[]"], "data.val must be a label.txt"),
        (["scenes.backgrounds=nowhere"], "nowhere: no images in it"),
        (["scenes.backgrounds=''"], "scenes.backgrounds: must be a folder of photographs"),
        (["data.train=nowhere.txt"], "nowhere.txt"),
        (["data.train=x.rec"], "x.rec"),
        (["augment.mirror=0.5"], "augment.mirror=0.5: has no effect on a network that finds faces"),
        (["data.test=x.txt"], "data.test=x.txt: has no effect"),
        (["fresh=[age.*]"], "fresh: 'age.*' matches no parameter"),
    ],
)
def test_what_is_missing_is_named(data, tmp_path, overrides, said):
    with pytest.raises(AgedgeError, match=said):
        train(recipe_of(data, tmp_path / "run", *overrides))


@pytest.mark.parametrize(
    "override, said",
    [
        ("scenes.size=0", "scenes.size=0: must be a number of at least 64"),
        ("scenes.size=96.5", "scenes.size=96.5: must be a whole number"),
        ("scenes.an_epoch=0", "scenes.an_epoch=0: must be a number of at least 1"),
        ("scenes.composed=-0.1", "scenes.composed=-0.1: must be a number from 0 to 1"),
        ("scenes.composed=1.5", "scenes.composed=1.5: must be a number from 0 to 1"),
        ("scenes.composed=.nan", "scenes.composed=nan"),
    ],
)
def test_scenes_that_cannot_be_are_refused(override, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        load_recipe(None, [override])


def test_a_network_of_ages_takes_no_scenes():
    refuse_keys(load_recipe(None), ["scenes"], "ages and genders")
    with pytest.raises(UsageError, match="scenes.size=96: has no effect on a network that finds ages"):
        refuse_keys(load_recipe(None, ["scenes.size=96"]), ["scenes"], "ages and genders")


def test_a_detector_trains_on_one_device(data, tmp_path):
    import mxnet as mx

    recipe = recipe_of(data, tmp_path / "run")
    with pytest.raises(UsageError, match="--gpus: 2 devices, but a detector trains on one"):
        train_detector(symbols.create(**recipe.network), recipe, [mx.cpu(0), mx.cpu(1)])


def test_an_image_of_data_val_that_is_missing_is_named_before_training(data, tmp_path):
    photos = read_annotations(data / "val" / "label.txt")
    file = tmp_path / "label.txt"
    write_annotations(file, [*photos, Photo(tmp_path / "a.jpg", [[0, 0, 9, 9]]), Photo(tmp_path / "b.jpg", [])])
    recipe = recipe_of(data, tmp_path / "run", f"data.val={file}")
    with pytest.raises(AgedgeError, match=r"a\.jpg: does not exist, but is in data\.val, and 1 more"):
        train(recipe)
    write_annotations(file, [Photo(photo.file, photo.boxes, ignored=[True] * len(photo)) for photo in photos])
    with pytest.raises(AgedgeError, match=r"data\.val: all faces are marked as ignored"):
        train(recipe)


def test_an_image_of_data_val_that_goes_meanwhile_is_told(data, caplog):
    import mxnet as mx

    photos, network = read_annotations(data / "val" / "label.txt"), shaped(width=8)
    measured = validate(network, [*photos, Photo("gone.jpg", [[0, 0, 9, 9]])], mx.cpu())
    assert measured["photos"] == len(photos) and "gone.jpg" in caplog.text
    with pytest.raises(AgedgeError, match=r"data\.val: no face"):
        validate(network, [Photo("gone.jpg", [[0, 0, 9, 9]])], mx.cpu())


def test_a_large_photograph_is_measured_shrunk():
    import mxnet as mx

    found = TrainedDetector(shaped(width=8), mx.cpu())
    seen = []
    forward, found.network = found.network, lambda data: seen.append(data.shape) or forward(data)
    found.network.decode = forward.decode
    faces = found.detect(np.zeros((400, 2560, 3), np.uint8))
    assert seen == [(1, 3, 224, 1280)] and faces.boxes.shape[1:] == (4,)


def test_scenes_are_not_written_over(data):
    with pytest.raises(AgedgeError, match=r"label\.txt: exists"):
        compose([data / "faces.txt"], data / "backgrounds", data / "val", count=1, size=96)


def test_the_door_composes_scenes_of_what_training_leaves_out(data, tmp_path):
    command = [sys.executable, "-m", "rec_tools", "compose", str(data / "faces.txt"), "--backgrounds"]
    command += [str(data / "backgrounds"), "--out", str(tmp_path / "out"), "--count", "3", "--size", "96"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "in 3 scenes" in done.stdout, done.stderr
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 1 and "label.txt: exists" in again.stderr


def test_the_command_trains_a_detector(data, tmp_path):
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(
        f"network: {{name: essh, width: 8}}\n"
        f"data: {{train: {data / 'faces.txt'}, val: {data / 'val' / 'label.txt'}, threads: 1}}\n"
        f"scenes: {{size: 64, an_epoch: 4, backgrounds: {data / 'backgrounds'}}}\n"
        f"train: {{epochs: 1, batch_size: 4}}\n"
        f"run: {{dir: {tmp_path / 'run'}}}\n"
    )
    command = [sys.executable, "train.py", "--recipe", str(recipe), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"model: {tmp_path / 'run' / 'model'}" in done.stdout
    again = subprocess.run([*command, "--fin"], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2 and "--fin: is only for age and gender networks" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def test_a_run_is_not_written_over(data, tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(AgedgeError, match="holds a run already"):
        train(recipe_of(data, tmp_path))
