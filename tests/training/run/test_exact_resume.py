"""A run that was killed, wherever, and resumed ends with the bits of one that was not; and what befalls its files."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from agedge import safe_write
from agedge.errors import AgedgeError, StoppedError
from agedge.run_folder import read_log
from agedge.training import loop, open_training
from agedge.training.run import checkpoint, checkpoint_saver
from agedge.training.run.checkpoint import STATE, load_part, read_state
from tests.paths import ROOT
from tests.training.toy_runs import SMALL, pack_version_2, run, write_toys

# Whatever is drawn by chance or kept between steps: dropout, changed and mixed faces, two optimizer states, means.
LIVELY = [
    "network.dropout=0.3",
    "augment={mirror: 0.5, rotate: 10, scale: 0.1, brightness: 0.2, blur: 0.2, cutout: 0.3}",
    "train.mixup=0.4",
    "train.ema=0.9",
    "train.swa=0.5",
    "train.log_every=3",
    "train.epochs=3",
    "data.balance=0.5",
    "optimizer.clip=5",
    "run.save_every=0",
]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return [f"data.{part}={write_toys(folder / f'{part}.rec', n, n)}" for part, n in (("train", 120), ("val", 20))]


@pytest.fixture(scope="module")
def whole(toys, tmp_path_factory):
    """The lively run, never stopped: only to be read."""
    return run(tmp_path_factory.mktemp("whole") / "run", toys, *LIVELY, "data.cache=memory")[0]


PLAIN = ["train.epochs=2", "network.dropout=0.3", "train.ema=0.9"]


@pytest.fixture(scope="module")
def plain(toys, tmp_path_factory):
    """A run that saves at the end of epochs alone, never stopped: only to be read."""
    return run(tmp_path_factory.mktemp("plain") / "run", toys, *PLAIN)[0]


def content(folder, name="last"):
    """The arrays of a checkpoint, its optimizer's among them, and where it stands."""
    file = folder / f"{name}.ckpt"
    state = read_state(file)
    for key in ("seconds", "waited"):  # of the clock
        state.pop(key, None)
    arrays = {}
    for part in zipfile.ZipFile(file).namelist():
        if part.endswith(".params"):
            arrays.update({f"{part}:{key}": value.asnumpy() for key, value in load_part(file, part).items()})
    return arrays, state


def assert_same(one, two):
    for name in ("last", "best"):
        (a, state_a), (b, state_b) = content(one, name), content(two, name)
        assert a.keys() == b.keys() and state_a == state_b
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    logs = [
        [{key: value for key, value in row.items() if key not in ("images_per_s", "waited")} for row in read_log(path)]
        for path in (one / "log.csv", two / "log.csv")
    ]
    assert logs[0] == logs[1]


class KilledError(Exception):
    pass


def kill_before(at, monkeypatch):
    """The run ends, without a word, where it is to do the step after step number `at`."""
    step = loop.train_step

    def step_or_die(training, *rest):
        if training.state.step == at:
            raise KilledError
        step(training, *rest)

    monkeypatch.setattr(loop, "train_step", step_or_die)


def test_killed_at_random_steps_a_run_ends_with_the_same_bits(tmp_path, toys, whole, monkeypatch):
    chance, step, died = np.random.default_rng(), loop.train_step, []
    left = 0

    def step_or_die(training, *rest):
        nonlocal left
        left -= 1
        if left < 0:
            died.append(training.state.step)
            raise KilledError
        step(training, *rest)

    monkeypatch.setattr(loop, "train_step", step_or_die)
    folder, begun = tmp_path / "parts", False
    for _ in range(30):
        left = int(chance.integers(3, 8))
        try:
            run(folder, toys, *LIVELY, resume=begun)
            break
        except KilledError:
            begun = bool(checkpoint.list_last(folder))
    print("killed before steps", died)
    assert len(died) >= 3
    assert_same(whole, folder)


@pytest.mark.parametrize("cache", ["disk", "native"])
def test_wherever_the_faces_are_kept(cache, tmp_path, toys, monkeypatch):
    here = [f"data.cache={cache}", "augment.mirror=0.5", "augment.rotate=10", "network.dropout=0.3"]
    here += ["train.log_every=3", "train.epochs=2", "run.save_every=0"]
    whole, _ = run(tmp_path / "whole", toys, *here)
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        kill_before(13, patched)
        run(tmp_path / "parts", toys, *here)
    parts, _ = run(tmp_path / "parts", toys, *here, resume=True)
    assert_same(whole, parts)


def test_memory_and_disk_give_the_same_run(tmp_path, toys, whole):
    assert_same(whole, run(tmp_path / "disk", toys, *LIVELY, "data.cache=disk")[0])


# A process that does not get to the end of its run, however slow its killer is.
TO_BE_KILLED = """
import sys, time
from agedge.training import loop
from tests.training.toy_runs import run

step = loop.train_step

def step_or_wait(training, *rest):
    if training.state.step == 20:
        time.sleep(600)
    step(training, *rest)

loop.train_step = step_or_wait
run(sys.argv[1], sys.argv[2:])
"""


def test_kill_9_at_any_moment(tmp_path, toys, whole):
    folder, log = tmp_path / "parts", tmp_path / "log"
    with open(log, "w") as file:
        command = [sys.executable, "-c", TO_BE_KILLED, str(folder), *toys, *LIVELY]
        job = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=file, stderr=file)
    try:
        while not (folder / "last.ckpt").is_file() and job.poll() is None:
            time.sleep(0.01)
        time.sleep(np.random.default_rng().uniform(0, 2))  # ten steps, where nothing else runs
    finally:
        job.kill()
    assert job.wait() == -signal.SIGKILL, log.read_text()
    print("killed after step", read_state(folder / "last.ckpt")["step"])
    run(folder, toys, *LIVELY, resume=True)
    assert_same(whole, folder)
    assert not list(folder.glob("*.partial"))


def environment():
    """One in which a process finds what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number, tmp_path, toys):
    command = [sys.executable, "train.py", "--network", "mobilenet025", "--prefix", str(tmp_path / "r"), *SMALL, *toys]
    command += ["train.log_every=3", "train.epochs=500"]
    job = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "r" / "last.ckpt").is_file():
        time.sleep(0.05)
        assert job.poll() is None, job.stderr.read()
    job.send_signal(number)
    said = job.communicate(timeout=60)[1]
    assert job.returncode == 128 + number
    assert "a second signal ends it at once" in said and "with --resume goes on" in said and "Traceback" not in said
    state = read_state(tmp_path / "r" / "last.ckpt")
    assert state["step"] > 0 and (state["sums"] is None or state["step"] % 8 % 3 == 0)


def test_stopped_and_resumed_is_the_same_run_too(tmp_path, toys, whole, monkeypatch):
    step = loop.train_step

    def step_and_stop(training, *rest):
        step(training, *rest)
        if training.state.step in (4, 17):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "train_step", step_and_stop)
    for resume in (False, True):
        with pytest.raises(StoppedError, match="saved at step"):
            run(tmp_path / "parts", toys, *LIVELY, "run.save_every=300", resume=resume)
    monkeypatch.setattr(loop, "train_step", step)
    parts, _ = run(tmp_path / "parts", toys, *LIVELY, resume=True)
    assert_same(whole, parts)


def test_the_newest_intact_checkpoint_is_taken(tmp_path, toys, whole, caplog, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        kill_before(17, patched)
        run(folder, toys, *LIVELY, "run.keep=4")
    assert [path.name for path in checkpoint.list_last(folder)] == ["last.ckpt", *(f"last-{i}.ckpt" for i in (1, 2, 3))]
    steps = [read_state(path)["step"] for path in checkpoint.list_last(folder)]
    assert steps == [16, 14, 11, 8]
    (folder / "last.ckpt").write_bytes((folder / "last.ckpt").read_bytes()[:999])
    (folder / "last-1.ckpt").write_bytes(b"")
    run(folder, toys, *LIVELY, resume=True)
    told = [record.getMessage() for record in caplog.records if "the one before is taken" in record.getMessage()]
    assert len(told) == 2 and "last.ckpt" in told[0] and "last-1.ckpt" in told[1]
    assert_same(whole, folder)
    assert len(checkpoint.list_last(folder)) == 2  # by default


def test_a_full_disk_is_told_and_tried_again(tmp_path, toys, whole, monkeypatch, caplog):
    monkeypatch.setattr(checkpoint_saver, "RETRY", 0)
    write, calls = safe_write.write_bytes, []

    def full(path, content, before=lambda: None):
        calls.append(path.name)
        if 3 <= len(calls) <= 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content, before)

    monkeypatch.setattr(checkpoint_saver, "write_bytes", full)
    folder, _ = run(tmp_path / "run", toys, *LIVELY)
    told = [record.getMessage() for record in caplog.records if "not saved" in record.getMessage()]
    assert told and "No space left on device" in told[0] and "the run continues" in told[0]
    assert_same(whole, folder)


def test_a_disk_that_stays_full_ends_the_run_with_a_line(tmp_path, toys, monkeypatch):
    monkeypatch.setattr(checkpoint_saver, "RETRY", 0)

    def full(path, content, before=lambda: None):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(checkpoint_saver, "write_bytes", full)
    with pytest.raises(AgedgeError, match="not saved: .*last.ckpt.*; free disk space, then use --resume"):
        run(tmp_path / "run", toys, *LIVELY, "train.epochs=1")


@pytest.mark.parametrize("end", ["full", "killed"])
@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_ended_at_a_first_checkpoint_a_run_is_resumed(name, end, tmp_path, toys, plain, monkeypatch):
    """Whatever there is of it then: nothing, or the last without the best."""
    monkeypatch.setattr(checkpoint_saver, "RETRY", 0)
    write, folder = safe_write.write_bytes, tmp_path / "run"

    def end_at(path, content, before=lambda: None):
        if path.name != name:
            return write(path, content, before)
        raise KilledError if end == "killed" else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched, pytest.raises((AgedgeError, KilledError)):
        patched.setattr(checkpoint_saver, "write_bytes", end_at)
        run(folder, toys, *PLAIN)
    assert (folder / "last.ckpt").is_file() == (name == "best.ckpt") and not (folder / "best.ckpt").exists()
    run(folder, toys, *PLAIN, resume=True)
    assert_same(plain, folder)


def test_what_killed_processes_left_is_removed(tmp_path, toys, monkeypatch):
    memory, folder = tmp_path / "shm", tmp_path / "run"
    monkeypatch.setattr(checkpoint, "IN_MEMORY", memory)
    job = subprocess.Popen(["true"])
    job.wait()
    for place in (memory, folder / "cache"):
        place.mkdir(parents=True)
        left = safe_write.temporary_name(place / "agedge")
        dead = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{job.pid}-"))
        dead.mkdir()
        (dead / "part").write_bytes(b"x" * 1000)
    run(folder, toys, "train.epochs=1", "train.max_steps=1")
    assert not list(tmp_path.rglob("*.partial"))


def test_a_run_is_of_one_process_at_a_time(tmp_path, toys, monkeypatch):
    folder, _ = run(tmp_path / "run", toys, "train.epochs=1")
    validate = loop.validate_epoch

    def another(*arguments):
        with pytest.raises(AgedgeError, match="another process trains into it"):
            run(folder, toys, resume=True)
        return validate(*arguments)

    monkeypatch.setattr(loop, "validate_epoch", another)
    run(folder, toys, "train.epochs=2", resume=True)


def test_checkpoints_of_other_releases(tmp_path, toys, caplog, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(open_training, "pack_checkpoint", pack_version_2)
        folder, _ = run(tmp_path / "run", toys, "train.epochs=2", "optimizer.schedule=steps")
    caplog.set_level(logging.INFO)
    state = read_state(folder / "last.ckpt")
    earlier = {key: state[key] for key in ("epoch", "step", "best", "best_epoch")}
    put_state(folder / "last.ckpt", {**earlier, "optimizer": {"name": "adam", "wd": 0.0001}})
    run(folder, toys, "optimizer.schedule=steps", resume=True)
    assert "written by an earlier release" in caplog.text
    assert [row["epoch"] for row in read_log(folder / "log.csv")] == [1, 2, 3]
    put_state(folder / "last.ckpt", {**state, "version": 99})
    with pytest.raises(AgedgeError, match="last.ckpt: of version 99, of a later release"):
        run(folder, toys, resume=True)
    assert (folder / "last.ckpt").is_file()


def put_state(file, state):
    with zipfile.ZipFile(file) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w") as new:
        for name, part in {**parts, STATE: json.dumps(state)}.items():
            new.writestr(name, part)


@pytest.mark.parametrize("change", ["train.batch_size=8", "train.seed=5", "train.ema=0.5", "optimizer.wd=0.5"])
def test_another_run_is_not_gone_on_with(change, tmp_path, toys):
    run(tmp_path / "run", toys, "train.epochs=1")
    with pytest.raises(AgedgeError, match="last.ckpt: was started with"):
        run(tmp_path / "run", toys, change, resume=True)


def test_a_run_that_was_cut_goes_on(tmp_path, toys):
    same = ["optimizer.schedule=steps", "train.epochs=3"]
    whole, _ = run(tmp_path / "whole", toys, *same)
    cut, _ = run(tmp_path / "cut", toys, *same, "train.max_steps=9")
    assert read_state(cut / "last.ckpt")["step"] == 9
    run(cut, toys, *same, resume=True)
    assert [row["epoch"] for row in read_log(cut / "log.csv")] == [1, 2, 3]
    assert read_state(cut / "last.ckpt")["step"] == read_state(whole / "last.ckpt")["step"] == 24


def test_devices_that_come_later_step_as_the_first(tmp_path, toys):
    import mxnet as mx

    import symbols
    from agedge.training.recipe import load_recipe
    from agedge.training.tasks.age_gender import train

    folder, _ = run(tmp_path / "run", toys, "train.epochs=1")
    recipe = load_recipe(None, [*SMALL, *toys, f"run.dir={folder}", "train.epochs=2"])
    network = symbols.create(**recipe.network)
    train(network, recipe, [mx.cpu(0), mx.cpu(1)], resume=True, progress=False)
    for name, parameter in network.collect_params().items():
        if parameter.grad_req != "null":
            one, two = (array.asnumpy() for array in parameter.list_data())
            np.testing.assert_array_equal(one, two, err_msg=name)


def test_little_shared_memory_is_no_matter(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "IN_MEMORY", tmp_path)
    places = []

    def save(path):
        places.append(Path(path).parent.parent)
        if places[-1] == tmp_path:
            raise OSError(errno.ENOSPC, "No space left on device")
        Path(path).write_bytes(b"all of it")

    assert checkpoint.to_bytes(save) == b"all of it"
    assert len(places) == 2

    def save_nowhere(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="no room to put it together"):
        checkpoint.to_bytes(save_nowhere)


def test_events_that_cannot_be_written_do_not_hold_the_run_up(tmp_path, toys, monkeypatch, caplog):
    from tensorboardX.event_file_writer import EventsWriter

    monkeypatch.setattr(checkpoint_saver, "RETRY", 0)
    flush, calls = EventsWriter.flush, []

    def full(self):
        calls.append(1)
        if len(calls) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return flush(self)

    monkeypatch.setattr(EventsWriter, "flush", full)
    folder, _ = run(tmp_path / "run", toys, "train.epochs=2")
    assert "log.csv: not saved: No space left on device" in caplog.text
    assert [row["epoch"] for row in read_log(folder / "log.csv")] == [1, 2]
