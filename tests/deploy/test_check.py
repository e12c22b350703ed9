"""`check` passes a faithful export and fails an altered one, by name."""

import json

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.labels import exact
from agedge.records import RecordWriter
from agedge.runtime import load_card
from agedge.runtime.outputs import AGE_AND_GENDER
from deploy.check import check_exported, judge
from tests.deploy.test_export import run_command
from tests.small_networks import describe, every_operation, faces, save_small, with_weights


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """FILE.rec with 30 faces of 40 pixels."""
    path = tmp_path_factory.mktemp("records") / "faces.rec"
    with RecordWriter(path) as writer:
        for number, image in enumerate(faces(30, size=40)):
            writer.write(exact(number % 2, number), cv2.imencode(".jpg", image)[1].tobytes())
    return path


def alter(out, name, change):
    """Change a file and give the card its new checksum, so that only the numbers can tell."""
    (out / name).write_bytes(change((out / name).read_bytes()))
    load_card(out).save(out)


def test_a_faithful_export_passes(exported_once, records):
    folder, _ = exported_once
    verdicts = check_exported(folder / "model", folder / "out", records)
    assert [found.runtime for found in verdicts] == ["onnx", "ncnn", "ncnn-fp16"]
    for found in verdicts:
        assert not found.fault and found.faces == 30 and found.flips == 0
    assert verdicts[0].age_max < 1e-4 and verdicts[1].age_max < 5e-4
    assert 1e-4 < verdicts[2].age_mean < 0.1  # half precision is not single precision
    assert check_exported(folder / "model", folder / "out", records, faces=7)[0].faces == 7


def test_altered_weights_fail_and_are_named(exported, records):
    def change(weights):  # the last numbers of the file: a head's
        altered = bytearray(weights)
        altered[-4:] = np.float32(0.5).tobytes()
        return bytes(altered)

    alter(exported / "out", "small.ncnn.bin", change)
    report = exported / "reports" / "check.json"
    words = ("--model", exported / "model", "--exported", exported / "out", "--data", records, "--json", report)
    done = run_command("check", *words)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {exported / 'out'}: ncnn: ") and "over the tolerance of 0.0005" in last
    assert "onnx:" not in last and "fp16" not in last
    found = json.loads(report.read_text())["runtimes"]
    assert [found[runtime]["ok"] for runtime in ("onnx", "ncnn", "ncnn-fp16")] == [True, False, True]


def test_an_altered_file_is_noticed_before_it_is_asked(exported, records):
    (exported / "out" / "small.onnx").write_bytes((exported / "out" / "small.onnx").read_bytes()[:-9])
    with pytest.raises(AgedgeError, match="small.onnx: its SHA-256 is not the one in card.json"):
        check_exported(exported / "model", exported / "out", records)


def test_another_networks_export(exported, tmp_path, records):
    from agedge.runtime.model_files import save_checkpoint
    from deploy.export import export_model

    save_checkpoint(with_weights(every_operation(), seed=9), describe(), tmp_path / "other")
    export_model(tmp_path / "other", ["onnx"], tmp_path / "other")
    (verdict,) = check_exported(exported / "model", tmp_path / "other", records)
    assert "over the tolerance" in verdict.fault and verdict.age_max > 1


def test_nothing_to_check(exported, tmp_path, records):
    with pytest.raises(AgedgeError, match="card.json: no exported files in it, only mxnet"):
        check_exported(exported / "model", exported / "model", records)
    with pytest.raises((AgedgeError, OSError), match="nowhere.rec"):
        check_exported(exported / "model", exported / "out", tmp_path / "nowhere.rec")
    save_small(tmp_path / "bigger", **{"size": 48})
    with pytest.raises(AgedgeError, match="another network than"):
        check_exported(tmp_path / "bigger", exported / "out", records)


def test_one_changed_gender_fails_half_precision():
    ours = {"age": np.full((9, 1), 30.0), "p_male": np.full((9, 1), 0.4999)}
    theirs = {"age": ours["age"] + 0.05, "p_male": ours["p_male"].copy()}
    assert judge("ncnn-fp16", ours, theirs, AGE_AND_GENDER).fault == ""
    theirs["p_male"][4] = 0.5001
    assert judge("ncnn-fp16", ours, theirs, AGE_AND_GENDER).fault == "1 of 9 faces change gender"
    theirs = {"age": ours["age"] + 0.2, "p_male": ours["p_male"]}
    assert "ages change by 0.2 years on average" in judge("ncnn-fp16", ours, theirs, AGE_AND_GENDER).fault


def test_what_a_network_does_not_say_is_not_compared():
    ages = {"age": np.array([[20.0], [30.0]], np.float32)}
    verdict = judge("ncnn-fp16", ages, ages, {"age": {"kind": "years"}})
    assert (verdict.age_max, verdict.p_male_max, verdict.flips, verdict.fault) == (0, None, None, "")
    broken = {"age": np.array([[20.0], [np.nan]], np.float32)}
    assert "ages change by nan" in judge("ncnn-fp16", ages, broken, {"age": {"kind": "years"}}).fault
