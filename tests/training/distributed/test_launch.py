"""A run on several workers: the launcher ends with its processes and they with it; two workers learn what one does."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from agedge.errors import UsageError
from agedge.training.distributed.launch import free_ports, launch, share_gpus
from tests.paths import ROOT
from tests.training.toy_runs import SMALL, write_toys

# How a run's processes look from outside, without MXNet, which takes seconds to start.
PRETENDED = """
import os, signal, sys, time
mode, folder = sys.argv[-2:]
role, rank = os.environ["DMLC_ROLE"], os.environ.get("DMLC_TASK_ID", "")
open(f"{folder}/{role}{rank}", "w").write(str(os.getpid()))
stopped = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *got: stopped.append(got[0]))
if role != "worker":
    if mode == "no-server" and role == "server":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1 if mode == "done" else 60)
    sys.exit()
while len(os.listdir(folder)) < 4:
    time.sleep(0.02)
print("worker", rank, *sys.argv[1:-2], os.environ["OMP_NUM_THREADS"], flush=True)
if mode == "fails" and rank == "1":
    print("error: worker 1 knows why", file=sys.stderr)
    sys.exit(3)
if mode == "all-fail":
    print("error: no such file", file=sys.stderr)
    sys.exit(2)
if mode == "killed" and rank == "1":
    os.kill(os.getpid(), signal.SIGKILL)
if mode != "done":
    end = time.time() + 60
    while time.time() < end and (mode == "deaf" or not stopped):
        time.sleep(0.02)
    print("saved after", len(stopped), "signal", signal.Signals(stopped[0]).name, flush=True)
    sys.exit(130)
"""

LAUNCHER = """
import logging, sys
from agedge.training.distributed.launch import launch
logging.basicConfig(level=logging.INFO, format="%(message)s")
sys.exit(launch([sys.executable, sys.argv[1]], sys.argv[2:], 2))
"""


class Launched:
    def __init__(self, script, *arguments, folder):
        self.folder = folder
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(script), *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self, count=4):
        """Of its processes, once all are there."""
        end = time.time() + 20
        while time.time() < end:
            found = [path.read_text() for path in self.folder.iterdir()]
            if len(found) == count and all(found):
                return list(map(int, found))
            time.sleep(0.02)
        raise AssertionError(f"only {found} were started")

    def end(self, seconds=30):
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


@pytest.fixture
def pretend(tmp_path):
    script, folder = tmp_path / "process.py", tmp_path / "pids"
    script.write_text(PRETENDED)
    folder.mkdir()
    begun = []

    def begin(mode):
        begun.append(Launched(script, mode, folder, folder=folder))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.communicate()
        assert_all_gone(one.folder)


def assert_all_gone(folder, seconds=5):
    pids = [int(path.read_text()) for path in folder.iterdir()]
    end = time.time() + seconds
    while time.time() < end and any(is_running(pid) for pid in pids):
        time.sleep(0.05)
    assert not [pid for pid in pids if is_running(pid)]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_first_worker_is_heard_and_cores_are_shared(pretend):
    status, out, err = pretend("done").end()
    cores = len(os.sched_getaffinity(0))
    assert (status, err) == (0, "")
    assert out.splitlines() == [f"worker 0 --kvstore dist_sync {max(1, cores // 2)}"]


def test_a_worker_that_fails_ends_all_and_is_told(pretend):
    status, _, err = pretend("fails").end()
    assert status == 3
    assert "worker 1: error: worker 1 knows why\n" in err
    assert err.splitlines()[-1] == (
        "error: worker 1 ended with exit status 3: the others are ended too; "
        "--resume continues from the last checkpoint"
    )


def test_what_all_say_is_heard_once(pretend):
    status, _, err = pretend("all-fail").end()
    assert status == 2 and err == "error: no such file\n"


@pytest.mark.parametrize("mode, who", [("killed", "worker 1"), ("no-server", "server 0")])
def test_a_process_that_is_killed_ends_all_and_is_told(pretend, mode, who):
    status, _, err = pretend(mode).end()
    assert status == 1 and len(err.splitlines()) <= 2
    assert f"error: {who} was ended by SIGKILL: " in err and "--resume" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_workers_once_and_they_are_waited_for(pretend, number):
    run = pretend("waits")
    run.pids()
    run.process.send_signal(number)
    status, out, err = run.end()
    assert status == 130 and f"saved after 1 signal {number.name}" in out
    assert err == "stopping the workers; a second signal ends them at once\n"


def test_a_second_signal_ends_those_that_do_not_listen(pretend):
    run = pretend("deaf")
    run.pids()
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    status, _, err = run.end()
    assert status == 130 and "a second SIGINT" in err


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_nothing_outlives_a_launcher_that_is_killed(pretend):
    run = pretend("deaf")
    assert all(is_running(pid) for pid in run.pids())
    run.process.kill()
    assert_all_gone(run.folder)


def test_wrong_numbers_are_told():
    with pytest.raises(UsageError, match="--launch 0: must be at least 1 worker"):
        launch([], [], 0)
    with pytest.raises(UsageError, match="--kvstore local is for one process"):
        launch([], [], 2, "local")
    with pytest.raises(UsageError, match="--gpus 0,1,2: 3 GPUs cannot be divided equally among 2 workers"):
        share_gpus("0,1,2", 2)
    assert share_gpus("0,1,2,3", 2) == ["0,1", "2,3"] and share_gpus("", 2) == ["", ""]
    assert len(set(free_ports(5))) == 5


# Two workers with MXNet. Each has a half of the faces; no BatchNorm, so that all is the same as in one process.
WORKER = """
import sys
import numpy as np
from agedge.training.distributed.kvstore import ending_with_others, open_kvstore
from agedge.training.distributed.roles import serve_unless_worker

def main():
    serve_unless_worker("dist_sync")
    import mxnet as mx
    sys.path.insert(0, sys.argv[-2])
    from learn import learn
    store = open_kvstore("dist_sync", [mx.cpu()], "a run")
    weights = learn(store)
    numbers = store.sum_small(np.array([1e9 + store.rank, 0.1 * store.rank, np.inf]))
    mean = mx.nd.array([1.0 + 2 * store.rank])
    store.mean([[mean]])
    store.barrier()
    np.savez(f"{sys.argv[-1]}/{store.rank}.npz", *weights, numbers=numbers, mean=mean.asnumpy(), rank=store.rank)
    store.close()

with ending_with_others():
    main()
"""

LEARN = """
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

def learn(store, steps=5):
    '''Weights after some steps on every worker's share of the same faces.'''
    mx.random.seed(7 + store.rank)  # so that all depends on what the first tells the others
    network = gluon.nn.HybridSequential(prefix="")
    network.add(gluon.nn.Conv2D(8, 3, activation="relu"), gluon.nn.Conv2D(8, 3, strides=2), gluon.nn.Dense(1))
    network.initialize(mx.init.Xavier())
    network(mx.nd.zeros((1, 3, 12, 12)))
    network.hybridize()
    parameters = network.collect_params()
    store.broadcast([parameter.list_data() for parameter in parameters.values()])
    trainer = gluon.Trainer(parameters, "adam", {"learning_rate": 0.01}, kvstore=None)
    rng = np.random.default_rng(3)
    for _ in range(steps):
        faces, ages = rng.normal(size=(16, 3, 12, 12)), rng.normal(size=(16, 1))
        share = slice(store.rank * 16 // store.workers, (store.rank + 1) * 16 // store.workers)
        with autograd.record():
            loss = (network(mx.nd.array(faces[share])) - mx.nd.array(ages[share])) ** 2
        loss.backward()
        store.sum_gradients([parameter.list_grad() for parameter in parameters.values()])
        trainer.update(16)
    return [parameter.data().asnumpy() for parameter in parameters.values()]
"""


def test_two_workers_learn_what_one_does(tmp_path, monkeypatch):
    import mxnet as mx

    from agedge.training.distributed.kvstore import open_kvstore

    (tmp_path / "learn.py").write_text(LEARN)
    (tmp_path / "worker.py").write_text(WORKER)
    run = Launched(tmp_path / "worker.py", tmp_path, tmp_path, folder=tmp_path)
    assert run.end(60) == (0, "", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    from learn import learn

    alone = learn(open_kvstore("device", [mx.cpu()]))
    two = [np.load(tmp_path / f"{rank}.npz") for rank in (0, 1)]
    for number, weights in enumerate(alone):
        first, second = (one[f"arr_{number}"] for one in two)
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, weights, atol=1e-5)
    for one in two:
        assert one["numbers"].tolist() == [2e9 + 1, 0.1, np.inf] and one["mean"].tolist() == [2]


def train(*words, seconds=120, **more):
    command = [sys.executable, "train.py", "--quiet", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, **more)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return [f"data.{part}={write_toys(folder / f'{part}.rec', n, n)}" for part, n in (("train", 192), ("val", 37))]


def read_losses(folder):
    with open(folder / "log.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_workers_of_train_py_come_to_the_loss_of_one_with_the_doubled_batch(tmp_path, toys):
    # The faces of a step are the same, and changed in the same way; but BatchNorm sees half of them at a time.
    same = [*SMALL, *toys, "train.epochs=6", "optimizer.lr=0.001"]
    done = train("--launch", 2, *same, "train.batch_size=24", f"run.dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model: ") == 1
    done = train(*same, "train.batch_size=48", f"run.dir={tmp_path / 'one'}")
    assert done.returncode == 0, done.stderr
    two, one = read_losses(tmp_path / "two"), read_losses(tmp_path / "one")
    assert one[-1] < 0.9 * one[0]
    np.testing.assert_allclose(two, one, rtol=0.1)


@pytest.mark.slow
def test_a_worker_that_dies_is_told_without_a_launcher_and_the_run_goes_on(tmp_path, toys):
    (port,) = free_ports(1)
    shared = {
        **os.environ,
        **dict(DMLC_PS_ROOT_URI="127.0.0.1", DMLC_PS_ROOT_PORT=str(port), DMLC_NODE_HOST="127.0.0.1"),
        **dict(DMLC_NUM_WORKER="2", DMLC_NUM_SERVER="1", PS_HEARTBEAT_INTERVAL="1", PS_HEARTBEAT_TIMEOUT="4"),
    }
    folder = tmp_path / "run"
    words = [*SMALL, *toys, "train.epochs=1000", "train.batch_size=24", "--kvstore", "dist_sync", f"run.dir={folder}"]
    command = [sys.executable, "train.py", "--quiet", *words]
    begun = [
        subprocess.Popen(
            command, cwd=ROOT, env={**shared, "DMLC_ROLE": role}, stdout=-1, stderr=subprocess.PIPE, text=True
        )
        for role in ("scheduler", "server", "worker", "worker")
    ]
    try:
        end = time.time() + 60
        while not (folder / "last.ckpt").exists() and time.time() < end:
            time.sleep(0.1)
        begun[3].kill()
        said = [one.communicate(timeout=40) for one in begun]
    finally:
        for one in begun:
            one.kill()
    assert [one.returncode for one in begun] == [1, 1, 1, -signal.SIGKILL]
    assert "error: scheduler: worker " in said[0][1] and "no heartbeat for 4 s" in said[0][1]
    assert said[0][0] == said[1][0] == ""
    assert "is gone; the same command with --resume continues" in said[2][1]
    done = train("--launch", 2, "--resume", *words[:-3], words[-1], "train.max_steps=200")
    assert done.returncode == 0, done.stderr


def test_missing_variables_and_a_missing_scheduler_are_told(toys):
    done = train("--kvstore", "dist_sync", *toys, env={k: v for k, v in os.environ.items() if "DMLC" not in k})
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "DMLC_ROLE, DMLC_PS_ROOT_URI, DMLC_PS_ROOT_PORT, DMLC_NUM_WORKER, DMLC_NUM_SERVER not set" in done.stderr


def test_a_scheduler_says_that_its_port_is_taken_and_waits_for_a_second_signal():
    (port,) = free_ports(1)
    words = dict(DMLC_PS_ROOT_URI="127.0.0.1", DMLC_PS_ROOT_PORT=str(port), DMLC_NUM_WORKER="1", DMLC_NUM_SERVER="1")
    environment = {**os.environ, **words, "DMLC_ROLE": "scheduler"}
    command = [sys.executable, "train.py", "--kvstore", "dist_sync"]
    one = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        end = time.time() + 30
        while not is_listening(port) and time.time() < end:
            time.sleep(0.1)
        other = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
        assert (other.returncode, other.stdout, len(other.stderr.splitlines())) == (1, "", 1)
        assert f"error: scheduler: cannot listen at 127.0.0.1:{port}: the port is taken" in other.stderr
        one.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            one.wait(0.5)
        one.terminate()
        assert one.wait(10) == 1 and "a second signal" in one.stderr.read()
    finally:
        one.kill()
        one.communicate()


def is_listening(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
