"""The loop on small faces: it learns, resumes to the same numbers, fine-tunes, and ends in a model with its card."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

import symbols
from agedge.cli import run_command
from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.labels import Label
from agedge.records import RecordWriter
from agedge.run_folder import read_log
from agedge.runtime import load_card, load_model
from agedge.training.run.checkpoint import load_checkpoint, read_state
from agedge.training.tasks.finalize_age_gender import finish
from tests.card_schema import assert_valid
from tests.paths import ROOT
from tests.training.toy_runs import SIZE, SMALL, run, write_toys


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return [f"data.{part}={write_toys(folder / f'{part}.rec', n, n)}" for part, n in (("train", 160), ("val", 37))]


def weights(folder, recipe, name="last"):
    import mxnet as mx

    network = symbols.create(**recipe.network)
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, SIZE, SIZE)))
    state = load_checkpoint(folder / f"{name}.ckpt", network)
    return {key: value.data().asnumpy() for key, value in network.collect_params().items()}, state


def test_a_run_learns_and_leaves_what_its_user_expects(tmp_path, toys):
    folder, recipe = run(tmp_path / "run", toys, "train.epochs=12", "optimizer.lr=0.005", curves=True)
    log = read_log(folder / "log.csv")
    assert len(log) == 12 and log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert log[-1]["train_gender_acc"] > 0.9
    for name in ("recipe.yaml", "curves.png", "last.ckpt", "best.ckpt"):
        assert (folder / name).stat().st_size > 0
    assert list((folder / "events").iterdir())
    assert read_state(folder / "best.ckpt")["best"] == min(row["val_age_mae"] for row in log)

    table = finish(symbols.create(**recipe.network), recipe, folder)
    assert_valid(folder / "model")
    card = load_card(folder)
    assert "gender" in table and card.error["n"] == 37 and card.interval["level"] == 0.8
    assert card.crop.same_as(Crop.named("utkface", SIZE)) and card.training["train"][0]["count"] == 160
    best = min(log, key=lambda row: row["val_age_mae"])
    assert card.error["age_mae"] == pytest.approx(best["val_age_mae"], abs=0.02)  # weights are rounded to halves
    assert symbols.create(**card.network).arguments == symbols.create(**recipe.network).arguments
    faces = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    assert load_model(folder).predict(faces).age.shape == (3,)


def test_resuming_gives_what_a_run_in_one_go_gives(tmp_path, toys):
    # "steps" without a step: a rate that does not depend on how long the run is to be
    same = ["augment.mirror=0.5", "augment.rotate=10", "optimizer.schedule=steps"]
    whole, recipe = run(tmp_path / "whole", toys, *same)
    parts, _ = run(tmp_path / "parts", toys, *same, "train.epochs=2")
    run(parts, toys, *same, resume=True)
    (one, state_one), (two, state_two) = weights(whole, recipe), weights(parts, recipe)
    assert state_one == state_two and state_one["epoch"] == 3
    assert all((one[key] == two[key]).all() for key in one)
    assert [row["epoch"] for row in read_log(parts / "log.csv")] == [1, 2, 3]


def test_a_run_is_never_overwritten_silently(tmp_path, toys):
    run(tmp_path / "run", toys, "train.epochs=1")
    with pytest.raises(AgedgeError, match="holds a run already: go on with it by --resume"):
        run(tmp_path / "run", toys)
    with pytest.raises(AgedgeError, match="last.ckpt: missing: there is no run to resume"):
        run(tmp_path / "none", toys, resume=True)
    (tmp_path / "run" / "last.ckpt").unlink()
    for resume in (False, True):
        with pytest.raises(AgedgeError, match="holds best.ckpt of a run whose last.ckpt is gone: give another run.dir"):
            run(tmp_path / "run", toys, resume=resume)


def test_fine_tuning_starts_from_given_weights(tmp_path, toys):
    first, recipe = run(tmp_path / "first", toys, "train.epochs=4")
    finish(symbols.create(**recipe.network), recipe, first)
    scratch, _ = run(tmp_path / "scratch", toys, "train.epochs=1", "optimizer.lr=1e-6")
    before = read_log(first / "log.csv")[-1]["loss"]
    prefix = f"{first / 'model' / 'mobilenet025'},0"
    for number, source in enumerate((first, first / "model", prefix)):
        tuned, _ = run(tmp_path / f"tuned{number}", toys, "train.epochs=1", "optimizer.lr=1e-6", f"pretrained={source}")
        assert read_log(tuned / "log.csv")[0]["loss"] < read_log(scratch / "log.csv")[0]["loss"]
        assert read_log(tuned / "log.csv")[0]["loss"] == pytest.approx(before, rel=0.25)


def test_a_run_measures_as_evaluate_does_where_faces_are_cut_in_another_way(tmp_path, toys, caplog):
    from evaluate import evaluate

    val = write_toys(tmp_path / "wide.rec", 72, 5, crop="arcface")
    folder, recipe = run(tmp_path / "run", toys, f"data.val={val}", "train.epochs=2")
    finish(symbols.create(**recipe.network), recipe, folder)
    card = load_card(folder)
    caplog.clear()
    caplog.set_level("INFO")
    evaluate(str(folder), [val], "mxnet", "", "auto", tmp_path / "e", None)
    assert "moved to the model's crop" in caplog.text
    assert json.loads((tmp_path / "e").read_text())["age_mae"] == pytest.approx(card.error["age_mae"], abs=1e-4)
    assert read_log(folder / "log.csv")[-1]["val_age_mae"] == pytest.approx(card.error["age_mae"], abs=0.1)


def test_a_run_is_resumed_with_its_own_optimizer(tmp_path, toys):
    run(tmp_path / "run", toys, "train.epochs=1")
    for change in ("optimizer.name=sgd", "optimizer.wd=0.5"):
        with pytest.raises(UsageError, match=f"was started with {change.split('=')[0]}="):
            run(tmp_path / "run", toys, change, resume=True)


def test_weights_of_another_network_are_refused_by_name(tmp_path, toys):
    folder, recipe = run(tmp_path / "run", toys, "train.epochs=1")
    with pytest.raises(AgedgeError, match=r"best.ckpt: of another network: .*; and \d+ more") as refused:
        run(tmp_path / "other", toys, "network.name=mobilenet050", f"pretrained={folder}")
    assert str(refused.value).count(";") <= 10
    with pytest.raises(AgedgeError, match="x-0003.params: missing"):
        run(tmp_path / "other2", toys, f"pretrained={tmp_path}/x,3")
    (tmp_path / "x-0004.params").write_text("no parameters")
    with pytest.raises(AgedgeError, match="x-0004.params: not an MXNet parameter file"):
        run(tmp_path / "other3", toys, f"pretrained={tmp_path}/x,4")


def test_damaged_checkpoints_are_named(tmp_path, toys):
    folder, recipe = run(tmp_path / "run", toys, "train.epochs=1")
    content = (folder / "last.ckpt").read_bytes()
    for damaged in (content[: len(content) // 2], b"nonsense", b""):
        (folder / "last.ckpt").write_bytes(damaged)
        with pytest.raises(AgedgeError, match=r"last\.ckpt: "):
            run(folder, toys, resume=True)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path, toys):
    with pytest.raises(AgedgeError, match="the loss is nan at step"):
        run(tmp_path / "run", toys, "optimizer.name=sgd", "optimizer.lr=1e12", "train.epochs=4")


def test_missing_data_is_named(tmp_path):
    for overrides, says in (
        ([], "data.train: must be given"),
        (["data.train=no.rec", "data.val=no.rec"], "no.rec: missing"),
        (["data.train=no.rec"], "data.val: must be given"),
        (["data.train=no.rec", "data.val=[]"], "data.val: must be given"),
    ):
        with pytest.raises(AgedgeError, match=says):
            run(tmp_path / "run", [], *overrides)


def test_data_that_cannot_train_is_named(tmp_path, toys):
    with RecordWriter(tmp_path / "unlabelled.rec") as writer:
        for _ in range(20):
            writer.write(Label(), cv2.imencode(".jpg", np.zeros((SIZE, SIZE, 3), np.uint8))[1].tobytes())
    for part in ("train", "val"):
        with pytest.raises(AgedgeError, match="unlabelled.rec: no record with a known age or gender"):
            run(tmp_path / "run", toys, f"data.{part}={tmp_path / 'unlabelled.rec'}")
    with pytest.raises(AgedgeError, match="160 faces, too few for train.batch_size=500"):
        run(tmp_path / "run", toys, "train.batch_size=500")
    with pytest.raises(UsageError, match="optimizer.name: unknown 'foo'; choose one of .*adam"):
        run(tmp_path / "run", toys, "optimizer.name=foo")


def test_the_command(tmp_path, toys, capsys, monkeypatch):
    import train as command_line
    from evaluate import evaluate

    network = ["--network", "mobilenet", "--multiplier", "0.25"]
    command = [sys.executable, "train.py", *network, "--prefix", str(tmp_path / "r"), "--quiet", *SMALL, *toys]
    done = subprocess.run([*command, "train.epochs=1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "epoch 1: loss" in done.stderr and "gender" in done.stdout and "model:" in done.stdout
    monkeypatch.setattr(command_line, "use_all_cores", lambda: None)  # it sets the environment
    with pytest.raises(SystemExit) as ended:
        run_command(command_line.main, command[2:])
    said = capsys.readouterr().err
    assert ended.value.code == 1 and said.startswith("error: ") and len(said.splitlines()) == 1
    words = ["--model", str(tmp_path / "r"), "--data", toys[1].split("=")[1]]
    with pytest.raises(SystemExit) as ended:
        run_command(evaluate, [*words, "--json", str(tmp_path / "e.json"), "--report", str(tmp_path)])
    assert ended.value.code == 0
    measured = json.loads((tmp_path / "e.json").read_text())
    assert measured["n"] == 37 == sum(band["n"] for band in measured["bands"]) + measured_outside(toys)
    assert (tmp_path / "errors.png").is_file()


def measured_outside(toys):
    """How many of the validation toys lie in no single band (their group of ages spans two)."""
    from agedge.evaluation.metrics import BANDS
    from agedge.records import read_records

    labels = [record.label for record in read_records(toys[1].split("=")[1])]
    return sum(not any(low <= label[1] and label[2] <= high for low, high in BANDS) for label in labels)


@pytest.mark.parametrize(
    "words, status, says",
    [
        (["optimizer.lrr=1"], 2, "did you mean 'lr'"),
        (["network.name=mobilnet"], 2, "unknown 'mobilnet'; choose one of"),
        (["network.depth=3"], 2, "network: "),
        (["network.size=abc"], 2, "size=abc: must be a whole number of at least 16 pixels"),
        (["network.stem_stride=0"], 2, "stem_stride=0: must be 1 or 2"),
        (["network.age_head={name: distribution, sigma: abc}"], 2, "network: "),
        (["--gpus", "x"], 2, "--gpus x"),
        (["--recipe", "recipes/none.yaml"], 1, "recipes/none.yaml: no such recipe"),
        ([], 1, "data.train: must be given"),
    ],
)
def test_wrong_usage_is_one_line_and_the_right_status(words, status, says, tmp_path, capsys):
    import train as command_line

    with pytest.raises(SystemExit) as ended:
        run_command(command_line.main, [*words, f"run.dir={tmp_path / 'r'}"])
    said = capsys.readouterr().err
    assert ended.value.code == status and says in said and len(said.splitlines()) == 1
