"""A network that does not fit its card: one line with the file, where the libraries raise their own or crash."""

import shutil

import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.runtime import load_card
from agedge.runtime.model import open_run
from agedge.runtime.mxnet_executors import find_reason
from tests.paths import ROOT

MODEL = ROOT / "models/mobilenet025"


def change_card(tmp_path, change):
    """A copy of the model's card that `change` has changed, as if it were the card of these files."""
    folder = shutil.copytree(MODEL, tmp_path / "model")
    card = load_card(folder)
    change(card)
    return card


@pytest.mark.parametrize(
    "runtime, change, file, reason",
    [
        (
            "onnx",
            lambda card: card.input.update(name="image"),
            "mobilenet025.onnx",
            "inputs data; card.json says image",
        ),
        ("ncnn", lambda card: card.blobs["ncnn"].update(age="nowhere"), "mobilenet025.ncnn.param", "no blob 'nowhere'"),
        ("ncnn", lambda card: card.blobs["ncnn"].update(data="ncnn"), "mobilenet025.ncnn.param", "no blob 'ncnn'"),
    ],
)
def test_names_that_the_network_does_not_have(tmp_path, runtime, change, file, reason):
    card = change_card(tmp_path, change)
    with pytest.raises(AgedgeError, match=f"{file}: .*{reason}"):
        open_run(card, runtime, None, "cpu")


def test_onnx_of_another_size_than_its_card(tmp_path):
    run = open_run(change_card(tmp_path, lambda card: card.input.update(size=96)), "onnx", None, "cpu")
    with pytest.raises(AgedgeError, match="mobilenet025.onnx: ONNX Runtime cannot run it") as caught:
        run(np.zeros((2, 3, 96, 96), np.float32))
    assert "\n" not in str(caught.value)


def test_mxnet_is_shown_another_size_than_its_cards():
    run = open_run(load_card(MODEL), "mxnet", None, "cpu")
    with pytest.raises(AgedgeError, match="symbol.json: MXNet cannot run it") as caught:
        run(np.zeros((2, 3, 96, 96), np.float32))
    assert "\n" not in str(caught.value)


def test_the_reason_of_an_mxnet_error_is_its_last_line():
    text = "Traceback:\n  File x\nMXNetError: [13:14:43] ../src/a.cc:151: Check failed: no room"
    assert find_reason(Exception(text)) == "Check failed: no room"
