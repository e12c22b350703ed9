"""The detector's card is written with the checkpoint, and read with its mean and checksums; errors are one line."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from agedge.errors import AgedgeError
from agedge.faces.essh.anchors import base_anchors
from agedge.faces.essh.card import OUTPUTS, DetectorCard, is_detector, read_card, save_detector
from agedge.runtime import load_card
from agedge.runtime.model_files import read_checkpoint
from tests.card_schema import assert_valid


class NineMaps(nn.HybridBlock):
    """A network with nine outputs named as a detector's."""

    def __init__(self):
        super().__init__(prefix="")
        self.maps = nn.Conv2D(4, 3, strides=8, padding=1, prefix="maps_")
        self.norm = nn.BatchNorm(prefix="norm_")

    def hybrid_forward(self, F, data):
        maps = self.norm(self.maps(data))
        return [F.identity(maps, name=name) for name in OUTPUTS]


@pytest.fixture
def folder(tmp_path):
    network = NineMaps()
    network.initialize()
    network(mx.nd.zeros((1, 3, 16, 16)))
    card = DetectorCard(network={"name": "nine"}, training={"scenes": 3}, terms="drawn")
    card.input["mean"] = [104, 117.5, 123]
    save_detector(network, card, tmp_path / "ssh")
    return tmp_path / "ssh"


def rewrite(folder, **changes):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))


def test_a_card_comes_back_with_its_mean_and_checksums(folder):
    assert sorted(file.name for file in folder.iterdir()) == ["card.json", "essh-0000.params", "essh-symbol.json"]
    card = read_card(folder)
    assert card.mean.tolist() == [104, 117.5, 123] and card.mean.dtype == np.float32
    assert card.files == {"mxnet": {"symbol": "essh-symbol.json", "params": "essh-0000.params"}}
    assert list(card.outputs) == list(OUTPUTS) and len(card.sha256) == 2
    assert (card.task, card.training, card.terms) == ("detection", {"scenes": 3}, "drawn")
    assert is_detector(folder)
    assert_valid(folder)
    card.verify()


def test_the_checkpoint_is_mxnets_own_and_takes_any_size(folder):
    symbol, args, aux = read_checkpoint(folder / "essh-symbol.json", folder / "essh-0000.params")
    assert set(aux) == set(symbol.list_auxiliary_states()) != set()
    for height, width in ((16, 16), (50, 31)):
        given = {**args, "data": mx.nd.zeros((1, 3, height, width))}
        outputs = symbol.bind(mx.cpu(), given, aux_states=aux, grad_req="null").forward()
        assert outputs[0].shape == (1, 4, -(-height // 8), -(-width // 8))


def test_a_run_is_read_where_its_model_lies(folder):
    folder.rename(folder.parent / "model")
    assert read_card(folder.parent).mean.tolist() == [104, 117.5, 123]
    assert is_detector(folder.parent)


def test_a_checkpoint_without_a_card_has_mean_zero_and_nothing_to_verify(folder):
    (folder / "card.json").unlink()
    card = read_card(folder)
    assert card.mean.tolist() == [0, 0, 0] and not is_detector(folder)
    assert card.path("mxnet", "params") == folder / "essh-0000.params"
    card.verify()
    read_card(folder / "nowhere").verify()


@pytest.mark.parametrize("name", ["essh-symbol.json", "essh-0000.params"])
def test_a_damaged_or_missing_file_is_named(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(AgedgeError, match=f"{name}: its SHA-256 is not the one in card.json") as error:
        read_card(folder).verify()
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(AgedgeError, match=f"{name}: missing"):
        read_card(folder).verify()


def test_a_card_is_ignored_where_both_of_its_files_were_replaced(folder, caplog):
    for name in ("essh-symbol.json", "essh-0000.params"):
        (folder / name).write_bytes(b"another")
    card = read_card(folder)
    card.verify()
    assert (
        card.mean.tolist() == [0, 0, 0]
        and "card.json: ignored, since the files beside it are of another model" in caplog.text
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"input": {"name": "data", "channels": "RGB", "range": [0, 255], "mean": [1, 2, float("nan")]}},
        {"input": {"channels": "RGB", "range": [0, 255], "mean": [0, 0, 0]}},
        {"input": 3},
        {"threshold": "high"},
        {"files": {"mxnet": {"symbol": "essh-symbol.json"}}},
        {"sha256": []},
        {"outputs": None},
        {"task": "age and gender"},
        {"format": 3},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_an_invalid_card_is_one_line(folder, changes):
    rewrite(folder, **changes)
    with pytest.raises(AgedgeError, match=r"card\.json: ") as error:
        read_card(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "\xff"])
def test_a_file_that_is_not_a_card_is_one_line(folder, text):
    (folder / "card.json").write_text(text, encoding="latin-1")
    with pytest.raises(AgedgeError, match=r"card\.json: not a model card"):
        read_card(folder)
    assert not is_detector(folder)


def test_an_age_model_and_a_detector_are_not_taken_for_each_other(folder):
    with pytest.raises(AgedgeError, match="task: the card is for 'detection', not for 'age and gender'"):
        load_card(folder)


def test_outputs_that_are_not_the_cards_are_refused_and_nothing_is_written(tmp_path):
    network = nn.HybridSequential()
    network.add(nn.Conv2D(4, 1))
    network.initialize()
    network(mx.nd.zeros((1, 3, 8, 8)))
    with pytest.raises(AgedgeError, match="outputs are .*, the card's score32, box32"):
        save_detector(network, DetectorCard(), tmp_path / "wrong")
    assert not (tmp_path / "wrong" / "card.json").exists()


def test_anchor_sides_are_those_of_the_anchors():
    for output in OUTPUTS.values():
        sides = base_anchors(output["stride"])
        assert (sides[:, 2] - sides[:, 0] + 1).tolist() == output["anchors"]
