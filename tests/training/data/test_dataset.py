"""The dataset: the same faces in memory and from the disk, decoded as in evaluation; errors name the file."""

import cv2
import numpy as np
import pytest

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.batches import evaluation_batches
from agedge.labels import Label, exact
from agedge.records import RecordWriter, encode
from agedge.training.data import dataset as module
from agedge.training.data.available_memory import available_memory
from agedge.training.data.dataset import open_dataset

RNG = np.random.default_rng(0)


def write(path, sizes, crop="utkface", contents=()):
    """Faces of different sizes; the age of each is its number. `contents`: {number: other bytes than an image}."""
    with RecordWriter(path) as writer:
        for i, shape in enumerate(sizes):
            small = RNG.integers(0, 256, (6, 6, 3), np.uint8)
            writer.write(exact(i % 2, i), dict(contents).get(i, encode(cv2.resize(small, shape[::-1]))))
        writer.info = {"crop": Crop.named(crop, 32).to_json()}
    return path


@pytest.fixture
def two_files(tmp_path):
    first = write(tmp_path / "a.rec", [(32, 32), (48, 32), (100, 90), (32, 32)], contents={3: b"no image"})
    return [first, write(tmp_path / "b.rec", [(20, 31)] * 3, contents={0: b""})]


def pixels(faces):
    pool, rows = faces.load(np.arange(faces.count))
    return pool[rows][..., :3]


@pytest.mark.parametrize("cache, threads", [("memory", 1), ("disk", 1), ("disk", 3)])
def test_faces_are_those_that_evaluation_sees(two_files, cache, threads, caplog):
    faces = open_dataset(two_files, 32, cache=cache, threads=threads)
    wanted = [batch for path in two_files for batch in evaluation_batches(path, 32)]
    assert faces.cache == cache and faces.count == 5
    assert (pixels(faces) == np.concatenate([batch.images for batch in wanted])).all()
    assert (faces.labels == np.concatenate([batch.labels for batch in wanted])).all()
    assert [faces.describe_record(i) for i in (0, 2, 3)] == [f"{two_files[0]} record {k}" for k in (0, 2)] + [
        f"{two_files[1]} record 1"
    ]
    assert "a.rec: 1 records are not images and are left out: 3" in caplog.text
    assert "b.rec: 1 records are not images and are left out: 0" in caplog.text


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_any_faces_in_any_order(two_files, cache):
    faces = open_dataset(two_files, 32, cache=cache)
    rows = np.array([4, 0, 0, 2])
    pool, places = faces.load(rows)
    assert (
        pool.dtype == np.uint8 and pool.flags["C_CONTIGUOUS"] and (pool[places][..., :3] == pixels(faces)[rows]).all()
    )


def test_a_record_comes_as_it_is_in_its_file(tmp_path):
    jpegs = [encode(RNG.integers(0, 256, (20, 20 + i, 3), np.uint8)) for i in range(5)]
    with RecordWriter(tmp_path / "a.rec") as writer:
        for i, jpeg in enumerate(jpegs):
            writer.write(Label(1, i, i + 9), jpeg)
    faces = open_dataset([tmp_path / "a.rec"], 16)
    for i in (3, 0, 4):
        label, jpeg = faces.read_record(i)
        assert jpeg == jpegs[i] and label.tolist() == [1, i, i + 9]


def test_checksums_identify_faces(two_files, tmp_path):
    faces = open_dataset(two_files, 32, cache="disk")
    again = open_dataset(two_files[::-1], 16)
    assert len(set(faces.checksums)) == 5 and set(faces.checksums) == set(again.checksums)
    assert faces.checksums.dtype == np.uint64
    other = open_dataset([write(tmp_path / "c.rec", [(32, 32)])], 32)
    assert not set(other.checksums) & set(faces.checksums)


def test_auto_is_memory_where_half_of_it_suffices(two_files, monkeypatch, caplog):
    caplog.set_level("INFO")
    need = 7 * 32 * 32 * 4  # the indices promise seven
    for free, cache in ((2 * need, "memory"), (2 * need - 1, "disk"), (None, "disk")):
        monkeypatch.setattr(module, "available_memory", lambda free=free: free)
        assert open_dataset(two_files, 32).cache == cache
    monkeypatch.setattr(module, "available_memory", lambda: need - 1)
    with pytest.raises(AgedgeError, match="data.cache=memory: 7 faces take 0 MB, more than is available"):
        open_dataset(two_files, 32, cache="memory")
    assert "5 faces in memory: 0 MB" in caplog.text and "5 faces on disk, decoded by 1 thread at" in caplog.text


def test_damaged_files_are_named(tmp_path, two_files, caplog):
    with pytest.raises(AgedgeError, match="a.rec: contains no readable image"):
        open_dataset([write(tmp_path / "a.rec", [(9, 9)], contents={0: b"x"})], 32)
    with pytest.raises(AgedgeError, match=r"a\.idx: not the index of a\.rec: 2 entries for 1 records"):
        (tmp_path / "a.idx").write_text("0\t0\n1\t88\n")
        open_dataset([tmp_path / "a.rec"], 32)
    write(tmp_path / "a.rec", [(9, 9)] * 3)
    with pytest.raises(AgedgeError, match=r"a\.idx: not the index of a\.rec: 1 entries for 3 records"):
        (tmp_path / "a.idx").write_text("0\t0\n")
        open_dataset([tmp_path / "a.rec"], 32)
    path = write(tmp_path / "c.rec", [(9, 9)] * 3)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(AgedgeError, match=r"c\.rec: truncated in record 2"):
        open_dataset([path], 32)
    with pytest.raises(AgedgeError, match=r"none\.idx: missing"):
        open_dataset([tmp_path / "none.rec"], 32)
    with pytest.raises(UsageError, match="data.cache: unknown 'ram'; choose one of auto, memory, disk"):
        open_dataset(two_files, 32, cache="ram")
    open_dataset([two_files[1], write(tmp_path / "d.rec", [(32, 32)], crop="arcface")], 32)
    assert "d.rec: its faces have a different crop from those of" in caplog.text


def test_a_file_that_changes_under_a_run_is_named(tmp_path):
    path = write(tmp_path / "a.rec", [(32, 32)] * 2)
    faces = open_dataset([path], 32, cache="disk")
    path.write_bytes(write(tmp_path / "b.rec", [(40, 40)] * 2).read_bytes())
    with pytest.raises(AgedgeError, match=r"a\.rec record 1: "):
        faces.load(np.array([1]))
    path.write_bytes(b"")
    with pytest.raises(AgedgeError, match=r"a\.rec record 0: can no longer be read: truncated"):
        faces.load(np.array([0]))


def test_labels_of_older_tools(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write_labels(np.array([33, 1]), encode(np.zeros((9, 9, 3), np.uint8)))
        writer.info = {"labels": "age,gender"}
    assert open_dataset([tmp_path / "a.rec"], 9).labels.tolist() == [[1, 33, 33]]
    (tmp_path / "a.json").unlink()
    assert open_dataset([tmp_path / "a.rec"], 9, labels="gender,age").labels.tolist() == [[-1, 1, 1]]
    with pytest.raises(AgedgeError, match="pass --labels"):
        open_dataset([tmp_path / "a.rec"], 9)


MACHINE = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n"}
GROUP = "sys/fs/cgroup"
OF_GROUPS = [
    ({}, 8000 * 1024),
    ({f"{GROUP}/memory.max": "5000000\n", f"{GROUP}/memory.current": "2000000"}, 3000000),
    (
        {
            "proc/self/cgroup": "0::/job/step\n",
            f"{GROUP}/job/memory.max": "1000000",
            f"{GROUP}/job/memory.current": "900000",
            f"{GROUP}/job/memory.stat": "anon 5\ninactive_file 250000\n",
            f"{GROUP}/job/step/memory.max": "max",
            f"{GROUP}/job/step/memory.current": "7",
        },
        350000,
    ),
    (
        {
            "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n",
            f"{GROUP}/memory/memory.limit_in_bytes": "9223372036854771712",
            f"{GROUP}/memory/memory.usage_in_bytes": "900000",
            f"{GROUP}/memory/job/memory.limit_in_bytes": "500000",
            f"{GROUP}/memory/job/memory.usage_in_bytes": "100000",
        },
        400000,
    ),
    # in a container its own group is the top one, whatever its name outside is
    (
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n",
            f"{GROUP}/memory/memory.limit_in_bytes": "600000",
            f"{GROUP}/memory/memory.usage_in_bytes": "700000",
        },
        0,
    ),
]


@pytest.mark.parametrize("files, free", OF_GROUPS)
def test_available_memory_is_the_least_that_anything_allows(tmp_path, files, free):
    for name, text in {**MACHINE, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == free


def test_available_memory_is_none_on_other_systems(tmp_path):
    assert available_memory(tmp_path) is None
