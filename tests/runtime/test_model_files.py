"""Files of models are data: what would crash a runtime, run code, lead out of the folder or fill memory is one line."""

import json
import shutil
import struct

import mxnet as mx
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.runtime import load_card, load_model
from agedge.runtime.checks.ncnn_model import check_ncnn
from agedge.runtime.checks.onnx_model import check_onnx
from agedge.runtime.checks.params import check_params
from agedge.runtime.checks.symbol import load_symbol, read_symbol
from agedge.runtime.model_files import save_checkpoint
from tests.paths import ROOT
from tests.small_networks import describe, every_operation, save_small, with_weights

CORPUS = ROOT / "tests" / "corpus"
MODEL = ROOT / "models" / "mobilenet025"


def refused(function, *arguments) -> str:
    with pytest.raises(AgedgeError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", sorted((CORPUS / "symbol").iterdir()), ids=lambda file: file.name)
def test_graphs_of_the_corpus_are_refused(file):
    assert str(file) in refused(load_symbol, file)


@pytest.mark.parametrize("file", sorted((CORPUS / "params").iterdir()), ids=lambda file: file.name)
def test_parameters_of_the_corpus_are_refused(file):
    assert str(file) in refused(check_params, file)


@pytest.mark.parametrize("file", sorted((CORPUS / "ncnn").iterdir()), ids=lambda file: file.name)
def test_ncnn_files_of_the_corpus_are_refused(file):
    assert str(file) in refused(check_ncnn, file, MODEL / "mobilenet025.ncnn.bin", [])


@pytest.mark.parametrize("file", sorted((CORPUS / "card").iterdir()), ids=lambda file: file.name)
def test_cards_of_the_corpus_are_refused(tmp_path, file):
    shutil.copy(file, tmp_path / "card.json")
    assert "not a plain file name" in refused(load_model, tmp_path)


def graph(**changes) -> dict:
    convolution = {"op": "Convolution", "name": "c", "attrs": {"kernel": "(3, 3)", "num_filter": "4"}}
    nodes = [
        *({"op": "null", "name": name, "inputs": []} for name in ("data", "w", "b")),
        {**convolution, "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]], **changes.pop("node", {})},
    ]
    return {"nodes": nodes, "arg_nodes": [0, 1, 2], "heads": [[3, 0, 0]], **changes}


def without_hints(symbol) -> dict:
    """Return a graph as JSON without the attributes of training."""
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        attrs = {name: value for name, value in node.pop("attrs", {}).items() if not name.startswith("__")}
        node.update({"attrs": attrs} if attrs else {})
    return graph


def test_a_graph_of_each_format_is_what_mxnet_reads_itself(tmp_path):
    file = tmp_path / "m-symbol.json"
    every_operation().save(str(file))
    assert json.loads(load_symbol(file).tojson()) == without_hints(mx.sym.load(str(file)))
    file.write_text(json.dumps(graph(heads=[[3, 0]], node={"inputs": [[0, 0], [1, 0], [2, 0]]})))
    assert load_symbol(file).list_arguments() == ["data", "w", "b"]


@pytest.mark.parametrize(
    "changes, reason",
    [
        *(({"node": {"op": op}}, op) for op in ("_NDArray", "Custom", "_CustomFunction", "_cvimread", "_foreach", "x")),
        ({"node": {"inputs": [[0, 0, 0], [1, 0, 0], [2147483648, 0, 0]]}}, "not two or three numbers"),
        ({"node": {"inputs": [[0, 0, 0], [1, 0, 0], [3, 0, 0]]}}, "does not come before"),
        ({"node": {"inputs": [[0, 0, 0], [1, 7, 0]]}}, "output 7"),
        ({"node": {"inputs": [[0, 0, 0]]}}, "has 1 inputs"),
        ({"node": {"inputs": [[-1, 0, 0], [1, 0, 0]]}}, "not two or three numbers"),
        ({"node": {"attrs": {"kernel": "(3, 3)", "num_filter": "2147483648"}}}, "num_filter"),
        ({"node": {"attrs": {"kernel": "(3, 3)", "num_filter": "4", "stride": "(0, 0)"}}}, "at least 1"),
        ({"node": {"attrs": {"kernel": 3}}}, "not a text"),
        ({"node": {"attrs": {"kernel": "3" * 2000}}}, "not a text"),
        ({"node": {"subgraphs": [{}]}}, "subgraphs"),
        ({"heads": [[9, 0, 0]]}, "a head"),
        ({"heads": []}, "outputs"),
        ({"arg_nodes": [3]}, "arg_nodes"),
        ({"nodes": {}}, "nodes"),
    ],
    ids=str,
)
def test_a_graph_that_mxnet_would_follow_is_refused(tmp_path, changes, reason):
    file = tmp_path / "m-symbol.json"
    file.write_text(json.dumps(graph(**changes)))
    assert reason in refused(read_symbol, file)


@pytest.mark.parametrize(
    "content", [b"[" * 100000, b'{"nodes": "\xff"}', b"", b"[]", b"null", b'{"nodes": NaN}'], ids=len
)
def test_what_is_not_a_graph_is_one_line(tmp_path, content):
    (tmp_path / "m-symbol.json").write_bytes(content)
    refused(read_symbol, tmp_path / "m-symbol.json")


def test_an_output_that_would_fill_memory_is_refused(tmp_path):
    large = mx.sym.UpSampling(mx.sym.var("data"), scale=2000, sample_type="nearest")
    age = mx.sym.mean(large, axis=(1, 2, 3), name="age")
    mx.sym.Group([age, mx.sym.sigmoid(age, name="p_male")]).save(str(tmp_path / "n-symbol.json"))
    mx.nd.save(str(tmp_path / "n-0000.params"), {"arg:x": mx.nd.zeros(1)})
    refused(load_model, f"{tmp_path / 'n'},0")
    card = describe("n", files={"mxnet": {"symbol": "n-symbol.json", "params": "n-0000.params"}})
    card.save(tmp_path)
    assert "over 16,777,216 values" in refused(load_model, tmp_path)


def params(shape=(2,), count=1, kind=0, data=8, name=b"arg:x", length=None, names=1) -> bytes:
    header = struct.pack("<IiI", 0xF993FAC9, 0, len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
    array = header + struct.pack("<iii", 1, 0, kind) + bytes(data)
    told = len(name) if length is None else length
    return struct.pack("<QQQ", 0x112, 0, count) + array + struct.pack("<QQ", names, told) + name


def test_good_parameters_pass_and_are_read(tmp_path):
    (tmp_path / "w.params").write_bytes(params())
    check_params(tmp_path / "w.params")
    assert mx.nd.load(str(tmp_path / "w.params"))["arg:x"].shape == (2,)


@pytest.mark.parametrize(
    "fault",
    [
        {"shape": (1 << 40,)},
        {"shape": (1 << 31, 1 << 31, 4)},
        {"shape": (-2,)},
        {"shape": (1,) * 40},
        {"count": 1 << 60},
        {"count": 2},
        {"kind": 99},
        {"data": 7},
        {"data": 9},
        {"name": b"\xff"},
        {"length": 1 << 62},
        {"names": 3},
    ],
    ids=str,
)
def test_parameters_with_a_false_length_are_refused(tmp_path, fault):
    (tmp_path / "w.params").write_bytes(params(**fault))
    refused(check_params, tmp_path / "w.params")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/b", "a\\b", "C:x", "", "..", ".", "x\0", "x\n", "NUL", "com1.bin", "x."]
)
def test_names_that_lead_elsewhere_are_refused_and_nothing_is_written(tmp_path, name):
    card = save_small(tmp_path / "m")
    value = json.loads((tmp_path / "m" / "card.json").read_text())
    for changed in ({**value, "name": name}, {**value, "files": {"mxnet": {"symbol": name, "params": "p"}}}):
        (tmp_path / "m" / "card.json").write_text(json.dumps(changed))
        refused(load_model, tmp_path / "m")
    card.name = name
    refused(save_checkpoint, with_weights(every_operation()), card, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def unsigned(tmp_path):
    """A copy of the shipped model whose card has no checksums."""
    folder = shutil.copytree(MODEL, tmp_path / "model")
    value = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**value, "sha256": {}}))
    return folder


def test_without_checksums_mxnet_warns_and_the_others_want_trust(unsigned, caplog):
    faces = np.zeros((1, 112, 112, 3), np.uint8)
    age = load_model(unsigned).predict(faces).age
    assert str(unsigned / "card.json") in caplog.text and "mobilenet025-0000.params" in caplog.text
    for runtime in ("onnx", "ncnn", "ncnn-fp16"):
        assert "--trust" in refused(load_model, unsigned, runtime)
        np.testing.assert_allclose(load_model(unsigned, runtime, trust=True).predict(faces).age, age, atol=0.1)


def test_ncnn_weights_of_another_length_and_blobs_that_are_absent_are_refused(tmp_path):
    param = MODEL / "mobilenet025.ncnn.param"
    content = (MODEL / "mobilenet025.ncnn.bin").read_bytes()
    for wrong in (content[:-4], content + bytes(4), b"", content[:100]):
        (tmp_path / "w.bin").write_bytes(wrong)
        assert str(tmp_path / "w.bin") in refused(check_ncnn, param, tmp_path / "w.bin", [])
    assert "no blob 'ncnn'" in refused(check_ncnn, param, MODEL / "mobilenet025.ncnn.bin", ["ncnn"])


def test_onnx_with_external_data_or_cut_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    file = tmp_path / "m.onnx"
    model = onnx.load(str(MODEL / "mobilenet025.onnx"))
    check_onnx(MODEL / "mobilenet025.onnx")
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../x")
    file.write_bytes(model.SerializeToString())
    assert "another file" in refused(check_onnx, file)
    for content in ((MODEL / "mobilenet025.onnx").read_bytes()[:-9], b""):
        file.write_bytes(content)
        refused(check_onnx, file)


@pytest.mark.parametrize("shape, faces", [("(1, 1)", 8), ("(8, 1)", 1)])
def test_a_reshape_to_another_number_of_values_is_refused(shape, faces, tmp_path):
    """MXNet runs it, and writes outside of its memory."""
    folder, card, graph = exchange_graph(tmp_path)
    head = graph["nodes"][graph["heads"][0][0]]
    head.update(op="Reshape", attrs={"shape": shape}, inputs=head["inputs"][:1])
    (folder / card.files["mxnet"]["symbol"]).write_text(json.dumps(graph))
    with pytest.raises(AgedgeError, match="symbol.json.*age reshapes"):
        load_model(folder).predict(np.zeros((faces, 112, 112, 3), np.uint8))


def test_a_weight_does_not_become_a_label_by_its_name(tmp_path):
    folder, card, graph = exchange_graph(tmp_path)
    next(node for node in graph["nodes"] if node["name"].endswith("conv3_weight"))["name"] = "some_label"
    (folder / card.files["mxnet"]["symbol"]).write_text(json.dumps(graph))
    with pytest.raises(AgedgeError, match="missing, such as some_label"):
        load_model(folder)


def exchange_graph(tmp_path) -> tuple:
    """Return (a copy of the shipped model without checksums, its card, its graph as JSON)."""
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "sha256": {}}))
    card = load_card(folder)
    return folder, card, json.loads((folder / card.files["mxnet"]["symbol"]).read_text())
