"""Weights of earlier MXNet trainers: layers are found by structure, and the numbers are theirs."""

import csv
import json

import cv2
import mxnet as mx
import numpy as np
import pytest

import symbols
from agedge.errors import AgedgeError
from agedge.runtime import load_model
from deploy.graph import read_graph
from deploy.importers import mobilenet, ssrnet
from deploy.importers.convert import import_weights
from deploy.importers.operations import match_operations
from deploy.importers.params_file import MxnetWeights, read_params
from tests.paths import ROOT, SHARED

UPSTREAM = SHARED / "upstream"
FACES = ROOT / "data" / "UTKFace"
FILES = {
    "ssrnet": "ssrnet_age-0021.params",
    "ssrnet_gender": "ssrnet_gender-0042.params",
    "mobilenet025": "mobilenet025_ordinal-0000.params",
}
MAPPERS = {
    "ssrnet": ssrnet.from_mxnet,
    "ssrnet_gender": ssrnet.gender_from_mxnet,
    "mobilenet025": mobilenet.from_mxnet,
}
COLUMNS = {
    "ssrnet": {"age": "ssrnet_age"},
    "ssrnet_gender": {"p_male": "ssrnet_p_male"},
    "mobilenet025": {"age": "mobilenet025_age", "p_male": "mobilenet025_p_male"},
}
upstream = pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"{UPSTREAM} is not there: checkpoints of earlier systems")


def graph(build):
    return read_graph(build(mx.sym.var("data")))


def conv(data, name, filters=4, **attributes):
    return mx.sym.Convolution(data, kernel=(3, 3), num_filter=filters, name=name, **attributes)


def relu(data):
    return mx.sym.Activation(data, act_type="relu")


def twins(first, second, turned=False):
    """Two dense layers on one map, of which a ReLU takes one and a tanh the other; and a product of two streams."""

    def build(data):
        one, two = relu(conv(data, f"{first}a")), mx.sym.tanh(conv(data, f"{first}b"))
        both = mx.sym.Flatten(two * one if turned else one * two)
        denses = [mx.sym.FullyConnected(both, num_hidden=3, name=f"{second}{index}") for index in range(2)]
        kinds = ("tanh", "relu") if turned else ("relu", "tanh")
        return mx.sym.Group([mx.sym.Activation(dense, act_type=kind) for dense, kind in zip(denses, kinds)])

    return graph(build)


def test_layers_are_matched_by_what_leads_to_them_and_what_takes_them():
    pairs, ours, theirs = match_operations(twins("conv", "dense"), twins("c", "fc", turned=True))
    assert {one.name: other.name for one, other in pairs} == {
        "conva": "ca",
        "convb": "cb",
        "dense0": "fc1",
        "dense1": "fc0",
    }
    assert not ours and not theirs


def test_a_layer_of_other_attributes_and_all_behind_it_have_no_counterpart():
    one = graph(lambda data: conv(relu(conv(relu(conv(data, "a")), "b")), "c"))
    other = graph(lambda data: conv(relu(conv(relu(conv(data, "x")), "y", stride=(2, 2))), "z"))
    pairs, ours, theirs = match_operations(one, other)
    assert [(mine.name, their.name) for mine, their in pairs] == [("a", "x")]
    assert ([node.name for node in ours], [node.name for node in theirs]) == (["b", "c"], ["y", "z"])


def test_twins_that_nothing_tells_apart_are_not_guessed():
    two = graph(lambda data: relu(conv(data, "a")) + relu(conv(data, "b")))
    pairs, ours, theirs = match_operations(two, two)
    assert not pairs and len(ours) == len(theirs) == 2


def test_defaults_that_are_written_out_change_nothing():
    one = graph(lambda data: mx.sym.Pooling(conv(data, "a"), kernel=(2, 2), stride=(2, 2), pool_type="max"))
    other = graph(lambda data: mx.sym.Pooling(conv(data, "b", stride=(1, 1), pad=(0, 0)), kernel=(2, 2), stride=(2, 2)))
    pairs, ours, theirs = match_operations(one, other)
    assert len(pairs) == 1 and not ours and not theirs


@pytest.fixture(scope="module")
def expected():
    rows = list(csv.DictReader((UPSTREAM / "expected.csv").open()))
    rows = [row for row in rows if (FACES / row["file"]).is_file()]
    if not rows:
        pytest.skip(f"{FACES} is not there: the faces of expected.csv")
    return rows, [cv2.imread(str(FACES / row["file"])) for row in rows]


@upstream
@pytest.mark.parametrize("name", FILES)
def test_an_imported_model_says_what_the_checkpoint_said(name, expected, tmp_path):
    rows, chips = expected
    import_weights(UPSTREAM / FILES[name], name, tmp_path)
    model = load_model(tmp_path)
    size = model.card.input["size"]
    raw = model.raw_outputs(np.stack([cv2.resize(chip, (size, size)) for chip in chips]))
    assert list(raw) == list(COLUMNS[name])
    for answer, column in COLUMNS[name].items():
        wanted = np.array([float(row[column]) for row in rows])
        exact = column == "mobilenet025_age"
        np.testing.assert_allclose(raw[answer].ravel(), wanted, rtol=0, atol=0 if exact else 1e-3)


@upstream
@pytest.mark.parametrize("name, trainable, statistics", [("ssrnet", 40531, 384), ("mobilenet025", 266158, 6388)])
def test_every_weight_arrives(name, trainable, statistics):
    weights = MAPPERS[name](read_params(UPSTREAM / FILES[name])).weights
    sizes = {key: array.size for key, array in weights.items()}
    assert sum(size for key, size in sizes.items() if "running" not in key) == trainable
    assert sum(size for key, size in sizes.items() if "running" in key) == statistics


@upstream
@pytest.mark.parametrize("name", FILES)
def test_without_a_graph_the_known_names_do(name):
    given = read_params(UPSTREAM / FILES[name])
    by_graph, by_names = MAPPERS[name](given), MAPPERS[name](MxnetWeights(given.arrays, []))
    assert by_graph.weights.keys() == by_names.weights.keys()
    for key, array in by_graph.weights.items():
        np.testing.assert_array_equal(array, by_names.weights[key])
    given.arrays["stranger"] = given.arrays.pop(min(given.arrays))
    with pytest.raises(AgedgeError, match="not the weights of .*is missing; stranger .*is unknown"):
        MAPPERS[name](MxnetWeights(given.arrays, []))


@upstream
def test_renamed_layers_are_found_by_the_graph(tmp_path):
    """Names count what was created before: in a process that built another network first, they are others."""
    (tmp_path / "net-symbol.json").write_text(
        (UPSTREAM / "ssrnet_age-symbol.json").read_text().replace("convolution", "conv2d_9").replace("fully", "f")
    )
    params = mx.nd.load(str(UPSTREAM / FILES["ssrnet"]))
    renamed = {key.replace("convolution", "conv2d_9").replace("fully", "f"): value for key, value in params.items()}
    mx.nd.save(str(tmp_path / "net-0003.params"), renamed)
    plain, other = (
        ssrnet.from_mxnet(read_params(file)).weights
        for file in (UPSTREAM / FILES["ssrnet"], tmp_path / "net-0003.params")
    )
    assert all(np.array_equal(plain[key], other[key]) for key in plain)


@upstream
@pytest.mark.parametrize(
    "file, network, reason",
    [
        ("ssrnet", "ssrnet_gender", "it multiplies by 101, not 1: --as ssrnet"),
        ("ssrnet_gender", "ssrnet", "it multiplies by 1, not 101: --as ssrnet_gender"),
        ("mobilenet025", "ssrnet", "not the graph of ssrnet: .* layers differ"),
        ("ssrnet", "mobilenet025", "not the graph of mobilenet025: .* layers differ"),
    ],
)
def test_another_network_is_refused(file, network, reason, tmp_path):
    with pytest.raises(AgedgeError, match=f"{FILES[file]}: .*{reason}"):
        import_weights(UPSTREAM / FILES[file], network, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@upstream
def test_lambdas_are_read_from_the_graph(tmp_path):
    given = read_params(UPSTREAM / FILES["ssrnet"])
    graph = json.loads((UPSTREAM / "ssrnet_age-symbol.json").read_text())
    behind_eta = {"_mulscalar1", "_mulscalar4", "_mulscalar9"}
    for node in graph["nodes"]:
        if node["name"] in behind_eta:
            node["attrs"] = {"scalar": "0.25"}
    heads = read_graph(mx.sym.load_json(json.dumps(graph)))
    assert ssrnet.from_mxnet(MxnetWeights(given.arrays, heads)).arguments["lambda_local"] == 0.25
    (tmp_path / "net-symbol.json").write_text(json.dumps(graph).replace('"0.25"', '"7"'))
    (tmp_path / "net-0000.params").write_bytes((UPSTREAM / FILES["ssrnet"]).read_bytes())
    with pytest.raises(AgedgeError, match="net-0000.params: lambda_local=7.0: must be a number of 0 to 1"):
        import_weights(tmp_path / "net-0000.params", "ssrnet", tmp_path / "out")
    assert ssrnet.from_mxnet(given).arguments == {"name": "ssrnet", "lambda_local": 1.0, "lambda_d": 1.0}


@upstream
def test_training_starts_from_imported_weights():
    """Structural names are those of the network that train.py builds."""
    imported = ssrnet.from_mxnet(read_params(UPSTREAM / FILES["ssrnet"]))
    network = symbols.create(**imported.arguments)
    assert set(imported.weights) < set(network._collect_params_with_prefix())
