"""A run whose network answers nonsense is an error that names the run; weights that halves cannot hold stay."""

import logging

import mxnet as mx
import numpy as np
import pytest
from mxnet import nd

import agedge.runtime
import symbols
from agedge.errors import AgedgeError
from agedge.records import read_raw
from agedge.runtime.half_precision import round_to_half
from agedge.runtime.outputs import Prediction
from agedge.training import validate
from agedge.training.run.divergence import DivergedError
from agedge.training.tasks import finalize_age_gender
from agedge.training.tasks.age_gender import predictor
from agedge.training.tasks.check_model import compare_faces, compare_maps, draw_faces
from agedge.training.tasks.detection import TrainedDetector
from agedge.training.tasks.finalize_age_gender import without_folders
from agedge.training.weights.averaging import WeightMean
from tests.training.toy_runs import run, write_toys


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return [f"data.{part}={write_toys(folder / f'{part}.rec', n, n)}" for part, n in (("train", 32), ("val", 20))]


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer.lr=1e6"],
        ["optimizer.lr=1e5", "train.batch_size=8"],
        ["optimizer.lr=1e6", "optimizer.name=sgd", "train.ema=0.5", "train.swa=1.0"],
    ],
)
def test_a_run_that_diverges_names_itself_and_writes_no_model(words, tmp_path, toys, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(DivergedError, match=f"^{tmp_path / 'run'}: diverged: .*lower optimizer.lr"):
        run(tmp_path / "run", toys, "train.epochs=3", *words)
    assert "(best)" not in caplog.text and not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "best.ckpt").exists()


def test_a_last_step_that_diverges_is_seen_by_the_finish(tmp_path, toys):
    words = [
        "optimizer.name=sgd",
        "optimizer.lr=1",
        "optimizer.warmup=0",
        "optimizer.schedule=steps",
        "train.max_steps=1",
    ]
    try:
        folder, recipe = run(tmp_path / "run", toys, *words)
        finalize_age_gender.finish(symbols.create(**recipe.network), recipe, folder)
    except DivergedError as error:
        assert str(error).startswith(f"{tmp_path / 'run'}: diverged: ")
    else:
        raise AssertionError("no error")
    assert not (tmp_path / "run" / "model").exists()


@pytest.fixture(scope="module")
def trained(toys, tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "run", toys, "train.epochs=1")


def test_a_model_that_is_written_otherwise_is_an_error(trained, monkeypatch):
    folder, recipe = trained
    save = agedge.runtime.save_model

    def save_other(slim, card, place):
        card = save(slim, card, place)
        file = card.path("mxnet", "params")
        values = nd.load(str(file))
        name = next(name for name in values if name.endswith("age_dense0_weight"))
        values[name] *= wrong[0]
        nd.save(str(file), values)
        card.sha256 = {}
        return card

    monkeypatch.setattr(agedge.runtime, "save_model", save_other)
    wrong = []
    for factor in (float("nan"), 1e6, -30):
        wrong[:] = [factor]
        with pytest.raises(AgedgeError, match=f"^{folder}: trained, but the written model is not the trained network"):
            finalize_age_gender.finish(symbols.create(**recipe.network), recipe, folder)
        assert not (folder / "model").exists()
    monkeypatch.setattr(agedge.runtime, "save_model", save)
    said = finalize_age_gender.finish(symbols.create(**recipe.network), recipe, folder)
    assert "model: " in said and (folder / "model" / "card.json").is_file()


def test_a_mean_that_is_no_number_is_not_used(tmp_path, toys, monkeypatch, caplog):
    def spoil(training):
        for parameter in training.network.collect_params().values():
            parameter.set_data(parameter.list_data()[0] * float("nan"))

    monkeypatch.setattr(validate, "update_statistics", spoil)
    folder, recipe = run(tmp_path / "run", toys, "train.epochs=1", "train.swa=1.0")
    assert "the mean of 1 epochs' weights is not used" in caplog.text and str(folder) in caplog.text
    assert not (folder / validate.AVERAGE).exists()
    assert "model: " in finalize_age_gender.finish(symbols.create(**recipe.network), recipe, folder)


def test_a_running_mean_that_is_no_number_is_an_error(tmp_path, toys, monkeypatch):
    def spoil(self):
        for array in self.arrays.values():
            array *= float("nan")

    monkeypatch.setattr(WeightMean, "settle", spoil)
    with pytest.raises(DivergedError, match=f"^{tmp_path / 'run'}: diverged: .*NaN"):
        run(tmp_path / "run", toys, "train.epochs=1", "train.ema=0.9")


@pytest.mark.parametrize("name", ["mobilenet025", "ssrnet_gender", "ssrnet"])
def test_any_answer_that_is_no_number_is_an_error(name):
    network = symbols.create(name, size=64)
    network.initialize_for_training(mx.cpu())
    network(nd.zeros((1, 3, 64, 64)))
    predict = predictor(network, mx.cpu(), "runs/x")
    faces = draw_faces(3, 64)
    predict(faces)
    for parameter in network.collect_params().values():
        if parameter.name.endswith(("weight", "beta", "bias", "gamma")):
            parameter.set_data(parameter.list_data()[0] * float("nan"))
    with pytest.raises(DivergedError, match="^runs/x: diverged"):
        predict(faces)


def test_a_detector_that_answers_no_numbers_is_an_error():
    network = symbols.create("essh")
    network.initialize_for_training(mx.cpu())
    network(nd.zeros((1, 3, 64, 64)))
    detector = TrainedDetector(network, mx.cpu(), "runs/x")
    detector.detect(draw_faces(1, 64)[0])
    for parameter in network.collect_params().values():
        if parameter.name.endswith("weight"):
            parameter.set_data(parameter.list_data()[0] * float("nan"))
    with pytest.raises(DivergedError, match="^runs/x: diverged"):
        detector.detect(draw_faces(1, 64)[0])


def test_answers_are_compared_as_far_as_there_are_any():
    ages, none = np.array([30, 40], np.float32), np.full(2, np.nan, np.float32)
    one = Prediction(ages, none)
    assert not compare_faces(one, Prediction(ages + 0.1, none))
    assert "age differs by 5" in compare_faces(one, Prediction(ages + np.float32([0, 5]), none))
    assert "age differs by nan" in compare_faces(one, Prediction(none, none))
    assert "p_male" in compare_faces(Prediction(none, ages / 50), Prediction(none, ages / 60))
    maps = [np.zeros((1, 4, 2, 2)), np.zeros((1, 8, 2, 2)), np.zeros((1, 20, 2, 2))]
    assert not compare_maps(maps, [maps[0] + 0.01, maps[1] + 9, maps[2]])
    assert "score map 0" in compare_maps(maps, [maps[0] + 0.2, *maps[1:]])


@pytest.mark.parametrize("factor", [1e6, 1e-9, float("nan")])
def test_weights_beyond_half_precision_stay_in_float32(factor, caplog):
    data = mx.sym.var("data")
    first = mx.sym.FullyConnected(data, num_hidden=3, name="first")
    symbol = mx.sym.FullyConnected(first, num_hidden=2, name="second")
    draw = np.random.default_rng(0).normal
    args = {
        f"{name}_{part}": nd.array(draw(size=shape))
        for name, part, shape in (
            ("first", "weight", (3, 4)),
            ("first", "bias", (3,)),
            ("second", "weight", (2, 3)),
            ("second", "bias", (2,)),
        )
    }
    args["first_weight"] = args["first_weight"] * factor
    rounded = round_to_half(symbol, args, {})
    np.testing.assert_array_equal(rounded["first_weight"].asnumpy(), args["first_weight"].asnumpy())
    assert (rounded["second_weight"] != args["second_weight"]).asnumpy().any()
    assert "kept in float32: first_weight" in caplog.text and "second" not in caplog.text


@pytest.mark.parametrize(
    "source, name",
    [
        ("", ""),
        ("/home/me/secret/m,3", "m,3"),
        ("runs/mine/", "mine"),
        ("C:\\Users\\me\\m.params", "m.params"),
        ("m,3", "m,3"),
    ],
)
def test_a_card_names_what_it_started_from_without_folders(source, name):
    assert without_folders(source) == name


def test_the_cache_of_told_labels_reads_as_the_file(tmp_path, monkeypatch):
    """Whatever keeps the faces, they have the labels that the user told."""
    from agedge.training.data.open_data import open_data
    from agedge.training.recipe import load_recipe

    def write(name, columns):
        from mxnet import recordio

        rows = list(read_raw(write_toys(tmp_path / "toys.rec", 24, 3)))
        writer = recordio.MXIndexedRecordIO(str(tmp_path / f"{name}.idx"), str(tmp_path / f"{name}.rec"), "w")
        for number, (label, image) in enumerate(rows):
            header = recordio.IRHeader(0, np.array([[label[0], label[1]][at] for at in columns], np.float32), number, 0)
            writer.write_idx(number, recordio.pack(header, image if number or name == "one" else b"damaged"))
        writer.close()
        return tmp_path / f"{name}.rec"

    one, bad = write("one", (0, 1)), write("bad", (0, 1))
    turned = write("turned", (1, 0))
    network = symbols.create("mobilenet025", size=32, stem_stride=2)
    for labels, files in (("gender,age", [one]), ("gender,age", [one, bad]), ("age,gender", [turned])):
        seen = {}
        for cache in ("memory", "disk", "native"):
            words = [f"data.train=[{','.join(map(str, files))}]", f"data.val={files[0]}", f"data.labels={labels}"]
            recipe = load_recipe(None, [*words, f"data.cache={cache}", "train.batch_size=4"])
            data = open_data(recipe.data, network, 4, tmp_path / "cache" / f"{cache}.rec")
            if data.faces is None:
                found = np.stack([label for label, _ in read_raw(data.file, data.layout)])
            else:
                found = np.stack([data.faces.read_record(face)[0] for face in range(data.count)])
            seen[cache] = sorted(map(tuple, np.asarray(found).tolist()))
        assert seen["memory"] == seen["disk"] == seen["native"] and len(seen["memory"]) > 20
