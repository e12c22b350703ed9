"""Cards that cannot be are refused in one line; an interval holds its age."""

import json

import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.runtime.card import Card, load_card

GOOD = {
    "format": 1,
    "name": "small",
    "network": {},
    "input": {"name": "data", "size": 64, "channels": "RGB", "range": [0, 255]},
    "outputs": {"age": "years", "p_male": "probability"},
    "crop": None,
    "files": {"mxnet": {"symbol": "a.json", "params": "a.params"}},
    "interval": {"level": 0.8, "age": [10, 20], "low": [-1, -2], "high": [1, 2]},
}


def write(folder, **changes):
    (folder / "card.json").write_text(json.dumps({**GOOD, **changes}))
    return folder


def test_a_good_card_is_read(tmp_path):
    assert load_card(write(tmp_path)).input["size"] == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"input": {}},
        {"input": None},
        {"input": {"name": "data", "size": "64"}},
        {"input": {"name": "data", "size": 64, "constants": {"x": "y"}}},
        {"files": {"mxnet": {}}},
        {"files": {"mxnet": "x"}},
        {"files": {"tflite": {"model": "x"}}},
        {"files": {"onnx": {"model": 3}}},
        {"sha256": None},
        {"outputs": None},
        {"outputs": []},
        {"interval": {"level": 0.8}},
        {"interval": {"level": 0.8, "age": [10, 20], "low": [1], "high": [1]}},
        {"crop": {"size": 0, "points": [[0, 0]] * 5}},
        {"crop": {"size": 112}},
        {"format": 2},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_a_card_that_cannot_be_is_one_line(tmp_path, changes):
    with pytest.raises(AgedgeError, match=r"card\.json: "):
        load_card(write(tmp_path, **changes))


def test_an_interval_holds_its_age_and_ends_at_120():
    interval = {"level": 0.8, "age": [10, 90], "low": [5, 5], "high": [8, 60]}
    low, high = Card("a", {}, {}, {}, interval=interval).age_interval(np.array([40.0, 90.0]))
    assert low.tolist() == [40, 90] and high[0] > 48 and high[1] == 120
