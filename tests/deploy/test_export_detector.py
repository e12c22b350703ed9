"""A detector's ONNX and ncnn files have MXNet's outputs for images of any size; others are never written."""

import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.faces.essh.card import OUTPUTS, DetectorCard, read_card, save_detector
from agedge.runtime.card import checksum
from agedge.runtime.model_files import read_checkpoint
from deploy import __main__ as commands
from deploy import detector, export
from deploy.export import export_model
from deploy.formats import ncnn_crops, to_ncnn
from deploy.isolated import run_batches_isolated
from deploy.slim import slim_model
from symbols.essh import ESSH
from tests.card_schema import assert_valid
from tests.shipping import make_lively

FORMS = ("onnx", "ncnn", "ncnn-fp16")
# Height, width: none of them is among those that export proves; whole strides, odd maps at each stride, and small.
SIZES = ((64, 96), (96, 224), (250, 187), (72, 40), (9, 33), (1, 1))


def build(passes=10, **arguments):
    """Random weights whose answers vary from place to place, but are as moderate as trained ones are."""
    network = ESSH(**arguments)
    network.initialize(mx.init.Xavier("gaussian", "in", 2))
    network.size = 64
    make_lively(network, passes)
    for name, parameter in network.collect_params(".*(score|box|landmarks)_weight").items():
        parameter.set_data(parameter.data() * 0.3)
        assert "head" in name
    return network


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    np.random.seed(7)  # whatever tests came before
    mx.random.seed(7)
    network = build(width=8)
    save_detector(network.slim(), DetectorCard(network=network.arguments, terms="drawn noise"), folder / "model")
    return folder, export_model(folder / "model", ["onnx", "ncnn"], folder / "out")


def draw(height, width, count=1):
    """(count, height, width, 3) uint8 noise over a slope, so that no two places look alike."""
    random = np.random.RandomState(height * 1000 + width)
    slope = np.linspace(0, 200, height)[:, None, None] * np.linspace(0.2, 1, width)[:, None]
    return (slope + random.uniform(0, 55, (count, height, width, 3))).astype(np.uint8)


def test_all_formats_with_one_card(exported):
    folder, forms = exported
    assert [form.runtime for form in forms] == ["mxnet", *FORMS]
    names = {name for form in forms for name in form.files}
    assert {file.name for file in (folder / "out").iterdir()} == {*names, "card.json"}
    card = read_card(folder / "out")
    assert (card.task, card.terms, card.network["width"]) == ("detection", "drawn noise", 8)
    assert card.sha256 == {name: checksum(folder / "out" / name) for name in names}
    for runtime in ("ncnn", "ncnn-fp16"):
        assert card.blobs[runtime] == {"data": "in0", **{name: f"out{i}" for i, name in enumerate(OUTPUTS)}}
    assert_valid(folder / "out")
    sizes = {form.runtime: form.size for form in forms}
    assert sizes["ncnn-fp16"] < 0.6 * sizes["ncnn"] and sizes["mxnet"] < 2e6


@pytest.mark.parametrize("runtime", FORMS)
def test_formats_have_mxnets_outputs_at_any_size_and_batch(exported, runtime):
    card = read_card(exported[0] / "out")
    batches = [draw(*size, count=1 + index % 3) for index, size in enumerate(SIZES)]
    files = card.path("mxnet", "symbol"), card.path("mxnet", "params")
    ours = detector.run_mxnet(card, read_checkpoint(*files), batches)
    theirs = run_batches_isolated(card.folder, runtime, batches)
    limit = {"onnx": 1e-4, "ncnn": 5e-4, "ncnn-fp16": 2e-2}[runtime]
    for mine, other in zip(ours, theirs):
        for name, value in mine.items():
            np.testing.assert_allclose(other[name], value, atol=limit, err_msg=name)
    assert min(np.ptp(value) for value in ours[1].values()) > 0.1, "equal answers would prove nothing"
    assert ours[2]["score8"].shape == (3, 4, 32, 24)


def test_onnx_inputs_and_outputs_are_of_any_size(exported):
    import onnx

    model = onnx.load(str(exported[0] / "out" / "essh.onnx"))
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]
    sizes = [[d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]]
    sizes += [[d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim] for each in model.graph.output]
    assert sizes[0] == ["batch", 3, "data_height", "data_width"]
    assert [each[1] for each in sizes[1:]] == [4, 8, 20] * 3
    assert all(isinstance(each[axis], str) for each in sizes for axis in (0, 2, 3))
    assert [each.name for each in model.graph.output] == list(OUTPUTS)


def test_the_shipped_graph_bakes_in_no_size_and_nothing_of_training(exported):
    text = (exported[0] / "out" / "essh-symbol.json").read_text()
    assert not any(word in text for word in ("Dropout", "BatchNormWithReLU", "__shape__", "log_softmax", "smooth_l1"))


def test_exporting_into_the_models_own_folder_and_again_changes_nothing(exported):
    out = exported[0] / "out"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    export_model(out, ["onnx", "ncnn"], out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_ncnn_without_its_crops_is_not_written(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(to_ncnn, "put_crops", lambda param: None)
    with pytest.raises(
        AgedgeError, match="essh.ncnn.param: the outputs of ncnn differ from MXNet's: score differs by inf"
    ):
        export_model(exported[0] / "model", ["ncnn"], tmp_path / "wrong")
    assert list((tmp_path / "wrong").iterdir()) == []
    monkeypatch.setattr(to_ncnn, "drop_crops", lambda file: None)
    with pytest.raises(AgedgeError, match="pnnx left out: ignore Slice"):
        export_model(exported[0] / "model", ["ncnn"], tmp_path / "wrong")


def test_crops_are_put_where_an_enlarged_map_is_added(tmp_path):
    lines = ["7767517", "3 3", "Input in0 0 1 a", "Interp up 1 1 b c 0=1 1=2.0", "BinaryOp add 2 1 a c d 0=0"]
    (tmp_path / "x.param").write_text("\n".join(lines) + "\n")
    ncnn_crops.put_crops(tmp_path / "x.param")
    assert (tmp_path / "x.param").read_text().splitlines() == [
        *("7767517", "5 6", "Input in0 0 1 a", "Interp up 1 1 b c 0=1 1=2.0"),
        *("Split split_c_cut 1 2 a a_kept a_measured", "Crop crop_c_cut 2 1 c a_measured c_cut"),
        "BinaryOp add 2 1 a_kept c_cut d 0=0",
    ]


def test_damaged_weights_are_named(exported, tmp_path):
    card = read_card(exported[0] / "model")
    for name in ("card.json", *card.sha256):
        (tmp_path / name).write_bytes((exported[0] / "model" / name).read_bytes())
    params = tmp_path / "essh-0000.params"
    params.write_bytes(params.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(AgedgeError, match="essh-0000.params: its SHA-256 is not the one in card.json"):
        export_model(tmp_path, ["onnx"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def run_command(*arguments):
    command = [sys.executable, "-m", "deploy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=export.__file__.rsplit("/", 2)[0])


def test_the_commands(exported, tmp_path):
    folder = exported[0]
    done = run_command("export", "--model", folder / "model", "--out", tmp_path / "command", "--to", "onnx")
    assert done.returncode == 0, done.stderr
    assert "essh.onnx" in done.stdout and "landmarks" in done.stdout
    done = run_command("check", "--model", folder / "model", "--exported", tmp_path / "command", "--data", "x.rec")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "a face detector: `check` compares ages" in done.stderr


def test_what_is_for_ages_refuses_a_detector(exported, tmp_path):
    model = str(exported[0] / "model")
    with pytest.raises(UsageError, match="a face detector: benchmarks/faces.py measures its time"):
        commands.bench(model, None, 1)
    with pytest.raises(AgedgeError, match="the card is for 'detection', not for 'age and gender'"):
        slim_model(model, tmp_path / "slim")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{"body": "mobilenet025"}, {"body": "vgg16"}], ids=str)
def test_both_bodies_are_exported_at_full_width(arguments, tmp_path):
    network = build(passes=3, **arguments)
    save_detector(network.slim(), DetectorCard(network=network.arguments), tmp_path / "model")
    forms = export_model(tmp_path / "model", ["onnx", "ncnn"], tmp_path / "out")  # raises over a tolerance
    assert len(forms) == 4
