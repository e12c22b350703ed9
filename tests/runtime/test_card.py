"""Cards: the reader and the JSON Schema refuse the same ones; format 1 is still read; an interval holds its age."""

import copy
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.faces.essh.card import OUTPUTS, DetectorCard, read_card
from agedge.runtime import save_model
from agedge.runtime.card import Card, load_card
from agedge.runtime.checks.card_format1 import convert_format_1
from agedge.runtime.outputs import AGE_AND_GENDER, describe_outputs, require_known
from tests.card_schema import assert_valid, find_faults, load_schema
from tests.paths import ROOT

FORMAT_1 = Path(__file__).parent / "cards_format1"
GOOD = {
    "format": 2,
    "name": "small",
    "network": {},
    "input": {"name": "data", "size": 64, "channels": "RGB", "range": [0, 255]},
    "outputs": [{"name": "age", "kind": "years"}, {"name": "p_male", "kind": "probability_male"}],
    "crop": None,
    "files": {"mxnet": {"symbol": "a.json", "params": "a.params"}},
    "interval": {"level": 0.8, "age": [10, 20], "low": [-1, -2], "high": [1, 2]},
}
DETECTOR = {**DetectorCard().to_json(), "interval": {}}
POINTS = [[0, 0.5]] * 5


def output(**changes) -> list:
    return [{"name": "age", "kind": "years", **changes}]


def change(card: dict, changes: dict) -> dict:
    """Return a card with other values by "key" or "key: inner key"; `...` takes a key away."""
    card = copy.deepcopy(card)
    for path, value in changes.items():
        *outer, last = path.split(": ")
        inner = card
        for key in outer:
            inner = inner[key]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value
    return card


def write(folder, card: dict):
    (folder / "card.json").write_text(json.dumps(card))
    return folder


VALID = [
    {},
    {"task": "age and gender"},
    {"network": {"name": "any", "size": 64, "age_head": {"name": "dex"}}},
    {"input: constants": {"stage_num0": [[0, 1, 2]], "stage_num1": [0.5]}},
    {"outputs": output(kind="gender_score", name="lro")},
    {"outputs": output(kind="gender_and_age_pairs", name="fc1")},
    {"outputs": output(kind="age_groups", bounds=[[0, 5], [6, 120]])},
    {"outputs": output(kind="unknown", width=7)},
    {"outputs": output(kind="unknown")},
    {"crop": {"size": 64, "points": POINTS, "border": "replicate"}},
    {"files": {}},
    {"files": {"ncnn": {"param": "a.param", "bin": "a.bin"}, "onnx": {"model": "é a.onnx"}}},
    {"sha256": {"a.params": "0" * 64}},
    {"blobs": {"ncnn": {"data": "in0"}}},
    {"interval": {}},
    {"error": {"n": 3, "age_mae": None, "bands": [{"band": "0-5", "n": 3}], "adults": {"band": "21-60", "n": 0}}},
    {"training": {"epochs": 3, "train": [{"file": "a.rec"}], "tool": "agedge 0.1.0", "anything": [1]}},
    {"training": {"imported": {"file": "w.h5"}}},
    {"terms": "none"},
]
# Changes, with a part of the error.
INVALID = [
    ({"format": ...}, "format is missing"),
    ({"format": 3}, "card format 3; this version of agedge reads formats 1 and 2"),
    ({"format": "2"}, "card format '2'"),
    ({"name": ...}, "name is missing"),
    ({"crop": ...}, "crop is missing"),
    ({"colour": "blue"}, "unknown key 'colour'"),
    ({"threshold": 0.5}, "unknown key 'threshold'"),
    ({"name": "../a"}, "name: "),
    ({"name": "card.json"}, "name: "),
    ({"name": "con.params"}, "name: "),
    ({"name": " "}, "name: must be a plain file name"),
    ({"name": "a."}, "name: "),
    ({"name": 3}, "name: must be a plain file name"),
    ({"task": "detection"}, "task: the card is for 'detection'"),
    ({"task": "poetry"}, "task: the card is for 'poetry'"),
    ({"network": []}, "network: must be an object"),
    ({"network": {"name": 3}}, "network: name: must be a string"),
    ({"input": {}}, "input: name is missing"),
    ({"input": None}, "input: must be an object"),
    ({"input: size": "64"}, "input: size: must be an integer"),
    ({"input: size": 0}, "input: size: must be an integer"),
    ({"input: size": 5000}, "input: size: must be an integer"),
    ({"input: size": True}, "input: size: must be an integer"),
    ({"input: name": 3}, "input: name: must be"),
    ({"input: channels": "BGR"}, "input: channels: must be"),
    ({"input: range": [0, 1]}, "input: range: must be"),
    ({"input: mean": [0, 0, 0]}, "input: unknown key 'mean'"),
    ({"input: constants": {"x": "y"}}, "input: constants: x: must be a list of numbers"),
    ({"input: constants": {"x": [["y"]]}}, "input: constants: x: must be a list of numbers"),
    ({"outputs": None}, "outputs: must be a non-empty list"),
    ({"outputs": []}, "outputs: must be a non-empty list"),
    ({"outputs": {"age": "years"}}, "outputs: must be a non-empty list"),
    ({"outputs": ["years"]}, "outputs: must be a list of objects"),
    ({"outputs": [{"kind": "years"}]}, "outputs: name: must be"),
    ({"outputs": output(kind="centuries")}, "outputs: age: kind: must be one of years, probability_male"),
    ({"outputs": output(kind="face_probabilities")}, "outputs: age: kind: must be one of"),
    ({"outputs": output(unit="years")}, "outputs: age: unknown key 'unit'"),
    ({"outputs": output(kind="age_groups")}, "outputs: age: bounds is missing"),
    ({"outputs": output(kind="age_groups", bounds=[])}, "outputs: age: bounds: must be"),
    ({"outputs": output(kind="age_groups", bounds=[[0, 5, 6]])}, "outputs: age: bounds: must be"),
    ({"outputs": output(kind="age_groups", bounds=[[0, "5"]])}, "outputs: age: bounds: must be whole years"),
    ({"outputs": output(kind="unknown", width=0)}, "outputs: age: width: must be"),
    ({"crop": {"size": 0, "points": POINTS, "border": "replicate"}}, "crop: size: must be"),
    ({"crop": {"size": 112}}, "crop: points is missing"),
    ({"crop": {"size": 64, "points": POINTS[:4], "border": "replicate"}}, "crop: points: must be five"),
    ({"crop": {"size": 64, "points": POINTS, "border": "black"}}, "crop: border: must be"),
    ({"files": {"mxnet": {}}}, "files: mxnet: symbol is missing"),
    ({"files": {"mxnet": "x"}}, "files: mxnet: must be an object"),
    ({"files": {"tflite": {"model": "x"}}}, "files: 'tflite': must be one of mxnet"),
    ({"files": {"onnx": {"model": 3}}}, "files: onnx: model: must be a plain file name"),
    ({"files": {"onnx": {"model": "C:x"}}}, "files: onnx: model: "),
    ({"sha256": None}, "sha256: must be an object"),
    ({"sha256": {"a": "12"}}, "sha256: 'a': must be 64 hexadecimal digits"),
    ({"blobs": {"ncnn": {"data": 0}}}, "blobs: ncnn: must be"),
    ({"blobs": {"else": {}}}, "blobs: 'else': must be one of"),
    ({"interval": {"level": 0.8}}, "interval: age is missing"),
    ({"interval: level": 80}, "interval: level: must be between 0 and 1"),
    ({"interval: age": []}, "interval: age: must be"),
    ({"interval: low": "x"}, "interval: low: must be"),
    ({"error": []}, "error: must be an object"),
    ({"error": {"n": [3]}}, "error: n: must be"),
    ({"error": {"bands": [{"n": [3]}]}}, "error: bands: must be"),
    ({"training": {"epochs": "3"}}, "training: epochs: must be an integer"),
    ({"training": {"train": ["a.rec"]}}, "training: train: must be a list of objects"),
    ({"training": {"recipe": "r.yaml"}}, "training: recipe: must be an object"),
    ({"terms": 3}, "terms: must be a string"),
]
# What JSON Schema cannot express, and the reader refuses.
INVALID_BEYOND_THE_SCHEMA = [
    ({"interval: low": [1]}, "interval: low: must be as long as age"),
    ({"interval: age": [20, 10]}, "interval: age: must be rising"),
    ({"interval: age": [1, math.nan]}, "interval: age: must be"),
    ({"input: constants": {"x": [math.inf]}}, "input: constants: x: must be"),
    ({"crop": {"size": 64, "points": [[0, math.nan]] * 5, "border": "replicate"}}, "crop: points: must be"),
    ({"outputs": output() * 2}, "outputs: name: must be unique"),
    ({"outputs": output(kind="age_groups", bounds=[[5, 0]])}, "outputs: age: bounds: must be"),
]
VALID_DETECTORS = [{}, {"threshold": ...}, {"input: mean": [104, 117.5, 123]}, {"error": {"sizes": [{"n": 3}]}}]
INVALID_DETECTORS = [
    ({"task": ...}, "task: the card is for 'age and gender', not for 'detection'"),
    ({"input: size": 64}, "input: unknown key 'size'"),
    ({"input: mean": [1, 2]}, "input: mean: must be three numbers"),
    ({"input: mean": ["a", "b", "c"]}, "input: mean: must be three numbers"),
    ({"input: mean": None}, "input: mean: must be three numbers"),
    ({"input: mean": ...}, "input: mean is missing"),
    ({"input": 3}, "input: must be an object"),
    ({"threshold": 0}, "threshold: must be between 0 and 1"),
    ({"threshold": "high"}, "threshold: must be between 0 and 1"),
    ({"files": {"mxnet": {"symbol": "essh-symbol.json"}}}, "files: mxnet: params is missing"),
    ({"outputs": DETECTOR["outputs"][:8]}, "outputs: must be 9 maps"),
    ({"outputs": DETECTOR["outputs"][::-1]}, "outputs: 'landmarks8': must be"),
    ({"outputs": [{"name": "age", "kind": "years"}] * 9}, "outputs: name: must be unique"),
    ({"colour": "blue"}, "unknown key 'colour'"),
]


@pytest.mark.parametrize("changes", VALID, ids=str)
def test_a_valid_card_is_read_and_passes_the_schema(tmp_path, changes):
    card = change(GOOD, changes)
    assert load_card(write(tmp_path, card)).input["size"] == 64
    assert find_faults(card) == []


@pytest.mark.parametrize("changes, reason", INVALID + INVALID_BEYOND_THE_SCHEMA, ids=str)
def test_an_invalid_card_is_one_line_with_the_file_and_the_key(tmp_path, changes, reason):
    with pytest.raises(AgedgeError) as error:
        load_card(write(tmp_path, change(GOOD, changes)))
    assert str(error.value).startswith(f"{tmp_path / 'card.json'}: ") and "\n" not in str(error.value)
    assert reason in str(error.value)


@pytest.mark.parametrize("changes, reason", INVALID, ids=str)
def test_the_schema_refuses_what_the_reader_refuses(changes, reason):
    assert find_faults(change(GOOD, changes))


@pytest.mark.parametrize("changes", VALID_DETECTORS, ids=str)
def test_a_valid_detector_card_is_read_and_passes_the_schema(tmp_path, changes):
    card = change(DETECTOR, changes)
    assert load_card(write(tmp_path, card), DetectorCard).outputs == OUTPUTS
    assert find_faults(card) == []


@pytest.mark.parametrize("changes, reason", INVALID_DETECTORS, ids=str)
def test_an_invalid_detector_card_is_refused_by_both(tmp_path, changes, reason):
    with pytest.raises(AgedgeError, match=re.escape(reason)):
        load_card(write(tmp_path, change(DETECTOR, changes)), DetectorCard)
    assert find_faults(change(DETECTOR, changes))


def test_a_key_that_occurs_twice_is_named(tmp_path):
    (tmp_path / "card.json").write_text('{"format": 2, "name": "a", "name": "b"}')
    with pytest.raises(AgedgeError, match="key 'name' occurs twice"):
        load_card(tmp_path)


def test_the_schema_is_a_schema_and_has_no_dead_definition():
    jsonschema = pytest.importorskip("jsonschema")
    schema = load_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    used = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert used == set(schema["$defs"])


def test_the_documented_example_is_valid(tmp_path):
    text = (ROOT / "docs" / "card.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    card = json.loads(example)
    assert find_faults(card) == [] and card["format"] == 2
    require_known(load_card(write(tmp_path, card)).outputs, "m")
    schema = load_schema()
    kinds = [each["properties"]["kind"]["const"] for each in schema["$defs"]["model_output"]["oneOf"]]
    kinds += [each["properties"]["kind"]["const"] for each in schema["$defs"]["detector_outputs"]["prefixItems"]]
    assert all(f"| `{kind}`" in text for kind in kinds), "the table of kinds"


@pytest.mark.parametrize("folder", ["models/mobilenet025", "ssh_model"])
def test_shipped_cards_are_valid_and_differ_from_format_1_in_their_outputs_alone(folder):
    value = assert_valid(ROOT / folder)
    before = json.loads((FORMAT_1 / f"{value['name']}.json").read_text())
    validation = before["training"]["validation"]
    before["training"]["validation"] = validation if isinstance(validation, list) else [validation]
    assert value["format"] == 2 and before["format"] == 1
    before = {"task": "age and gender", **before}  # the first cards had none
    for key in set(value) - {"format", "outputs"}:
        assert value[key] == before[key], key
    assert [each["name"] for each in value["outputs"]] == list(before["outputs"])


def test_format_1_cards_are_read(tmp_path):
    write(tmp_path, json.loads((FORMAT_1 / "mobilenet025.json").read_text()))
    card, shipped = load_card(tmp_path), load_card(ROOT / "models" / "mobilenet025")
    assert card.outputs == shipped.outputs == AGE_AND_GENDER and card.sha256 == shipped.sha256
    assert card.to_json() == shipped.to_json()
    write(tmp_path, json.loads((FORMAT_1 / "essh.json").read_text()))
    assert read_card(tmp_path).to_json() == read_card(ROOT / "ssh_model").to_json()
    assert read_card(tmp_path).outputs == OUTPUTS


@pytest.mark.parametrize(
    "name, sentence, kind",
    [
        ("age", "years", "age (years)"),
        ("lro", "years", "lro (years)"),
        ("p_male", "probability", "p_male (probability_male)"),
        ("lro", "gender score, over 0.5 is male", "lro (gender_score)"),
        ("fc1", "gender logits and 100 pairs", "fc1 (gender_and_age_pairs)"),
        ("age_group", "probabilities of 0-5, 6-18, 66+", "age_group (age_groups 0-5, 6-18, 66-120)"),
        ("age_group", "probabilities of the young", "age_group (unknown)"),
        ("x", "probability", "x (unknown)"),
        ("lro", "unknown, 7 a face", "lro (unknown, 7 per face)"),
        ("groups", "unknown", "groups (unknown)"),
    ],
)
def test_every_sentence_of_format_1_is_converted(tmp_path, name, sentence, kind):
    bare = {**GOOD, "format": 1, "input": {"name": "data", "size": 64}, "outputs": {name: sentence}}
    card = load_card(write(tmp_path, bare))
    assert describe_outputs(card.outputs) == kind and card.input["range"] == [0, 255]
    assert find_faults(card.to_json()) == []


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"outputs": []}, "outputs: must be an object"),
        ({"outputs": {"age": 3}}, "outputs: age: must be a string"),
        ({"outputs": {}}, "outputs: must be a non-empty list"),
        ({"input": ...}, "input: must be an object"),
        ({"input: size": "64"}, "input: size: must be an integer"),
        ({"task": "detection"}, "outputs: unknown output 'age' of a detector"),
        ({"crop": {"size": 64, "points": 3}}, "crop: points: must be five"),
    ],
    ids=str,
)
def test_an_invalid_card_of_format_1_is_one_line(tmp_path, changes, reason):
    card = change({**GOOD, "format": 1, "outputs": {"age": "years"}}, changes)
    with pytest.raises(AgedgeError, match=re.escape(reason)):
        load_card(write(tmp_path, card))


def test_conversion_leaves_its_argument_as_it_is():
    before = json.loads((FORMAT_1 / "mobilenet025.json").read_text())
    kept = copy.deepcopy(before)
    assert convert_format_1(before)["format"] == 2 and before == kept


def test_a_freshly_written_card_is_valid_and_comes_back(tmp_path):
    import mxnet as mx

    import symbols

    network = symbols.create("ssrnet_multi")
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, network.size, network.size)))
    shape = {"name": "data", "size": network.size, "channels": "RGB", "range": [0, 255]}
    card = Card(name="ssrnet", network=network.arguments, input=shape, outputs=dict(network.answers))
    save_model(network.slim(), card, tmp_path)
    assert_valid(tmp_path)
    assert load_card(tmp_path).outputs == network.answers


def test_an_interval_holds_its_age_and_ends_at_120():
    interval = {"level": 0.8, "age": [10, 90], "low": [5, 5], "high": [8, 60]}
    low, high = Card("a", {}, {}, {}, interval=interval).age_interval(np.array([40.0, 90.0]))
    assert low.tolist() == [40, 90] and high[0] > 48 and high[1] == 120
