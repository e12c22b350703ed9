"""A checkpoint is data: what it holds, what is refused, and that nothing in it is run."""

import collections
import io
import json
import os
import pickle
import struct
import zipfile

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from agedge.errors import AgedgeError
from agedge.training import loop, open_training
from agedge.training.run.checkpoint import PARAMS, PICKLED_TRAINER, STATE, TRAINER, load_checkpoint, read_state
from agedge.training.run.initialize import optimizer_options
from agedge.training.run.pickled_state import read_pickled_state, run_pickle
from agedge.training.run.trainer_state import MOVING, collect_state, restore_state
from tests.training.toy_runs import pack_version_2, run, to_zip, write_toys

OPTIMIZERS = sorted(set(mx.optimizer.Optimizer.opt_registry) - {"groupadagrad", "test"})


class Settings:
    lr, wd, momentum = 0.01, 0.001, 0.9

    def __init__(self, name):
        self.name = name


class Small:
    """A layer with its trainer, and steps on numbers that follow from their own."""

    def __init__(self, name, contexts=None):
        self.contexts = contexts or [mx.cpu()]
        self.layer = gluon.nn.Dense(3, in_units=4)
        self.layer.initialize(mx.init.Constant(0.1), ctx=self.contexts)
        parameters = self.layer.collect_params()
        self.trainer = gluon.Trainer(parameters, name, optimizer_options(Settings(name)), kvstore=None)

    def train(self, steps):
        for step in steps:
            mx.random.seed(step)  # one of the optimizers draws
            for context in self.contexts:
                data = nd.array(np.random.default_rng(step).normal(size=(5, 4)), ctx=context)
                with autograd.record():
                    loss = (self.layer(data) ** 2).sum()
                loss.backward()
            self.trainer.set_learning_rate(0.01 / (1 + step))
            self.trainer.update(5)
        return self

    def weights(self, at=0):
        return [parameter.list_data()[at].asnumpy() for parameter in self.layer.collect_params().values()]

    def take_weights(self, other):
        for mine, value in zip(self.layer.collect_params().values(), other.weights()):
            mine.set_data(nd.array(value))
        return self


def pickled(trainer, folder):
    trainer.save_states(str(folder / "states"))
    return (folder / "states").read_bytes()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_to_the_same_bits(name, version, tmp_path):
    half = Small(name).train(range(3))
    numbers, arrays = collect_state(half.trainer)
    if version == 3:
        file = tmp_path / "arrays"
        if arrays:
            mx.nd.save(str(file), arrays)
            arrays = mx.nd.load(str(file))
        numbers = json.loads(json.dumps(numbers))
    else:
        numbers, arrays = read_pickled_state(pickled(half.trainer, tmp_path))
    resumed = Small(name).take_weights(half)
    restore_state(resumed.trainer, numbers, arrays, "x.ckpt")
    for one, two in zip(half.train(range(3, 6)).weights(), resumed.train(range(3, 6)).weights()):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_else_of_an_optimizer_changes_as_it_goes(name):
    def numbers_of(small):
        optimizer = vars(small.trainer._optimizer)
        return {key: value for key, value in optimizer.items() if isinstance(value, (int, float, type(None)))}

    small = Small(name).train(range(1))
    before = numbers_of(small)
    after = numbers_of(small.train(range(1, 3)))
    changed = {key for key in after if before[key] != after[key]}
    assert changed <= {*MOVING, "lr", "rescale_grad"}  # which are set at every step


def test_devices_that_come_later_get_the_same_state():
    half = Small("adam").train(range(3))
    both = Small("adam", [mx.cpu(0), mx.cpu(1)]).take_weights(half)
    restore_state(both.trainer, *collect_state(half.trainer), "x.ckpt")
    both.train(range(3, 5))
    half.train(range(3, 5))
    for at in (0, 1):
        for one, two in zip(both.weights(at), half.weights()):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda numbers, arrays: arrays.pop("0.1"), "optimizer state 0.1 of .*: missing"),
        (lambda numbers, arrays: arrays.update({"0.1": np.zeros((2, 2), np.float32)}), r"is \(2, 2\) float32, not"),
        (lambda numbers, arrays: arrays.update({"7.0": np.zeros(1, np.float32)}), "7.0, which this network does not"),
        (lambda numbers, arrays: numbers.pop("counts"), "must be a mapping with 'counts'"),
        (lambda numbers, arrays: numbers.update(counts={"0": -1}), "counts must be a whole number per parameter"),
        (lambda numbers, arrays: numbers.update(counts={"x": 1}), "counts must be a whole number per parameter"),
        (lambda numbers, arrays: numbers.update(num_update="1"), "num_update must be a number"),
        (lambda numbers, arrays: numbers.update(num_update=1.5), "must be a whole number"),
    ],
)
def test_a_state_that_does_not_fit_is_one_line(change, says):
    small = Small("adam").train(range(2))
    numbers, arrays = collect_state(small.trainer)
    change(numbers, arrays)
    with pytest.raises(AgedgeError, match=f"^x.ckpt: .*{says}"):
        restore_state(Small("adam").trainer, numbers, arrays, "x.ckpt")


# ---- pickles -----------------------------------------------------------------------------------------------------


class Command:
    """What a pickle of it runs, when it is loaded by `pickle`."""

    def __init__(self, mark, call=os.system):
        self.call, self.arguments = call, (f"touch {mark}",)

    def __reduce__(self):
        return self.call, self.arguments


def attacks(mark):
    order = f"touch {mark}".encode()
    states = {0: nd.zeros((2,))}
    yield from (pickle.dumps(Command(mark), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1))
    yield pickle.dumps((states, Command(mark)))
    yield pickle.dumps(({0: (Command(mark), None)}, {}))
    yield pickle.dumps(Command(mark, eval))
    yield b"cos\nsystem\n(S'" + order + b"'\ntR."  # GLOBAL, REDUCE
    yield b"(S'" + order + b"'\nios\nsystem\n."  # INST
    yield b"(cos\nsystem\nS'" + order + b"'\no."  # OBJ
    yield b"\x80\x02cmxnet.ndarray.ndarray\nNDArray\n)\x81}U\x06handlecos\nsystem\nsb."  # BUILD
    yield b"\x80\x04\x8c\x10mxnet.optimizer.optimizer\x8c\x08pickle.loads\x93."
    yield b"\x80\x02\x82\x01."  # an extension's number
    yield b"Pwhatever\n."  # a persistent number
    yield b"\x80\x04\x8c\x08builtins\x8c\x09bytearray\x93J\xff\xff\xff\x7f\x85R."  # 2 GB of zeros
    yield b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x."  # 1 TB is said to follow
    yield b"\x80\x04]" + b"\x94h\x00h\x00\x86" * 3 + b"."
    yield b"\x80\x04K\x01K\x02"
    yield b"\x80\x04\x86."
    yield b""


def test_a_pickle_runs_nothing(tmp_path):
    mark = tmp_path / "mark"
    for attack in attacks(mark):
        with pytest.raises(ValueError):
            read_pickled_state(attack)
        assert not mark.exists(), attack


def test_a_small_pickle_cannot_become_large():
    pair = b"\x80\x04\x8c\x01x\x94"  # memo 0
    for number in range(60):
        pair += b"h" + bytes([number]) + b"\x86\x94"  # (it, it)
    assert run_pickle(pair + b".")  # 2**60 texts, if one looked at them all
    with pytest.raises(ValueError, match="neither text nor number"):
        run_pickle(b"\x80\x04}" + pair[2:] + b"K\x01s.")  # as a key, whose hash looks at them all
    with pytest.raises(ValueError):
        read_pickled_state(b"\x80\x04}K\x00" + pair[2:] + b"s}\x86.")
    states = {index: ([None] * 1000,) for index in range(10)}
    with pytest.raises(ValueError):
        read_pickled_state(pickle.dumps((states, {}), 4))


def test_an_array_of_a_pickle_is_checked(tmp_path):
    content = pickled(Small("sgd").train(range(1)).trainer, tmp_path)
    _, arrays = read_pickled_state(content)
    assert sorted(array.shape for array in arrays.values()) == [(3,), (3, 4)]
    start = content.index(struct.pack("<Iii", 0xF993FAC9, 0, 2))
    for at, value in ((0, 1), (4, 1), (8, 99), (12, 5), (16, 1), (28 + 8, 77)):
        damaged = bytearray(content)
        damaged[start + at : start + at + 4] = struct.pack("<i", value)
        with pytest.raises(ValueError):
            read_pickled_state(bytes(damaged))


# ---- whole files -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return [f"data.{part}={write_toys(folder / f'{part}.rec', n, n)}" for part, n in (("train", 40), ("val", 20))]


@pytest.fixture(scope="module")
def folder(toys, tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "run", toys, "train.epochs=1")[0]


def parts_of(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


class KilledError(Exception):
    pass


def test_a_run_of_version_2_is_resumed_to_the_same_bits(tmp_path, toys, monkeypatch):
    lively = ["train.epochs=2", "train.ema=0.9", "run.save_every=0", "train.log_every=1", "network.dropout=0.3"]
    whole, _ = run(tmp_path / "whole", toys, *lively)
    step = loop.train_step

    def step_or_die(training, *rest):
        if training.state.step == 4:
            raise KilledError
        step(training, *rest)

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(open_training, "pack_checkpoint", pack_version_2)
        patched.setattr(loop, "train_step", step_or_die)
        run(tmp_path / "parts", toys, *lively)
    assert read_state(tmp_path / "parts" / "last.ckpt")["version"] == 2
    run(tmp_path / "parts", toys, *lively, resume=True)
    for name in ("last.ckpt", "best.ckpt"):
        one, two = parts_of(whole / name), parts_of(tmp_path / "parts" / name)
        assert one.keys() == two.keys() and PICKLED_TRAINER not in one
        assert all(one[part] == two[part] for part in one if part != STATE)
    one, two = (without_times(path / "log.csv") for path in (whole, tmp_path / "parts"))
    assert one == two


def without_times(path):
    """The text of a log.csv but for its last columns, images_per_s and waited."""
    return [line.rsplit(",", 2)[0] for line in path.read_text().splitlines()]


def test_resuming_leaves_the_text_of_the_log(folder, toys, tmp_path):
    begun, _ = run(tmp_path / "run", toys, "train.epochs=1", "optimizer.schedule=steps")
    first = (begun / "log.csv").read_text()
    run(begun, toys, "train.epochs=2", "optimizer.schedule=steps", resume=True)
    again = (begun / "log.csv").read_text()
    assert again.startswith(first) and again.count("\n") == 3
    assert [line.split(",")[0] for line in again.splitlines()] == ["epoch", "1", "2"]


def test_a_checkpoint_with_a_command_is_one_line(folder, toys, tmp_path):
    parts = parts_of(folder / "last.ckpt")
    state = {**json.loads(parts.pop(STATE)), "version": 2}
    parts.pop(TRAINER)
    mark, evil = tmp_path / "mark", tmp_path / "run"
    evil.mkdir()
    parts.update({PICKLED_TRAINER: pickle.dumps(Command(mark)), STATE: json.dumps(state)})
    (evil / "last.ckpt").write_bytes(to_zip(parts))
    with pytest.raises(
        AgedgeError, match="last.ckpt: not a checkpoint of a run: trainer.states: .*system is not allowed"
    ):
        run(evil, toys, "train.epochs=2", resume=True)
    assert not mark.exists()


def deep(text):
    return text.replace('"sums": null', '"sums": ' + "[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize(
    "change",
    [
        deep,
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: "",
        lambda text: text.replace('"step": ', '"step": -'),
        lambda text: text.replace('"step": ', '"step": 0.5, "stop": '),
        lambda text: text.replace('"epoch"', '"epoc"'),
        lambda text: text.replace('"best": ', '"best": NaN, "bset": '),
        lambda text: text.replace('"sums": null', '"sums": ["a"]'),
        lambda text: text.replace('"same": {', '"same": [], "some": {'),
        lambda text: text.replace('"trainer": {', '"trainer": [], "trianer": {'),
        lambda text: text.replace('"version": 3', '"version": "3"'),
        lambda text: text.replace('"version": 3', '"version": -1'),
        lambda text: text.replace('"version": 3', '"version": true'),
        lambda text: text + " " * 5_000_000,
        lambda text: text.encode("utf-8").replace(b"adam", b"\xff\xfe"),
    ],
)
def test_a_damaged_state_is_one_line(change, folder, tmp_path):
    parts = parts_of(folder / "last.ckpt")
    changed = change(parts[STATE].decode())
    assert changed != parts[STATE].decode()
    parts[STATE] = changed
    (tmp_path / "x.ckpt").write_bytes(to_zip(parts))
    with pytest.raises(AgedgeError, match="x.ckpt: not a checkpoint of a run"):
        read_state(tmp_path / "x.ckpt")


def test_a_zip_that_is_no_checkpoint_is_one_line(folder, tmp_path):
    parts, file = parts_of(folder / "last.ckpt"), tmp_path / "x.ckpt"
    bomb = to_zip({**parts, PARAMS: bytes(100_000_000)}, compression=zipfile.ZIP_DEFLATED)
    twice = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(twice, "w") as archive:
        for name in [*parts, STATE]:
            archive.writestr(name, parts[name])
    missing = [to_zip({name: part for name, part in parts.items() if name != left}) for left in (PARAMS, STATE)]
    for content in (bomb, twice.getvalue(), *missing, b"", b"PK\x05\x06" + bytes(18), bomb[:1000]):
        file.write_bytes(content)
        with pytest.raises(AgedgeError, match="x.ckpt: not a checkpoint of a run"):
            read_state(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(AgedgeError, match="x.ckpt: is a folder"):
        read_state(file)


def test_a_checkpoint_whose_arrays_are_none_is_one_line(folder, tmp_path):
    import symbols

    network = symbols.create("mobilenet025", size=32, stem_stride=2)
    network.initialize_for_training(mx.cpu())
    network(nd.zeros((1, 3, 32, 32)))
    for part in (PARAMS, TRAINER):
        (tmp_path / "x.ckpt").write_bytes(to_zip({**parts_of(folder / "last.ckpt"), part: b"nonsense"}))
        with pytest.raises(AgedgeError, match="x.ckpt: .*not an MXNet parameter file"):
            load_checkpoint(tmp_path / "x.ckpt", network, gluon.Trainer(network.collect_params(), "adam", kvstore=None))


def test_only_data_is_stored(folder):
    parts = parts_of(folder / "last.ckpt")
    assert set(parts) == {PARAMS, TRAINER, STATE}
    assert all(b"mxnet.optimizer" not in part for part in parts.values())
    state = json.loads(parts[STATE])
    assert state["version"] == 3 and set(collections.Counter(state["trainer"]["counts"].values())) == {state["step"]}
