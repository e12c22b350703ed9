"""Keras files: what is read from them, and one line for each that is none, damaged, or leads elsewhere."""

import numpy as np
import pytest

from agedge.errors import AgedgeError
from deploy.importers.h5_file import read_h5

h5py = pytest.importorskip("h5py")

LAYERS = {
    "input_1": {},
    "conv2d_1": {"conv2d_1/kernel:0": np.arange(27.0).reshape(3, 3, 3, 1), "conv2d_1/bias:0": np.array([0.5])},
    "dense": {"kernel:0": np.ones((4, 2), np.float64)},
}


def write(file, layers=LAYERS, whole=False):
    with h5py.File(file, "w") as opened:
        root = opened.create_group("model_weights") if whole else opened
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                group[name] = array
    return file


def refuse(file, reason):
    with pytest.raises(AgedgeError, match=reason) as caught:
        read_h5(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("whole", [False, True])
def test_weights_come_in_the_files_order_under_their_layers_names(tmp_path, whole):
    weights = read_h5(write(tmp_path / "w.h5", whole=whole))
    assert list(weights) == ["conv2d_1/kernel", "conv2d_1/bias", "dense/kernel"]
    assert weights.layers == ("input_1", "conv2d_1", "dense")
    assert all(array.dtype == np.float32 for array in weights.values())
    np.testing.assert_array_equal(weights["conv2d_1/kernel"], LAYERS["conv2d_1"]["conv2d_1/kernel:0"])


def test_long_lists_of_names_come_in_pieces(tmp_path):
    file = write(tmp_path / "w.h5")
    with h5py.File(file, "r+") as opened:
        del opened.attrs["layer_names"]
        opened.attrs["layer_names0"] = [b"input_1", b"conv2d_1"]
        opened.attrs["layer_names1"] = ["dense"]
    assert list(read_h5(file)) == ["conv2d_1/kernel", "conv2d_1/bias", "dense/kernel"]


def test_what_is_no_hdf5_file(tmp_path):
    refuse(tmp_path / "none.h5", "no such file")
    refuse(tmp_path, "no such file")
    for content in (b"", b"PK\x03\x04 a zip"):
        (tmp_path / "other.h5").write_bytes(content)
        refuse(tmp_path / "other.h5", "not an HDF5 file")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_file(tmp_path, share):
    whole = write(tmp_path / "whole.h5").read_bytes()
    (tmp_path / "part.h5").write_bytes(whole[: int(len(whole) * share)])
    refuse(tmp_path / "part.h5", "damaged or truncated|not an HDF5 file")


def test_damaged_bytes_never_end_in_another_error(tmp_path):
    whole = bytearray(write(tmp_path / "whole.h5").read_bytes())
    for _ in range(60):
        damaged = bytearray(whole)
        for place in np.random.randint(8, len(whole), 8):
            damaged[place] = np.random.randint(256)
        (tmp_path / "damaged.h5").write_bytes(damaged)
        try:
            read_h5(tmp_path / "damaged.h5")
        except AgedgeError as error:
            assert "\n" not in str(error)


def test_an_hdf5_file_of_something_else(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as opened:
        opened["images"] = np.zeros((2, 3))
    refuse(tmp_path / "other.h5", "not a file of Keras weights: it lists no layers")
    refuse(write(tmp_path / "empty.h5", {"input_1": {}}), "not a file of Keras weights: its layers have none")
    refuse(write(tmp_path / "text.h5", {"a": {"a/b:0": np.bytes_("text")}}), "a/b is not an array of numbers")
    with h5py.File(tmp_path / "flat.h5", "w") as opened:
        opened["model_weights"] = np.zeros(3)
    refuse(tmp_path / "flat.h5", "it lists no layers")


def test_a_weight_that_is_listed_but_absent_or_listed_twice(tmp_path):
    file = write(tmp_path / "w.h5")
    with h5py.File(file, "r+") as opened:
        del opened["dense/kernel:0"]
    refuse(file, "'kernel:0' is listed, but missing")
    with h5py.File(file, "r+") as opened:
        opened.attrs["layer_names"] = [b"conv2d_1", b"conv2d_1"]
    refuse(file, "lists conv2d_1/kernel twice")


@pytest.mark.parametrize("kind", ["external", "soft", "layer", "group"])
def test_links_are_not_followed(tmp_path, kind):
    file, other = write(tmp_path / "w.h5"), write(tmp_path / "other.h5")
    with h5py.File(file, "r+") as opened:
        place, target = {
            "external": ("dense/kernel:0", h5py.ExternalLink(str(other), "/dense/kernel:0")),
            "soft": ("dense/kernel:0", h5py.SoftLink("/conv2d_1/conv2d_1/bias:0")),
            "layer": ("dense", h5py.ExternalLink(str(other), "/dense")),
            "group": ("model_weights", h5py.ExternalLink(str(other), "/")),
        }[kind]
        if place in opened:
            del opened[place]
        opened[place] = target
    refuse(file, "is a link to another place, which is not followed")


def test_numbers_in_other_files_are_not_read(tmp_path):
    file = write(tmp_path / "w.h5", {"dense": {}})
    (tmp_path / "secret.bin").write_bytes(b"12345678")
    with h5py.File(file, "r+") as opened:
        group = opened["dense"]
        group.attrs["weight_names"] = [b"kernel:0"]
        group.create_dataset("kernel:0", (2,), np.float32, external=[(str(tmp_path / "secret.bin"), 0, 8)])
    refuse(file, "dense/kernel lies in another file")
    layout = h5py.VirtualLayout((2,), np.float32)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (2,))
    with h5py.File(file, "r+") as opened:
        del opened["dense/kernel:0"]
        opened["dense"].create_virtual_dataset("kernel:0", layout)
    refuse(file, "dense/kernel lies in another file")


def test_a_huge_array_of_nothing_is_not_read(tmp_path):
    file = write(tmp_path / "w.h5", {"dense": {}})
    with h5py.File(file, "r+") as opened:
        opened["dense"].attrs["weight_names"] = [b"kernel:0"]
        opened["dense"].create_dataset("kernel:0", (1 << 20, 1 << 20), np.float32, chunks=(1024, 1024))
    refuse(file, "so small a file does not hold")
