"""evaluate.py as users run it: the table, the JSON, the report, unreadable records, errors."""

import json

import cv2
import numpy as np
import pytest

import evaluate
from agedge.cli import run_command
from agedge.labels import Label, exact
from agedge.records import RecordWriter
from tests.small_networks import describe


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """A model whose age is half the brightness of a face, and a .rec with an unreadable record."""
    import mxnet as mx

    from agedge.runtime.model_files import INPUT, Checkpoint, save_checkpoint

    folder = tmp_path_factory.mktemp("evaluate")
    mean = mx.sym.mean(mx.sym.var(INPUT), axis=(1, 2, 3)).expand_dims(1)
    age = mx.sym.broadcast_mul(mean, mx.sym.var("weight", shape=(1, 1)), name="age")
    p_male = mx.sym.broadcast_mul(mean, mx.sym.var("slope", shape=(1, 1)), name="p_male")
    weights = {"weight": mx.nd.array([[0.5]]), "slope": mx.nd.array([[1 / 200]])}
    save_checkpoint(Checkpoint(mx.sym.Group([age, p_male]), weights, {}), describe("toy"), folder / "toy")
    # (label, predicted age): P(male) is a hundredth of the age.
    faces = [(exact(0, 20), 20), (exact(0, 40), 46), (exact(1, 50), 49), (Label(1, 60, 69), 75), (Label(), 30)]
    with RecordWriter(folder / "val.rec") as writer:
        writer.write(exact(0, 1), b"no image")
        for label, years in faces:
            writer.write(label, cv2.imencode(".png", np.full((32, 32, 3), 2 * years, np.uint8))[1].tobytes())
    return folder


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        run_command(evaluate.evaluate, list(map(str, arguments)))
    return ended.value.code


def test_the_metrics_as_table_json_and_report(toys, tmp_path, capsys, caplog):
    arguments = ("--model", toys / "toy", "--data", toys / "val.rec", "--json", tmp_path / "e.json")
    assert run(*arguments, "--report", tmp_path / "out" / "deep") == 0
    value = json.loads((tmp_path / "e.json").read_text())
    # Errors of age: 0, +6, -1, and +6 beyond the interval 60-69; genders: 20, 46 right as female, 49 wrong, 75 right.
    assert (value["n"], value["age_mae"], value["age_bias"], value["gender_acc"]) == (5, 3.25, 2.75, 0.75)
    assert (value["data"], value["bad_records"], value["runtime"]) == (str(toys / "val.rec"), [0], "mxnet")
    assert value["model"] == str(toys / "toy")
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last == ["all", "5", "3.25", "+2.75", "50.0%", "75.0%"]
    assert "val.rec: " in caplog.text and "left out: 0" in caplog.text
    assert {path.name for path in (tmp_path / "out" / "deep").iterdir()} == {"report.html", "errors.png"}


def test_several_files_and_json_on_stdout(toys, tmp_path, capsys):
    with RecordWriter(tmp_path / "more.rec") as writer:
        writer.write(exact(1, 80), cv2.imencode(".png", np.full((32, 32, 3), 160, np.uint8))[1].tobytes())
    files = [str(toys / "val.rec"), str(tmp_path / "more.rec")]
    assert run("--model", toys / "toy", "--data", files[0], "--data", files[1], "--json", "-") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["n"], value["data"], value["bad_records"]) == (6, files, {files[0]: [0], files[1]: []})


@pytest.mark.parametrize(
    "options, status, fault",
    [
        ({"--model": "nothing"}, 1, "nothing"),
        ({"--runtime": "tensorrt"}, 2, "tensorrt"),
        ({"--data": "absent.rec"}, 1, "absent.rec"),
        ({"--labels": "height"}, 2, "height"),
    ],
)
def test_an_error_is_one_line(toys, options, status, fault, capsys):
    options = {"--model": toys / "toy", "--data": toys / "val.rec", **options}
    assert run(*(word for pair in options.items() for word in pair)) == status
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("error: ") == 1
    assert shown.err.startswith("error: ") and fault in shown.err


def test_a_file_without_a_readable_image_is_an_error(toys, tmp_path, capsys):
    with RecordWriter(tmp_path / "bad.rec") as writer:
        writer.write(exact(0, 1), b"no image")
    assert run("--model", toys / "toy", "--data", tmp_path / "bad.rec") == 1
    assert "bad.rec: contains no readable image" in capsys.readouterr().err


def test_results_never_replace_the_data(toys, capsys):
    before = (toys / "val.rec").read_bytes()
    assert run("--model", toys / "toy", "--data", toys / "val.rec", "--json", toys / "val.rec") != 0
    assert "val.rec" in capsys.readouterr().err and (toys / "val.rec").read_bytes() == before
