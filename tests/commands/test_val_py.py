"""val.py as users run it: age models, age groups, options, what it refuses."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from agedge.labels import Label, exact
from agedge.records import RecordWriter
from tests.paths import ROOT
from tests.small_networks import describe

SIX = {"kind": "age_groups", "bounds": [[0, 5], [6, 18], [19, 30], [31, 45], [46, 65], [66, 120]]}


def run(*words):
    done = subprocess.run([sys.executable, "val.py", *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Grey faces of a brightness of twice their age, and models that know it: by age, by groups, and for gender."""
    import mxnet as mx

    from agedge.runtime.model_files import INPUT, Checkpoint, save_checkpoint
    from agedge.runtime.outputs import PROBABILITY_MALE, YEARS

    folder = tmp_path_factory.mktemp("val")
    with RecordWriter(folder / "val.rec") as writer:
        for age in (2, 10, 12, 25, 40, 50, 80):
            write(writer, exact(0, age), age)
        write(writer, exact(1, 25), 40)  # looks like 40
        write(writer, Label(0, 20, 29), 22)
        write(writer, Label(0, 25, 35), 30)
        write(writer, Label(), 30)

    years = mx.sym.mean(mx.sym.var(INPUT), axis=(1, 2, 3)).expand_dims(1) / 2
    weight = mx.sym.var("weight", shape=(1, 1))
    age = mx.sym.broadcast_mul(years, weight, name="age")
    middles = mx.sym.var("middles", shape=(1, 6))
    groups = mx.sym.softmax(-mx.sym.abs(mx.sym.broadcast_sub(age, middles)), name="age_group")
    args = {"weight": mx.nd.ones((1, 1)), "middles": mx.nd.array([[2.5, 12, 24.5, 38, 55.5, 83]])}
    models = {
        "age": (age, {"age": YEARS}),
        "groups": (mx.sym.Group([age, groups]), {"age": YEARS, "age_group": SIX}),
        "gender": (mx.sym.sigmoid(age, name="p_male"), {"p_male": PROBABILITY_MALE}),
    }
    for name, (symbol, outputs) in models.items():
        card = describe(name)
        card.outputs = outputs
        given = {key: value for key, value in args.items() if key in symbol.list_arguments()}
        save_checkpoint(Checkpoint(symbol, given, {}), card, folder / name)
    return folder


def write(writer, label, looks):
    writer.write(label, cv2.imencode(".png", np.full((32, 32, 3), 2 * looks, np.uint8))[1].tobytes())


def test_an_age_model_by_its_age(toys, tmp_path):
    done = run(
        "--model", toys / "age", "--data", toys / "val.rec", "--out", tmp_path / "o", "--json", tmp_path / "j.json"
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy 88.9% of 9 faces; 100.0% at most one off" in done.stdout
    assert "not counted: 1 of unknown age, 1 of an age that lies in no single group" in done.stdout
    value = json.loads((tmp_path / "j.json").read_text())
    assert value["confusion"][2] == [0, 0, 2, 1, 0, 0] and value["n"] == 9
    assert (value["runtime"], value["data"], value["bad_records"]) == ("mxnet", str(toys / "val.rec"), [])
    for name in ("confusion.png", "faces.png"):
        assert cv2.imread(str(tmp_path / "o" / name)).std() > 5


def test_a_network_of_groups_by_its_probabilities_and_several_files(toys, tmp_path):
    """The second file has faces of 19 that look like 17, which is nearer to the middle of 6-18."""
    with RecordWriter(tmp_path / "more.rec") as writer:
        for _ in range(3):
            write(writer, exact(0, 19), 17)
    done = run("--model", toys / "groups", "--data", toys / "val.rec", "--data", tmp_path / "more.rec", "--faces", 5)
    assert done.returncode == 0, done.stderr
    assert "accuracy 66.7% of 12 faces" in done.stdout


def test_groups_of_ones_own(toys, tmp_path):
    words = ("--data", toys / "val.rec", "--groups", "0-18,19+", "--out", tmp_path, "--faces", 0)
    for model in ("age", "groups"):
        done = run("--model", toys / model, *words)
        assert "accuracy 100.0% of 10 faces" in done.stdout, done.stderr
    assert (tmp_path / "confusion.png").is_file() and not (tmp_path / "faces.png").exists()


@pytest.mark.parametrize(
    "words,status,fault",
    [
        (("--model", "gender"), 1, "predicts no age, only p_male (probability_male)"),
        (("--model", "age", "--groups", "5-1"), 2, "--groups: 5-1"),
        (("--model", "groups", "--groups", "0-10,11+"), 2, "own group 6-18 does not fit into one"),
        (("--model", "age", "--faces", "-1"), 2, "--faces"),
        (("--model", "nothing"), 1, "no such model folder"),
    ],
)
def test_what_cannot_be_is_one_line(toys, words, status, fault):
    done = run("--model", toys / words[1], *words[2:], "--data", toys / "val.rec")
    assert done.returncode == status and fault in done.stderr
    assert len(done.stderr.strip().splitlines()[-1:]) == 1 and done.stderr.strip().splitlines()[-1].startswith(
        "error: "
    )
    assert done.stdout == ""
