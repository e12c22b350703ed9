"""Killed, out of disk, in shards: a pack goes on and ends with the same bytes; it is never half there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.records import check_index
from rec_tools.packing import chunks
from rec_tools.packing.options import Preparation
from rec_tools.packing.pack import CHUNK, pack, take_shard
from rec_tools.packing.split import SplitScheme
from rec_tools.readers import utkface
from rec_tools.records.transform import merge
from tests.paths import ROOT

FACES = 5 * CHUNK + 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Faces in UTKFace's layout: smooth noise, some without an age in the name."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for i in range(FACES):
        image = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (96, 96))
        name = "face" if i % 50 == 3 else f"{1 + i % 90}"
        cv2.imwrite(str(folder / f"{name}_{i % 2}_{i % 5}_201701{i:011d}.jpg.chip.jpg"), image)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()}


def command(folder, out, *words):
    words = ("--split", "train=0.7,val=0.3", "--drop", "duplicates", "--size", "48", "--workers", "2", *words)
    return [sys.executable, "-m", "rec_tools", "pack", "utkface", "--root", str(folder), "--out", str(out), *words]


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """What an undisturbed pack leaves."""
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(command(folder, out), cwd=ROOT, check=True, capture_output=True)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    return contents(out)


def children_of(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for the workers in Linux's /proc")
@pytest.mark.parametrize("chunks", [0, 1, 3, 5])
def test_killed_and_started_again_it_ends_with_the_same_bytes(folder, whole, tmp_path, chunks):
    out = tmp_path / "out"
    process = subprocess.Popen(command(folder, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while len(list(out.glob(".packing/*.chunk"))) < chunks or not out.is_dir():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.002)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = contents(out)
    assert "train.rec" not in seen or set(seen) == set(whole)  # the first part comes last of all
    left = {path.name: path.stat().st_mtime_ns for path in out.glob(".packing/*.chunk")}
    assert chunks == 0 or left or seen
    until = time.monotonic() + 10
    while any(map(is_running, workers)):  # they end with their parent
        assert time.monotonic() < until
        time.sleep(0.05)
    subprocess.run(command(folder, out), cwd=ROOT, check=True, capture_output=True)
    assert contents(out) == whole and not (out / ".packing").exists()


def test_what_was_done_is_not_done_again(folder, whole, tmp_path, monkeypatch):
    done = []

    def prepare(rows, preparation):
        done.append(rows[0].id)
        if len(done) == 4:
            raise KeyboardInterrupt
        return real(rows, preparation)

    real = chunks.prepare_all
    monkeypatch.setattr(chunks, "prepare_all", prepare)
    split, preparation = SplitScheme.parse("train=0.7,val=0.3"), Preparation(size=48)
    options = {"source": utkface.SOURCE, "terms": utkface.TERMS, "drop": ("duplicates",)}
    with pytest.raises(KeyboardInterrupt):
        pack(utkface.read(folder), tmp_path / "out", split, preparation, **options)
    assert not contents(tmp_path / "out")
    first = list(done)
    # A file that changes in the meantime is read again.
    changed = sorted(folder.iterdir())[0]
    os.utime(changed, (1, 1))
    pack(utkface.read(folder), tmp_path / "out", split, preparation, **options)
    assert set(first[:3]) & set(done[4:]) == {first[0]} and len(done) == 4 + 6 - 2
    packed = contents(tmp_path / "out")
    assert packed["train.rec"] == whole["train.rec"] and packed["val.csv"] == whole["val.csv"]


def test_only_one_pack_writes_to_a_folder(folder, tmp_path):
    busy = pytest.raises(AgedgeError, match="lock: another process is writing it")
    with chunks.working_folder(tmp_path / ".packing"), busy:
        pack(utkface.read(folder), tmp_path, SplitScheme.parse(""), Preparation(), source="", terms="")


def test_a_full_disk_is_one_line_and_leaves_nothing_under_the_final_name(folder, whole, tmp_path):
    """A limit on the size of files stands for the full disk: writing fails in the same way."""
    for limit in (20_000, 400_000):  # in a chunk; in the .rec
        out = tmp_path / f"out{limit}"
        limited = "import resource as r, runpy; r.setrlimit(r.RLIMIT_FSIZE, (%d,) * 2); "
        limited += "runpy.run_module('rec_tools', run_name='__main__')"
        words = command(folder, out, "--workers", "0")
        words[1:3] = ["-c", limited % limit]
        ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert ended.returncode == 1 and len(ended.stderr.strip().splitlines()) == 1
        assert f"{out}/.packing/" in ended.stderr and "File too large" in ended.stderr
        assert not contents(out)
        subprocess.run(command(folder, out), cwd=ROOT, check=True, capture_output=True)
        assert contents(out) == whole


def test_shards_merged_are_the_whole(folder, tmp_path):
    about = {"source": utkface.SOURCE, "terms": utkface.TERMS}
    pack(utkface.read(folder), tmp_path / "whole", SplitScheme.parse(""), Preparation(size=48), **about)
    for index in range(3):
        rows = take_shard(lambda: utkface.read(folder), index, 3)
        pack(rows, tmp_path / "shards", SplitScheme.parse(""), Preparation(size=48), suffix=f"-{index}of3", **about)
    merged = tmp_path / "merged/all.rec"
    merge([tmp_path / f"shards/all-{index}of3.rec" for index in range(3)], merged)
    check_index(merged)
    for ext in (".rec", ".idx", ".csv"):
        assert merged.with_suffix(ext).read_bytes() == (tmp_path / "whole/all").with_suffix(ext).read_bytes()
    counted = [len((tmp_path / f"shards/dropped-{index}of3.csv").read_text().splitlines()) - 1 for index in range(3)]
    assert sum(counted) == len((tmp_path / "whole/dropped.csv").read_text().splitlines()) - 1 > 0


def test_an_earlier_pack_is_replaced_only_by_a_finished_one(folder, tmp_path):
    about = {"source": "", "terms": ""}
    pack(utkface.read(folder), tmp_path, SplitScheme.parse(""), Preparation(size=16), **about)
    before = contents(tmp_path)

    def broken():
        yield from list(utkface.read(folder))[:300]
        raise AgedgeError("the list: damaged")

    with pytest.raises(AgedgeError, match="damaged"):
        pack(broken(), tmp_path, SplitScheme.parse(""), Preparation(size=24), **about)
    assert contents(tmp_path) == before
    pack(utkface.read(folder), tmp_path, SplitScheme.parse(""), Preparation(size=24), **about)
    assert contents(tmp_path)["all.rec"] != before["all.rec"]


def test_a_pack_replaces_an_earlier_one_as_a_whole_and_names_what_is_of_another(folder, tmp_path, caplog):
    about = {"source": "", "terms": ""}

    def records():
        return sorted(path.name for path in tmp_path.glob("*.rec"))

    for split in (SplitScheme.parse(folds="5"), SplitScheme.parse(""), SplitScheme.parse(folds="3")):
        pack(utkface.read(folder), tmp_path, split, Preparation(size=16), **about)
    assert records() == ["all.rec", "fold0.rec", "fold1.rec", "fold2.rec"]  # all.rec is of no pack with folds
    assert not list(tmp_path.glob("fold4.*")) and "also holds all.rec, of another pack" in caplog.text
    pack(utkface.read(folder), tmp_path, SplitScheme.parse("fold0=0.5,test=0.5"), Preparation(size=16), **about)
    assert records() == ["all.rec", "fold0.rec", "test.rec"]


def test_a_chunk_that_lost_its_end_is_made_again(folder, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    process = subprocess.Popen(command(folder, out, "--workers", "1"), cwd=ROOT, stdout=subprocess.DEVNULL)
    while len(chunks := sorted(out.glob(".packing/*.chunk"))) < 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for chunk, length in zip(chunks, (0, 50, -500)):
        chunk.write_bytes(chunk.read_bytes()[:length])
    subprocess.run(command(folder, out), cwd=ROOT, check=True, capture_output=True)
    assert contents(out) == whole


def test_workers_that_are_killed_cost_nothing(folder, tmp_path):
    """Whenever it dies: also before the first rows are handed out."""

    def rows():
        for number, row in enumerate(utkface.read(folder)):
            if number == 2 * CHUNK:
                wait_for_children_and_kill()
            yield row

    def wait_for_children_and_kill():
        until = time.monotonic() + 20
        while not (pids := [pid for pid in children_of(os.getpid()) if is_worker(pid)]) and time.monotonic() < until:
            time.sleep(0.01)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)

    def is_worker(pid):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()

    options = {"source": "", "terms": ""}
    pack(rows(), tmp_path / "out", SplitScheme.parse(""), Preparation(size=48), workers=2, **options)
    pack(utkface.read(folder), tmp_path / "other", SplitScheme.parse(""), Preparation(size=48), **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "other")
