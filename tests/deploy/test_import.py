"""python -m deploy import: what it writes, and one line for whatever it cannot read."""

import hashlib
import json
import subprocess
import sys

import h5py
import mxnet as mx
import numpy as np
import pytest
from mxnet import nd

import symbols
from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.runtime import load_model
from deploy.importers import convert
from deploy.importers.convert import SOURCES, find_kind, import_weights
from deploy.importers.imported import Imported, require_weights
from deploy.importers.ssrnet import from_keras
from tests.card_schema import assert_valid
from tests.deploy.test_import_keras_ssrnet import drawn_weights, soft_faces
from tests.paths import ROOT, SHARED

UPSTREAM = SHARED / "upstream"


def save_h5(file, weights):
    """As Keras 2 saves weights: a group a layer, its arrays named in attributes."""
    with h5py.File(file, "w") as opened:
        layers = list(dict.fromkeys(name.partition("/")[0] for name in weights))
        opened.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer in layers:
            group = opened.create_group(layer)
            names = [name for name in weights if name.startswith(f"{layer}/")]
            group.attrs["weight_names"] = [f"{name}:0".encode() for name in names]
            for name in names:
                group[f"{name}:0"] = weights[name]
    return file


@pytest.fixture
def keras_file(tmp_path):
    return save_h5(tmp_path / "weights.bin", drawn_weights())


def test_an_imported_model_runs_and_its_card_says_where_it_is_from(keras_file, tmp_path):
    written = import_weights(keras_file, "ssrnet", tmp_path / "model")
    assert sorted(path.name for path in written) == ["card.json", "ssrnet-0000.params", "ssrnet-symbol.json"]
    assert_valid(tmp_path / "model")
    model = load_model(tmp_path / "model")
    card = model.card
    assert card.outputs == {"age": {"kind": "years"}} and card.input["channels"] == "RGB"
    assert card.network["scaled"] is False and card.network["first_relu"] is True
    imported = card.training["imported"]
    assert imported["file"] == "weights.bin" and imported["kind"] == "Keras HDF5"
    assert imported["sha256"] == hashlib.sha256(keras_file.read_bytes()).hexdigest()
    assert imported["crop"] == "utkface, margin 0.6" and card.crop.same_as(Crop.named("utkface", 64, 0.6), 1e-5)

    imported = from_keras(drawn_weights())
    network = symbols.create(**imported.arguments)
    network.initialize()
    rgb = soft_faces(3)
    data = nd.array(rgb.transpose(0, 3, 1, 2))
    network(data)
    for name, array in imported.weights.items():
        network._collect_params_with_prefix()[name].set_data(nd.array(array))
    ages = network.decode(nd, network(data))[0].asnumpy()
    np.testing.assert_allclose(model.raw_outputs(rgb[..., ::-1].astype(np.uint8))["age"], ages, atol=1e-4)


def test_the_same_file_gives_the_same_bytes(keras_file, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        import_weights(keras_file, "ssrnet", folder)
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == two


@pytest.mark.parametrize(
    "given, wanted",
    [
        ({"crop": "arcface"}, ("arcface", 0.0)),
        ({"crop": "utkface", "margin": 0.25}, ("utkface", 0.25)),
        ({"margin": 0.25}, ("utkface", 0.25)),
    ],
)
def test_another_crop(given, wanted, keras_file, tmp_path):
    import_weights(keras_file, "ssrnet", tmp_path / "model", **given)
    crop = load_model(tmp_path / "model").card.crop
    assert crop.same_as(Crop.named(wanted[0], 64, wanted[1]), 1e-5)


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"network": "ssrnett"}, "--as: unknown 'ssrnett'; choose one of ssrnet, "),
        ({"crop": "square"}, "crop: unknown 'square'; choose one of arcface, utkface"),
        ({"margin": -0.9}, "--margin=-0.9: must be from -0.5 to 2"),
        ({"margin": float("nan")}, "--margin=nan"),
    ],
)
def test_wrong_options_are_usage(options, reason, keras_file, tmp_path):
    with pytest.raises(UsageError, match=reason):
        import_weights(keras_file, **{"network": "ssrnet", "out": tmp_path / "model", **options})
    assert not (tmp_path / "model").exists()


def damaged(name, tmp_path):
    """A file that is not what it should be, by what is wrong with it."""
    file = tmp_path / f"{name}.params"
    if name == "folder":
        file.mkdir()
    elif name == "empty":
        file.write_bytes(b"")
    elif name == "picture":
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    elif name == "other":
        save_h5(file, {"conv2d_1/kernel": np.zeros((3, 3, 3, 16), np.float32)})
    elif name == "half":
        whole = save_h5(tmp_path / "whole", drawn_weights()).read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    elif name == "nameless":
        mx.nd.save(str(file), [nd.zeros((2, 2))])
    elif name == "strangers":
        mx.nd.save(str(file), {"arg:weight": nd.zeros((2, 2))})
    elif name == "half-mxnet":
        mx.nd.save(str(file), {f"arg:weight{number}": nd.zeros((20, 20)) for number in range(9)})
        file.write_bytes(file.read_bytes()[:3000])
    return file


@pytest.mark.parametrize(
    "name, reason",
    [
        ("missing", "no such file"),
        ("folder", "is a directory"),
        ("empty", "neither MXNet parameters, Keras HDF5 nor PyTorch pickle"),
        ("picture", "neither MXNet parameters"),
        ("other", "not the weights of ssrnet: conv2d_1/kernel is 3x3x3x16, not 3x3x3x32"),
        ("half", ""),
        ("nameless", "weights without names"),
        ("strangers", "not the weights of ssrnet: .*more"),
        ("half-mxnet", "not an MXNet parameter file, or damaged"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_the_reason(name, reason, tmp_path):
    file = damaged(name, tmp_path)
    with pytest.raises(AgedgeError, match=f"{file.name}: .*{reason}") as error:
        import_weights(file, "ssrnet", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_kind_that_the_network_is_not_read_from(keras_file, tmp_path):
    with pytest.raises(AgedgeError, match="weights.bin: Keras HDF5; mobilenet025 is imported from MXNet parameters"):
        import_weights(keras_file, "mobilenet025", tmp_path / "out")


@pytest.mark.skipif(not UPSTREAM.is_dir(), reason=f"{UPSTREAM} is not there: Keras weights of two networks")
@pytest.mark.parametrize("file, network", [("aec_keras_weights.hdf5", "ssrnet"), ("ssrnet_keras_imdb.h5", "aec")])
def test_weights_of_another_keras_network(file, network, tmp_path):
    with pytest.raises(AgedgeError, match=f"{file}: "):
        import_weights(UPSTREAM / file, network, tmp_path / "out")


@pytest.mark.parametrize(
    "begin, kind",
    [
        (b"\x12\x01\0\0\0\0\0\0", "mxnet"),
        (b"\x89HDF\r\n\x1a\n", "keras"),
        (b"PK\x03\x04", "torch"),
        (b"\x80\x02\x8a\x0a", "torch"),
    ],
)
def test_the_kind_is_told_by_the_content(begin, kind, tmp_path):
    file = tmp_path / "weights.jpg"
    file.write_bytes(begin + bytes(20))
    assert find_kind(file) == kind


def test_a_backbone_alone_becomes_a_file_to_train_from(monkeypatch, tmp_path):
    """No card: without its heads the network answers nothing."""
    source = symbols.create("ssrnet")
    source.initialize_for_training(mx.cpu())
    source(nd.zeros((1, 3, 64, 64)))
    weights = {
        name: value.data().asnumpy()
        for name, value in source._collect_params_with_prefix().items()
        if name.startswith("body.")
    }
    monkeypatch.setattr(convert, "read", lambda *_: Imported({"name": "ssrnet"}, weights, complete=False))
    file = save_h5(tmp_path / "any.h5", {"a/b": np.zeros(1)})
    written = import_weights(file, "ssrnet", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ssrnet.params"] == [path.name for path in written]
    network = symbols.create("ssrnet")
    network.initialize()
    network(nd.zeros((1, 3, 64, 64)))
    network.load_parameters(str(written[0]), allow_missing=True)
    for name, array in weights.items():
        assert np.array_equal(network._collect_params_with_prefix()[name].data().asnumpy(), array)


def test_the_command_reports_how_to_use_a_backbone_beside_a_model_too(monkeypatch, tmp_path, capsys):
    from deploy.__main__ import import_weights as command

    (tmp_path / "card.json").write_text("{}")
    monkeypatch.setattr(convert, "import_weights", lambda *_: [tmp_path / "agmixer.params"])
    command(tmp_path / "FaRL.pth", "agmixer", tmp_path, None, None)
    assert f"train with pretrained={tmp_path / 'agmixer.params'}" in capsys.readouterr().out


def test_a_backbone_of_another_shape_is_refused(monkeypatch, tmp_path):
    weights = {"body.x.0.0.weight": np.zeros((2, 2), np.float32), "trunk.weight": np.zeros(3, np.float32)}
    monkeypatch.setattr(convert, "read", lambda *_: Imported({"name": "ssrnet"}, weights, complete=False))
    file = save_h5(tmp_path / "any.h5", {"a/b": np.zeros(1)})
    with pytest.raises(
        AgedgeError, match="any.h5: .*body.x.0.0.weight is 2x2, not 32x3x3x3; trunk.weight 3 is unknown"
    ):
        import_weights(file, "ssrnet", tmp_path / "out")


def test_differences_are_listed_ten_at_most():
    wanted = {f"layer{number}.weight": (3, number) for number in range(14)}
    with pytest.raises(AgedgeError, match="layer9.weight 3x9 is missing; and 4 more$"):
        require_weights("net", wanted, {})
    require_weights("net", wanted, dict(wanted))


def test_every_source_has_its_mapper_and_its_network():
    for network, kinds in SOURCES.items():
        assert network in symbols.names()
        for kind, source in kinds.items():
            assert kind in convert.READERS and callable(convert.find_function(source.module, source.mapper))
            assert Crop.named(*source.crop[:1], 64, source.crop[1]).size == 64


def run_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "deploy", "import", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_command(keras_file, tmp_path):
    done = run_command("--from", keras_file, "--as", "ssrnet", "--out", tmp_path / "model", "--crop", "arcface")
    assert done.returncode == 0, done.stderr
    assert f"wrote {tmp_path / 'model' / 'card.json'}" in done.stdout
    assert json.loads((tmp_path / "model" / "card.json").read_text())["training"]["imported"]["crop"].startswith(
        "arcface"
    )
    for arguments, status, reason in (
        (("--from", keras_file, "--as", "vgg", "--out", tmp_path), 2, "--as: unknown 'vgg'"),
        (("--from", tmp_path / "none", "--as", "aec", "--out", tmp_path), 1, "no such file"),
    ):
        done = run_command(*arguments)
        assert done.returncode == status and reason in done.stderr and len(done.stderr.splitlines()) == 1
