"""The slim graph has the outputs of the trained one, and nothing of training."""

import json

import mxnet as mx
import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.runtime import load_card, load_model
from agedge.runtime.by_mxnet import open_network
from agedge.runtime.model import open_model, to_network_input
from agedge.runtime.model_files import find_model, save_checkpoint
from deploy import slim
from deploy.slim import slim_checkpoint, slim_model
from tests.paths import SHARED
from tests.small_networks import convolved, describe, faces, save_small, two_answers, with_weights

UPSTREAM = SHARED / "upstream"


def operations(card) -> set:
    return {node["op"] for node in json.loads(card.path("mxnet", "symbol").read_text())["nodes"]}


def test_slim_equals_the_original_without_what_training_needs(tmp_path):
    before = save_small(tmp_path / "model")
    assert {"Dropout", "_arange", "expand_dims"} <= operations(before)
    after = slim_model(tmp_path / "model", tmp_path / "slim")
    assert not {"Dropout", "_arange", "expand_dims"} & operations(after)
    images = faces(20)
    mine, other = load_model(tmp_path / "model").predict(images), load_model(tmp_path / "slim").predict(images)
    np.testing.assert_allclose(other.age, mine.age, atol=1e-5)
    np.testing.assert_allclose(other.p_male, mine.p_male, atol=1e-6)


def test_a_slim_model_comes_out_as_it_went_in(tmp_path):
    save_small(tmp_path / "model")
    once, twice = slim_model(tmp_path / "model", tmp_path / "a"), slim_model(tmp_path / "a", tmp_path / "b")
    assert once.sha256 == twice.sha256


def test_losses_become_outputs_and_labels_are_removed(tmp_path):
    features = mx.sym.mean(convolved(), axis=(2, 3))

    def dense(width, name):
        return mx.sym.FullyConnected(features, num_hidden=width, name=name)

    # As a script of Module.fit leaves them; "name" becomes an input `name_label` each.
    losses = mx.sym.Group(
        [
            mx.sym.SoftmaxOutput(dense(5, "five"), name="groups"),
            mx.sym.MAERegressionOutput(dense(1, "one") * 10, name="years"),
            mx.sym.LogisticRegressionOutput(dense(1, "two"), name="male"),
        ]
    )
    checkpoint = with_weights(losses)
    labels = [name for name in checkpoint.args if name.endswith("label")]
    for name in labels:
        del checkpoint.args[name]
    card = describe()
    card.outputs = {name: {"kind": "unknown"} for name in ("groups", "years", "male")}
    save_checkpoint(checkpoint, card, tmp_path / "model")
    slim_card = slim_model(tmp_path / "model", tmp_path / "slim")
    symbol = mx.sym.load(str(slim_card.path("mxnet", "symbol")))
    assert len(labels) == 3 and not [name for name in symbol.list_arguments() if "label" in name]
    data = to_network_input(faces(4))
    raw = open_network(slim_card, "mxnet", None, "cpu")(data)
    weights = {name: value.asnumpy() for name, value in checkpoint.args.items()}
    scores = mx.sym.Group([features, dense(5, "five"), dense(1, "one"), dense(1, "two")])
    known = {name: mx.nd.array(weights[name]) for name in scores.list_arguments() if name != "data"}
    _, five, one, two = scores.eval(data=mx.nd.array(data), **known)
    np.testing.assert_allclose(raw["groups"], mx.nd.softmax(five).asnumpy(), atol=1e-5)
    np.testing.assert_allclose(raw["years"], one.asnumpy() * 10, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(raw["male"], mx.nd.sigmoid(two).asnumpy(), atol=1e-5)


def test_stage_numbers_as_inputs(tmp_path):
    save_small(tmp_path / "model")
    card = slim_model(tmp_path / "model", tmp_path / "slim", arange="inputs")
    symbol = mx.sym.load(str(card.path("mxnet", "symbol")))
    assert sorted(name for name in symbol.list_arguments() if name.startswith("stage_num")) == ["stage_num0"]
    assert load_card(tmp_path / "slim").input["constants"] == {"stage_num0": [list(map(float, range(101)))]}
    images = faces(9)
    mine, other = load_model(tmp_path / "model").predict(images), load_model(tmp_path / "slim").predict(images)
    np.testing.assert_allclose(other.age, mine.age, atol=1e-5)


def test_fused_batchnorm_is_taken_apart(tmp_path):
    x = mx.sym.contrib.BatchNormWithReLU(convolved(), fix_gamma=False, name="norm")[0]
    save_small(tmp_path / "model", two_answers(mx.sym.mean(x, axis=(2, 3))))
    card = slim_model(tmp_path / "model", tmp_path / "slim")
    assert "_contrib_BatchNormWithReLU" not in operations(card)
    images = faces(5)
    mine, other = load_model(tmp_path / "model").predict(images), load_model(tmp_path / "slim").predict(images)
    np.testing.assert_allclose(other.age, mine.age, rtol=1e-5)


def test_a_slim_graph_with_other_outputs_is_not_written(tmp_path, monkeypatch):
    save_small(tmp_path / "model")

    def other(checkpoint, arange):
        found, stages = slim_checkpoint(checkpoint, arange)
        found.args["gender_bias"][:] += 1
        return found, stages

    monkeypatch.setattr(slim, "slim_checkpoint", other)
    with pytest.raises(AgedgeError, match="the outputs of the slim graph differ: p_male differs"):
        slim_model(tmp_path / "model", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_unknown_arange(tmp_path):
    with pytest.raises(UsageError, match="arange: unknown 'fold'; choose one of constant, inputs"):
        slim_model(tmp_path, tmp_path, arange="fold")


@pytest.mark.skipif(not UPSTREAM.is_dir(), reason="the earlier checkpoints lie in ../shared, which is absent")
@pytest.mark.parametrize("arange", ["constant", "inputs"])
def test_ssrnet_with_its_three_stages(tmp_path, arange):
    model = f"{UPSTREAM / 'ssrnet_age'},21"
    card = slim_model(model, tmp_path, arange=arange)
    assert not {"_arange", "Dropout", "MAERegressionOutput"} & operations(card)
    stages = {"stage_num0", "stage_num1", "stage_num2"} if arange == "inputs" else set()
    assert set(card.input.get("constants", {})) == stages
    images = faces(20, size=64)
    ours = open_model(find_model(model), "mxnet").raw_outputs(images)["lro"]
    assert np.ptp(ours) > 5
    np.testing.assert_allclose(open_model(card, "mxnet").raw_outputs(images)["lro"], ours, atol=2e-5)
