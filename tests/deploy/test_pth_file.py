"""PyTorch's files without PyTorch: both formats, and nothing in them is ever run."""

import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from agedge.errors import AgedgeError
from deploy.importers.pth_file import read_pth
from tests.deploy.torch_files import Called, Named, Stored, pickled, tensor, write_legacy, write_zip

SIX = np.arange(6, dtype=np.float32)


def fault_of(path) -> str:
    with pytest.raises(AgedgeError) as caught:
        read_pth(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message[len(f"{path}: ") :]


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_shapes_strides_and_offsets_are_kept(write, tmp_path):
    content = {
        "plain": tensor("0"),
        "turned": tensor("0", shape=(3, 2), strides=(1, 3)),
        "part": tensor("0", shape=(2,), strides=(2,), offset=3),
        "number": tensor("0", shape=(), strides=(), offset=5),
        "none": tensor("0", shape=(0, 3), strides=(3, 1)),
        "count": tensor("1", "i8", 1, (), ()),
    }
    weights = read_pth(write(tmp_path / "net.pth", content, {"0": SIX, "1": np.array([7], np.int64)}))
    assert list(weights) == list(content)
    np.testing.assert_array_equal(weights["plain"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(weights["turned"], SIX.reshape(2, 3).T)
    np.testing.assert_array_equal(weights["part"], [3, 5])
    assert weights["number"] == 5 and weights["none"].shape == (0, 3)
    assert weights["count"] == 7 and weights["count"].dtype == np.int64


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_half_precision_and_bfloat16_become_float32(write, tmp_path):
    numbers = np.array([1.5, -2.25, 1e-3, 3e4], np.float32)
    content = {
        "half": tensor("0", "f2", 4, (4,), (1,)),
        "brain": tensor("1", "BFloat16Storage", 4, (4,), (1,)),
        "double": tensor("2", "f8", 4, (4,), (1,)),
    }
    upper = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    storages = {"0": numbers.astype(np.float16), "1": upper, "2": numbers.astype(np.float64)}
    weights = read_pth(write(tmp_path / "net.pth", content, storages))
    assert weights["half"].dtype == weights["brain"].dtype == np.float32 and weights["double"].dtype == np.float64
    np.testing.assert_allclose(weights["half"], numbers, rtol=1e-3)
    np.testing.assert_allclose(weights["brain"], numbers, rtol=1e-2)
    np.testing.assert_array_equal(weights["double"], numbers)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_checkpoints_are_unwrapped_and_the_rest_of_them_left(write, key, tmp_path):
    optimizer = {"state": {0: {"exp_avg": tensor("1")}}, "lr": 1e-4}
    parameter = Called(Named("torch._utils", "_rebuild_parameter"), tensor("0"), True, {})
    names = Called(Named("collections", "OrderedDict"), state={"_metadata": {"": {"version": 1}}})
    content = {"epoch": 3, "loss": 0.25, "names": names, key: {"layer.weight": parameter}, "optimizer": optimizer}
    weights = read_pth(write(tmp_path / "net.pth", content, {"0": SIX, "1": SIX}))
    assert list(weights) == ["layer.weight"] and weights["layer.weight"].shape == (2, 3)


def test_a_part_of_a_storage_as_old_files_name_it(tmp_path):
    content = {
        "whole": tensor("a", view=(None,)),
        "part": tensor("a", count=6, shape=(2,), strides=(1,), view=(("b", 4, 2),)),
    }
    weights = read_pth(write_legacy(tmp_path / "net.pth", content, {"a": SIX}))
    np.testing.assert_array_equal(weights["part"], [4, 5])


def test_a_file_of_a_machine_of_the_other_byte_order(tmp_path):
    path = write_zip(tmp_path / "net.pth", {"w": tensor("0")}, {"0": SIX.astype(">f4")}, byteorder="big")
    np.testing.assert_array_equal(read_pth(path)["w"], SIX.reshape(2, 3))


def test_a_torchscript_archive_is_read_as_attributes(tmp_path):
    def module(name, **attributes):
        return Called(Named(f"__torch__.{name}", "Module"), state={"training": False, **attributes})

    inner = module("clip.Linear", weight=tensor("0"), in_features=3)
    content = module("clip.Clip", visual=module("clip.Visual", **{"0": inner, "proj": tensor("0")}), size=tensor("0"))
    path = write_zip(tmp_path / "net.pt", content, {"0": SIX}, **{"code/clip.py": "import os", "constants.pkl": ""})
    assert sorted(read_pth(path)) == ["size", "visual.0.weight", "visual.proj"]


def test_modules_that_hold_each_other_come_to_an_end(tmp_path):
    start = Called(Named("__torch__.m", "A"))
    # The module, remembered as 0, is its own attributes "a" and "b".
    body = pickled(start)[:-1] + b"q\x00}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ub."
    assert "no weights" in fault_of(write_zip(tmp_path / "net.pt", body, {}))


class Evil:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("where", ["alone", "in a checkpoint", "as a state"])
@pytest.mark.parametrize(
    "function, name", [(os.system, "system"), (eval, "eval"), (exec, "exec"), (__import__, "__import__")]
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_calls_something_is_refused_and_nothing_happens(write, where, function, name, protocol, tmp_path):
    mark = tmp_path / "mark"
    words = {
        "system": f"touch {mark}",
        "eval": f"open({str(mark)!r}, 'w')",
        "exec": f"open({str(mark)!r}, 'w')",
        "__import__": "antigravity",
    }
    evil = Evil(function, words[name])
    content = pickle.dumps(
        {"alone": evil, "in a checkpoint": {"epoch": 1, "args": evil}, "as a state": [evil]}[where], protocol
    )
    message = fault_of(write(tmp_path / "net.pth", content, {}))
    assert f".{name};" in message and "it imports" in message and not mark.exists()


@pytest.mark.parametrize("part", range(5))
def test_every_pickle_of_an_old_file_is_guarded(part, tmp_path):
    mark = tmp_path / "mark"
    evil = pickle.dumps(Evil(os.system, f"touch {mark}"), 2)
    parts = [
        pickled(0x1950A86A20F9469CFC6C),
        pickled(1001),
        pickled({"little_endian": True}),
        pickled({"w": 1}),
        pickled([]),
    ]
    parts[part] = evil
    (tmp_path / "net.pth").write_bytes(b"".join(parts))
    assert "system" in fault_of(tmp_path / "net.pth") and not mark.exists()


@pytest.mark.parametrize(
    "content, word",
    [
        (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
        (b"ctorch\nload\n.", "torch.load"),
        (b"ctorch._utils\n_rebuild_qtensor\n.", "torch._utils._rebuild_qtensor"),
        (b"cposix\nsystem\x1b[31m\n.", "posix.system?[31m"),
        (b"(S'touch x'\nios\nsystem\n.", "os.system"),
        (b"\x82\x01.", "extension 1"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
    ],
)
def test_every_way_to_name_something_is_guarded(content, word, tmp_path):
    assert word in fault_of(write_zip(tmp_path / "net.pth", content, {}))


def test_a_file_cannot_change_its_reader(tmp_path):
    for state in ({"_call": 1}, (None, {"_call": 1}), (None, {"find_class": 1})):
        for name in ("torch._utils _rebuild_tensor_v2", "torch FloatStorage"):
            body = pickled(Named(*name.split()))[:-1] + pickled(state)[2:-1] + b"b."
            assert "change its reader" in fault_of(write_zip(tmp_path / "net.pth", body, {}))
    body = b"ccollections\nOrderedDict\n" + pickled((None, {"items": 1}))[2:-1] + b"b."
    assert "change its reader" in fault_of(write_zip(tmp_path / "net.pth", body, {}))
    assert read_pth(write_zip(tmp_path / "net.pth", {"w": tensor("0")}, {"0": SIX}))["w"].shape == (2, 3)


@pytest.mark.parametrize(
    "odd",
    [
        {"shape": (2, 4)},
        {"strides": (4, 1)},
        {"offset": 1},
        {"offset": -1},
        {"strides": (-3, 1)},
        {"shape": (2,)},
        {"shape": (1 << 40, 1 << 40), "strides": (0, 0)},
        {"shape": (1,) * 40, "strides": (1,) * 40},
        {"count": 7},
        {"count": 1 << 60},
        {"count": -1},
        {"shape": (2.0, 3)},
        {"shape": "ab"},
        {"shape": (True, 1), "strides": (1, 1)},
    ],
)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_that_lie_outside_of_their_storage_are_refused(write, odd, tmp_path):
    message = fault_of(write(tmp_path / "net.pth", {"w": tensor("0", **odd)}, {"0": SIX}))
    assert "damaged" in message or "truncated" in message


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "net.pth"
    write_zip(path, {"w": tensor("0", count=1 << 24)}, {"0": bytes(1 << 26)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20 and "compressed" in fault_of(path)


def test_parts_larger_than_the_file_are_refused(tmp_path):
    path = write_zip(tmp_path / "net.pth", {"w": tensor("0")}, {"0": SIX})
    archive = path.read_bytes()
    size = len(SIX.tobytes()).to_bytes(4, "little")
    assert archive.count(size * 2) == 2
    path.write_bytes(archive.replace(size * 2, (1 << 30).to_bytes(4, "little") * 2))
    assert "larger than the file" in fault_of(path)


@pytest.mark.parametrize(
    "content, word",
    [
        ({"w": tensor("9")}, "storage 9 is not in it"),
        ({"w": tensor("0"), "v": tensor("0", "i8", 3, (3,), (1,))}, "two kinds"),
        ({}, "no weights"),
        ({"epoch": 1}, "no weights"),
        (tensor("0"), "a single tensor without a name"),
        ({"a\nb": tensor("0")}, "cannot be printed"),
        ({"w": Called(Named("torch._utils", "_rebuild_tensor_v2"), 1, 0, (2, 3), (3, 1))}, "without storage"),
        ({"w": Stored("module", Named("torch", "FloatStorage"), "0", "cpu", 6)}, "not a storage"),
        ({"w": Stored("storage")}, "damaged"),
        ({"w": tensor("0", "Size")}, "damaged"),
        (b"", "damaged"),
        (b"\x80\x02", "damaged"),
        (b"\x80\x02]q\x00(h\x05.", "damaged"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00.", "damaged"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "damaged"),
        (b"(" * 100000 + b".", "damaged"),
    ],
)
def test_other_contents_are_refused_in_one_line(content, word, tmp_path):
    assert word in fault_of(write_zip(tmp_path / "net.pth", content, {"0": SIX}))


LIST = b"(" + b"N" * 100_000 + b"lq\x00"  # a hundred thousand times None, remembered as 0
KEYS = [b"J" + struct.pack("<i", key) for key in range(30_000)]
PAIRS = b"(" + b"".join(key + b"N\x86" for key in KEYS) + b"lq\x00"
DICTIONARY = b"(" + b"".join(key + b"N" for key in KEYS) + b"dq\x00"
DOUBLED = b"K\x01" + b"2\x86" * 22  # (1, 1), a pair of that, and so on: as a text some forty megabytes


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05\x96" + struct.pack("<Q", 300_000_000) + b".",
        b"\x80\x02" + LIST + b"(" + b"ctorch\nSize\nh\x00\x85R" * 300 + b"l.",
        b"\x80\x02" + PAIRS + b"(" + b"ccollections\nOrderedDict\nh\x00\x85R" * 300 + b"l.",
        b"\x80\x02c__torch__\nA\nq\x01" + DICTIONARY + b"(" + b"h\x01)\x81h\x00b" * 300 + b"l.",
        b"\x80\x02ctorch\ndevice\n" + DOUBLED + b"\x85R.",
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + DOUBLED + b"X\x03\x00\x00\x00cpuK\x01tQ.",
    ],
    ids=["bytearray", "size", "dictionaries", "modules", "device", "storage"],
)
def test_a_small_file_fills_no_memory(content, tmp_path):
    path = write_zip(tmp_path / "net.pth", content, {})
    tracemalloc.start()
    fault_of(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 28 and path.stat().st_size < 1 << 20


def test_files_that_are_something_else(tmp_path):
    path = tmp_path / "net.pth"
    assert fault_of(path) == "no such file"
    for content, word in (
        (b"", "not a PyTorch file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "not a PyTorch file"),
        (pickle.dumps({"w": [1, 2]}), "not a PyTorch file"),
        (b"PK\x03\x04" + bytes(50), "damaged"),
        (pickled(0x1950A86A20F9469CFC6C) + pickled(1002), "protocol"),
    ):
        path.write_bytes(content)
        assert word in fault_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "no data.pkl" in fault_of(path)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_truncated_file_is_refused_wherever_it_ends(write, tmp_path):
    path = write(tmp_path / "net.pth", {"w": tensor("0"), "v": tensor("1")}, {"0": SIX, "1": SIX})
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        fault_of(path)


def test_random_damage_gives_weights_or_one_line(tmp_path):
    random = np.random.RandomState(1)
    for write in (write_zip, write_legacy):
        path = write(tmp_path / "net.pth", {"w": tensor("0"), "v": tensor("1")}, {"0": SIX, "1": SIX})
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(150):
            damaged = whole.copy()
            damaged[random.randint(0, len(whole), 2)] = random.randint(0, 256, 2)
            path.write_bytes(damaged.tobytes())
            try:
                read_pth(path)
            except AgedgeError as error:
                assert "\n" not in str(error)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra 'peers' is not installed: no torch")


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_torch_itself_saves(torch, is_zip, tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    base = torch.arange(24.0).reshape(4, 6)
    more = {"turned": base.T, "part": base[1:3, ::2], "half": base.half(), "brain": base.bfloat16(), "flag": base > 3}
    content = {
        "epoch": 1,
        "state_dict": {**net.state_dict(), **more},
        "optimizer": torch.optim.Adam(net.parameters()).state_dict(),
    }
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=is_zip)
    weights = read_pth(tmp_path / "net.pth")
    assert list(weights) == list(content["state_dict"])
    for name, value in content["state_dict"].items():
        value = value.float() if value.is_floating_point() else value
        np.testing.assert_array_equal(weights[name], value.numpy())


def test_a_whole_network_of_torch_is_refused_with_the_class_that_it_wants(torch, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    assert "it imports torch.nn.modules.linear.Linear" in fault_of(tmp_path / "net.pth")


def test_what_torchscript_saves(torch, tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Sequential(torch.nn.LayerNorm(3)))
    torch.jit.script(net).save(str(tmp_path / "net.pt"))
    weights = read_pth(tmp_path / "net.pt")
    assert sorted(weights) == sorted(net.state_dict())
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(weights[name], value.numpy())
