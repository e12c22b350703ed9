"""Training over folds: the splits, their files, runs on several files, and all_split.sh."""

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

import symbols
from agedge.cli import run_command
from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.evaluate import predict_records, to_json
from agedge.labels import exact
from agedge.records import RecordWriter, read_records
from agedge.runtime import Prediction, load_card
from agedge.training.commands.flags import flags_to_overrides
from agedge.training.data.folds import count_splits, find_folds, main, split_of_folds
from agedge.training.recipe import load_recipe
from agedge.training.tasks.finalize_age_gender import finish
from tests.paths import ROOT
from tests.training.toy_runs import SIZE, SMALL, run, write_toys


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def write_folds(folder, count, faces=16):
    for number in range(count):
        write_toys(folder / f"fold{number}.rec", faces + number, number)
    return folder


# ---- the splits


def test_ten_folders_follow_the_benchmark():
    assert count_splits(10) == 5
    splits = ["/".join("".join(map(str, part)) for part in split_of_folds(10, number)) for number in range(5)]
    assert splits == ["012345/67/89", "234567/89/01", "456789/01/23", "567890/12/34", "678901/23/45"]


@pytest.mark.parametrize("folds", [3, 4, 5, 9, 11, 82])
def test_of_other_folds_each_is_tested_and_validated_on_once(folds):
    splits = [split_of_folds(folds, number) for number in range(count_splits(folds))]
    every = Counter(range(folds))
    assert all(Counter((*train, *val, *test)) == every and train for train, val, test in splits)
    assert Counter(fold for _, _, test in splits for fold in test) == every
    assert Counter(fold for _, val, _ in splits for fold in val) == every
    assert splits[1] == (tuple(fold for fold in range(folds) if fold not in (1, 2)), (2,), (1,))


@pytest.mark.parametrize(
    "folds, number, message",
    [
        (10, 5, "--split 5: must be from 0 to 4 for 10 folds"),
        (82, 82, "--split 82: must be from 0 to 81 for 82 folds"),
        (5, -1, "--split -1: must be from 0 to 4 for 5 folds"),
        (2, 0, "2 folds: must be at least 3"),
    ],
)
def test_unknown_splits_are_refused(folds, number, message):
    with pytest.raises(UsageError, match=message):
        split_of_folds(folds, number)


# ---- the files


def test_folds_are_found_in_the_order_of_their_numbers(tmp_path):
    touch(tmp_path, *(f"fold{number}.rec" for number in range(12)), "fold0.idx", "fold01.rec", "folds.rec")
    assert [path.name for path in find_folds(tmp_path)] == [f"fold{number}.rec" for number in range(12)]


@pytest.mark.parametrize(
    "names, kind, message",
    [
        ([], AgedgeError, "folds: fold0.rec, fold1.rec, .. do not exist"),
        (["fold0.rec", "fold1.rec", "fold3.rec"], AgedgeError, "fold2.rec: does not exist, but fold3.rec does"),
        (["fold1.rec", "fold2.rec"], AgedgeError, "fold0.rec: does not exist"),
        (["train.rec", "val.rec", "test.rec"], UsageError, "folds: has a fixed split"),
    ],
)
def test_folders_without_folds_are_named(names, kind, message, tmp_path):
    folder = touch(tmp_path / "folds", *names)
    for find in (find_folds, lambda folder: flags_to_overrides(data_dir=folder, split=0)):
        with pytest.raises(AgedgeError, match=message) as refused:
            find(folder)
        assert type(refused.value) is kind


def test_split_fills_the_data_of_a_recipe(tmp_path):
    folder = touch(tmp_path / "a folder, [of] folds: é", *(f"fold{number}.rec" for number in range(5)))
    data = load_recipe(None, flags_to_overrides(data_dir=folder, split=4)).data
    assert data.train == [str(folder / f"fold{number}.rec") for number in (1, 2, 3)]
    assert (data.val, data.test) == (str(folder / "fold0.rec"), str(folder / "fold4.rec"))
    with pytest.raises(UsageError, match="--split 4: needs --data-dir"):
        flags_to_overrides(split=4)
    with pytest.raises(UsageError, match="has folds, not a fixed split: choose a split"):
        flags_to_overrides(data_dir=folder)


def test_a_fixed_split_is_tested_on_where_it_has_a_test(tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: {test: other.rec}")
    touch(tmp_path, "train.rec", "val.rec")
    assert load_recipe(tmp_path / "recipe.yaml", flags_to_overrides(data_dir=tmp_path)).data.test == []
    touch(tmp_path, "test.rec")
    assert load_recipe(None, flags_to_overrides(data_dir=tmp_path)).data.test == str(tmp_path / "test.rec")


def test_a_run_is_named_after_its_split_unless_run_dir_is_given(tmp_path):
    (tmp_path / "net.yaml").write_text("run: {dir: runs/mine}")
    (tmp_path / "bare.yaml").write_text("train: {epochs: 1}")
    assert load_recipe(tmp_path / "net.yaml", [], "-split3").run.dir == "runs/mine-split3"
    assert load_recipe(tmp_path / "bare.yaml", [], "-split3").run.dir == "runs/bare-split3"
    assert load_recipe(tmp_path / "net.yaml", ["run.dir=runs/mine"], "-split3").run.dir == "runs/mine"
    assert load_recipe(tmp_path / "net.yaml").run.dir == "runs/mine"
    (tmp_path / "net.yaml").write_text("run: {dir: 5}")
    with pytest.raises(UsageError, match="run.dir=5: must be a text"):
        load_recipe(tmp_path / "net.yaml", [], "-split3")


def test_the_splits_of_a_folder_are_listed(tmp_path, capsys):
    for folds, said in ((10, "0 1 2 3 4"), (3, "0 1 2")):
        folder = touch(tmp_path / str(folds), *(f"fold{number}.rec" for number in range(folds)))
        with pytest.raises(SystemExit) as ended:
            run_command(main, [str(folder)])
        assert ended.value.code == 0 and capsys.readouterr().out == f"{said}\n"


# ---- runs on several files


def test_several_files_are_evaluated_record_by_record_once(tmp_path):
    for name, count in (("a", 70), ("b", 3)):
        write_toys(tmp_path / f"{name}.rec", count, count)
    with RecordWriter(tmp_path / "c.rec") as writer:
        writer.write(exact(0, 5), b"no image")
    files = [tmp_path / f"{name}.rec" for name in "abc"]

    def predict(images):
        assert images.shape[1:] == (SIZE, SIZE, 3)
        return Prediction(images.mean((1, 2, 3)), np.zeros(len(images)))

    answers = predict_records(predict, [*files, files[0]], SIZE)
    labels = [record.label for path in files[:2] for record in read_records(path)]
    np.testing.assert_equal(answers.labels, labels)
    images = [record.image.mean() for path in files[:2] for record in read_records(path)]
    np.testing.assert_allclose(answers.ages, images)
    said = to_json("m", "mxnet", answers, {})
    assert said["data"] == [str(path) for path in files]
    assert said["bad_records"] == {str(files[0]): [], str(files[1]): [], str(files[2]): [0]}
    one = to_json("m", "mxnet", predict_records(predict, files[1], SIZE), {})
    assert (one["data"], one["bad_records"]) == (str(files[1]), [])
    with pytest.raises(AgedgeError, match="c.rec: contains no readable image"):
        predict_records(predict, files[2], SIZE)


def test_a_run_over_folds_is_validated_and_tested_on_all_of_theirs(tmp_path):
    folds = write_folds(tmp_path / "folds", 10)
    data = flags_to_overrides(data_dir=folds, split=1)  # 2 to 7, 8 and 9, 0 and 1
    folder, _ = run(tmp_path / "run", data, "train.epochs=1")
    assert not (folder / "test.json").exists()
    _, recipe = run(tmp_path / "run", data, "train.epochs=2", resume=True)
    said = finish(symbols.create(**recipe.network), recipe, folder)
    card, tested = load_card(folder), json.loads((folder / "test.json").read_text())
    assert "validation: fold8.rec, fold9.rec\n" in said and "test: fold0.rec, fold1.rec\n" in said
    assert card.error["n"] == json.loads((folder / "report.json").read_text())["n"] == 16 + 8 + 16 + 9
    assert tested["n"] == 16 + 16 + 1 and tested["data"] == [str(folds / f"fold{number}.rec") for number in (0, 1)]
    trained = card.training
    names = [[each["file"] for each in trained[part]] for part in ("train", "validation", "test")]
    assert names == [[f"fold{k}.rec" for k in part] for part in ((2, 3, 4, 5, 6, 7), (8, 9), (0, 1))]

    command = [sys.executable, "evaluate.py", "--model", str(folder), "--json", str(tmp_path / "e.json")]
    files = [word for path in tested["data"] for word in ("--data", path)]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((tmp_path / "e.json").read_text())
    assert set(evaluated) == set(tested) and evaluated["data"] == tested["data"] and evaluated["n"] == tested["n"]
    assert evaluated["age_mae"] == pytest.approx(tested["age_mae"], abs=1e-4)

    run(tmp_path / "run", data, "train.epochs=3", resume=True)
    assert not (folder / "test.json").exists(), "of weights that are the run's best no more"


def test_test_files_are_checked_before_a_run_begins(tmp_path):
    folds = write_folds(tmp_path / "folds", 3)
    (folds / "fold0.rec").write_bytes(b"")
    with pytest.raises(AgedgeError, match="fold0.rec: empty"):
        run(tmp_path / "run", flags_to_overrides(data_dir=folds, split=0))
    assert not (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.parametrize(
    "words, status, says",
    [
        (["--split", "1"], 2, "--split 1: needs --data-dir"),
        (["--split", "3", "--data-dir", "FOLDS"], 2, "--split 3: must be from 0 to 2 for 3 folds"),
        (["--split", "0", "--data-dir", "none"], 1, "none: fold0.rec, fold1.rec, .. do not exist"),
    ],
)
def test_train_py_refuses_a_wrong_split(words, status, says, tmp_path, capsys):
    import train

    folds = touch(tmp_path / "folds", "fold0.rec", "fold1.rec", "fold2.rec")
    with pytest.raises(SystemExit) as ended:
        run_command(train.main, [word.replace("FOLDS", str(folds)) for word in words])
    said = capsys.readouterr().err
    assert ended.value.code == status and says in said and len(said.splitlines()) == 1


# ---- all_split.sh


def all_split(*words, **environment):
    environment = {**os.environ, "PYTHON": sys.executable, **{name: str(of) for name, of in environment.items()}}
    return subprocess.run(["sh", "all_split.sh", *words], cwd=ROOT, capture_output=True, text=True, env=environment)


def test_all_split_without_folds_is_one_line(tmp_path):
    done = all_split(DATA_DIR=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {tmp_path}: fold0.rec")
    assert len(done.stderr.splitlines()) == 1
    done = all_split(DATA_DIR=touch(tmp_path / "fixed", "train.rec"))
    assert done.returncode == 2 and "a fixed split" in done.stderr and len(done.stderr.splitlines()) == 1
    done = all_split(DATA_DIR=tmp_path, RECIPE="mobilnet")
    assert done.returncode == 2 and "recipes/mobilnet.yaml" in done.stderr and "mobilenet025" in done.stderr


@pytest.mark.slow
def test_all_split_trains_the_splits_that_are_left_and_prints_all(tmp_path):
    place = {"DATA_DIR": write_folds(tmp_path / "toys", 3, faces=32), "RUNS": tmp_path / "my runs"}
    small = [word for word in SMALL if "epochs" not in word] + ["train.epochs=1"]
    done = all_split(*small, **place, SPLITS="2 0")
    assert done.returncode == 0, done.stderr
    tests = [tmp_path / "my runs" / f"mobilenet025-toys-split{split}" / "test.json" for split in range(3)]
    assert [path.exists() for path in tests] == [True, False, True]
    assert [line.split()[0] for line in done.stdout.splitlines()[-5:]] == ["split", "0", "2", "mean", "spread"]
    before = tests[2].stat().st_mtime_ns
    tests[0].unlink()  # as if it had been stopped
    done = all_split(*small, **place)
    assert done.returncode == 0, done.stderr
    assert tests[2].stat().st_mtime_ns == before and "resuming after epoch 1" in done.stderr
    table = [line.split() for line in done.stdout.splitlines()[-6:]]
    assert [row[:2] for row in table[1:4]] == [["0", "32"], ["1", "33"], ["2", "34"]]
    maes = [json.loads(path.read_text())["age_mae"] for path in tests]
    assert table[4][:2] == ["mean", f"{np.mean(maes):.2f}"]
    assert table[5][:2] == ["spread", f"{np.std(maes, ddof=1):.2f}"]
