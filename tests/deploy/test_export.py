"""Every format of an exported model has MXNet's outputs; one that does not is never written."""

import json
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.runtime import load_card, load_model
from agedge.runtime.card import checksum
from agedge.runtime.model_files import save_checkpoint
from deploy import export
from deploy.export import export_model
from deploy.formats import onnx_fixes, to_ncnn
from deploy.isolated import run_isolated
from deploy.tolerances import TOLERANCES, Tolerance, compare_raw
from tests.card_schema import assert_valid
from tests.small_networks import convolved, faces, save_small, two_answers, with_weights

FORMS = ("onnx", "ncnn", "ncnn-fp16")


def test_all_formats_with_one_card(exported_once):
    folder, forms = exported_once
    assert {file.name for file in (folder / "out").iterdir()} == {
        *("card.json", "small-symbol.json", "small-0000.params", "small.onnx"),
        *("small.ncnn.param", "small.ncnn.bin", "small-fp16.ncnn.param", "small-fp16.ncnn.bin"),
    }
    card = load_card(folder / "out")
    assert list(card.files) == ["mxnet", *FORMS] == [form.runtime for form in forms]
    assert card.blobs["ncnn"] == {"data": "in0", "age": "out0", "p_male": "out1"}
    assert card.terms == "drawn noise"
    assert_valid(folder / "out")
    sizes = {form.runtime: form.size for form in forms}
    assert sizes["ncnn-fp16"] < 0.75 * sizes["ncnn"]


@pytest.mark.parametrize("runtime", FORMS)
def test_formats_have_mxnets_outputs_for_any_number_of_faces(exported_once, runtime):
    folder, _ = exported_once
    model = load_model(folder / "out", runtime, threads=1)
    ours = load_model(folder / "model")
    limit = {"onnx": 1e-4, "ncnn": 5e-4, "ncnn-fp16": 0.3}[runtime]
    for count in (1, 3, 100):
        images = faces(count)
        mine, other = ours.predict(images), model.predict(images)
        np.testing.assert_allclose(other.age, mine.age, atol=limit)
        np.testing.assert_allclose(other.p_male, mine.p_male, atol=limit / 50)
    assert np.ptp(mine.age) > 20 and np.ptp(mine.p_male) > 0.5


def test_exporting_into_the_models_own_folder_and_again_changes_nothing(exported):
    before = {file.name: file.read_bytes() for file in (exported / "out").iterdir()}
    export_model(exported / "out", ["onnx", "ncnn"], exported / "out")
    assert {file.name: file.read_bytes() for file in (exported / "out").iterdir()} == before


def test_a_wrong_translation_is_not_written(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_fixes, "write_fixed_gammas", lambda heads, args: args)
    with pytest.raises(AgedgeError, match="small.onnx: the outputs of onnx differ from MXNet's: age differs by"):
        export_model(exported / "model", ["onnx"], tmp_path / "wrong")
    assert list((tmp_path / "wrong").iterdir()) == []


def test_what_pnnx_leaves_out_is_an_error(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_fixes, "slice_instead_of_split", lambda heads, shapes: heads)
    with pytest.raises(AgedgeError, match="small: ncnn lacks .* operations that pnnx left out: ignore Slice"):
        export_model(exported / "model", ["ncnn"], tmp_path / "wrong")


def test_pnnx_that_fails_or_is_missing(monkeypatch):
    with pytest.raises(AgedgeError, match="net: pnnx failed with status 3: no such operator"):
        to_ncnn.require_faithful("net", 3, "reading\nno such operator\n\n")
    to_ncnn.require_faithful("net", 0, "done, nothing to ignore\n")
    monkeypatch.setattr(to_ncnn, "find_spec", lambda name: None)
    with pytest.raises(AgedgeError, match="pnnx is not installed"):
        to_ncnn.find_pnnx()


def test_a_crash_of_the_other_process_is_an_error(exported, monkeypatch, tmp_path):
    crash = tmp_path / "crash.py"
    crash.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr("deploy.isolated.__file__", str(crash))
    with pytest.raises(AgedgeError, match=r"ncnn crashed on its files \(signal 11\)"):
        run_isolated(exported / "out", "ncnn", faces(1))


def test_constant_outputs_are_a_warning(tmp_path, caplog):
    symbol = two_answers(mx.sym.mean(convolved(), axis=(2, 3)))
    checkpoint = with_weights(symbol)
    for name in ("dense_age_weight", "dense_gender_weight"):
        checkpoint.args[name][:] = 0
    save_checkpoint(checkpoint, save_small(tmp_path / "dead", symbol), tmp_path / "dead")
    export_model(tmp_path / "dead", ["onnx"], tmp_path / "out")
    assert "equality proves little" in caplog.text


def test_tolerances():
    ours = {"age": np.array([[20.0], [30.0]]), "p_male": np.array([[0.1], [0.9]])}
    off = {"age": ours["age"] + [[0.0], [2e-4]], "p_male": ours["p_male"]}
    assert "age differs by 0.00014 at most, beyond rounding" in TOLERANCES["onnx"].find_fault(compare_raw(ours, off))
    assert TOLERANCES["ncnn"].find_fault(compare_raw(ours, off)) == ""
    # What float32 does to an age of 80 is no fault of a translation.
    old = {"age": np.array([[80.0]])}
    assert TOLERANCES["onnx"].find_fault(compare_raw(old, {"age": old["age"] + 2e-4})) == ""
    assert TOLERANCES["onnx"].find_fault(compare_raw(old, {"age": old["age"] + 3e-4}))
    assert "on average" in Tolerance(mean=1e-5).find_fault(compare_raw(ours, off))
    assert TOLERANCES["ncnn"].find_fault(compare_raw(ours, {**off, "age": ours["age"] * np.nan}))


def test_unknown_format_and_untranslatable_network(exported, tmp_path):
    with pytest.raises(UsageError, match="to: unknown 'tflite'; choose one of onnx, ncnn"):
        export_model(exported / "model", ["tflite"], tmp_path / "out")
    save_small(tmp_path / "odd", two_answers(mx.sym.gamma(1 + mx.sym.sigmoid(mx.sym.mean(convolved(), axis=(2, 3))))))
    with pytest.raises(AgedgeError, match="small: cannot be converted to ONNX: .*gamma"):
        export_model(tmp_path / "odd", ["onnx"], tmp_path / "out")


@pytest.mark.parametrize("name", ["small.onnx", "small.ncnn.param", "small.ncnn.bin", "small-fp16.ncnn.bin"])
@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "text"])
@pytest.mark.parametrize("checked", [True, False])
def test_damaged_files_are_named(exported, name, how, checked):
    out = exported / "out"
    path = out / name
    if how == "missing":
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"not what it says\n"}[how])
    if not checked and how != "missing":  # as who changes a model would
        card = json.loads((out / "card.json").read_text())
        card["sha256"][name] = checksum(path)
        (out / "card.json").write_text(json.dumps(card))
    runtime = "onnx" if name.endswith("onnx") else "ncnn-fp16" if "fp16" in name else "ncnn"
    with pytest.raises(AgedgeError) as error:
        run_isolated(out, runtime, faces(1))
    assert path.name in str(error.value) and "crashed" not in str(error.value) and "\n" not in str(error.value)


def test_a_card_that_does_not_name_the_blobs(exported):
    out = exported / "out"
    card = load_card(out)
    del card.blobs["ncnn"]["p_male"]
    card.save(out)
    with pytest.raises(AgedgeError, match="card.json: it does not name the ncnn blob of p_male"):
        load_model(out, "ncnn")


def test_a_missing_package_is_named(exported, monkeypatch):
    for runtime, package in (("onnx", "onnxruntime"), ("ncnn", "ncnn")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(AgedgeError, match=f"runtime {runtime}: the package {package} is not installed"):
            load_model(exported / "out", runtime)


def run_command(*arguments):
    command = [sys.executable, "-m", "deploy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=export.__file__.rsplit("/", 2)[0])


def test_the_commands_export_and_bench(exported, tmp_path):
    done = run_command("export", "--model", exported / "model", "--to", "onnx", "--out", tmp_path / "command")
    assert done.returncode == 0, done.stderr
    assert "small.onnx" in done.stdout and not (tmp_path / "command" / "small.ncnn.bin").exists()
    done = run_command("bench", "--model", exported / "model", "--exported", exported / "out", "--repeats", 3)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["mxnet", *FORMS]
    assert all(float(line.split()[1]) > 0 for line in done.stdout.splitlines()[1:])


def test_an_error_of_a_command_is_one_line(exported, tmp_path):
    done = run_command("export", "--model", tmp_path / "nowhere", "--out", tmp_path / "command")
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path / 'nowhere'}: no such model folder\n")
    done = run_command("export", "--model", exported / "model", "--out", tmp_path / "command", "--to", "tflite")
    assert (done.returncode, done.stderr) == (2, "error: to: unknown 'tflite'; choose one of onnx, ncnn\n")
