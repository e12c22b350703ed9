"""Images that end the process that decodes them are dropped, and the pack goes on to the bytes that it has without."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge import safe_write
from agedge.labels import exact
from rec_tools.packing import pack as pack_module
from rec_tools.packing.options import Preparation
from rec_tools.packing.pack import ENDS_DECODER, pack
from rec_tools.packing.split import SplitScheme
from rec_tools.worker_pool import WorkerPool
from tests.rec_tools.packing.deadly_rows import CRASHES, HANGS, KILLS, KILLS_ONCE, DeadlyRow

CHUNK = 8


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(pack_module, "CHUNK", CHUNK)


def rows(endings: dict, count=3 * CHUNK):
    rng = np.random.default_rng(0)
    for number in range(count):
        image = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (64, 64))
        jpeg = cv2.imencode(".jpg", image)[1].tobytes() + endings.get(number, b"")
        yield DeadlyRow(f"{number}.jpg", jpeg, exact(number % 2, float(20 + number)))


def run(out: Path, rows, workers, **options):
    preparation = Preparation(size=48, **options)
    return pack(rows, out, SplitScheme.parse("train=0.5,val=0.5"), preparation, source="", terms="", workers=workers)


def packed(out: Path) -> dict:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".rec", ".idx", ".csv")}


def dropped(out: Path) -> dict:
    with open(out / "dropped.csv", newline="") as file:
        return {row["id"]: (row["reason"], row["detail"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_ends_its_worker_costs_itself_only(tmp_path, workers):
    deadly = {2: KILLS, 5: CRASHES, 3 * CHUNK - 1: KILLS}
    report = run(tmp_path / "deadly", rows(deadly), workers)
    assert report.reasons == {ENDS_DECODER: 3}
    assert dropped(tmp_path / "deadly") == {
        "2.jpg": (ENDS_DECODER, "ended by SIGKILL"),
        "5.jpg": (ENDS_DECODER, "ended by SIGSEGV"),
        "23.jpg": (ENDS_DECODER, "ended by SIGKILL"),
    }
    run(tmp_path / "without", (row for number, row in enumerate(rows({})) if number not in deadly), 0)
    one, other = packed(tmp_path / "deadly"), packed(tmp_path / "without")
    assert one.pop("dropped.csv") != other.pop("dropped.csv") and one == other
    assert not (tmp_path / "deadly/.packing").exists()


def test_a_worker_that_is_killed_once_costs_nothing(tmp_path):
    mark = tmp_path / "mark"
    report = run(tmp_path / "out", rows({3: KILLS_ONCE + str(mark).encode()}), 1)
    assert mark.exists() and not report.reasons and sum(report.packed.values()) == 3 * CHUNK


def test_an_image_that_hangs_is_dropped(tmp_path):
    report = run(tmp_path / "out", rows({1: HANGS}, 3), 1)
    assert report.reasons == {ENDS_DECODER: 1} and sum(report.packed.values()) == 2
    assert dropped(tmp_path / "out") == {"1.jpg": (ENDS_DECODER, "no answer within 6 seconds")}


def test_images_that_end_a_worker_only_together_are_packed(tmp_path, monkeypatch):
    """As two damaged images do, of which the first breaks the decoder for the second."""
    real = WorkerPool.wait

    def wait(self, task):
        if task.function in (pack_module.prepare_chunk, pack_module.prepare_file):
            raise pack_module.WorkerDeathError("ended by SIGSEGV")
        return real(self, task)

    monkeypatch.setattr(WorkerPool, "wait", wait)
    report = run(tmp_path / "out", rows({}, CHUNK), 1)
    assert not report.reasons and sum(report.packed.values()) == CHUNK


def test_a_full_disk_names_the_file_that_did_not_fit(tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, _):
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    def open_full(path):
        file = real(path)
        return Full(file) if path.name.endswith(".rec.partial") else file

    real = safe_write.open_locked
    monkeypatch.setattr(safe_write, "open_locked", open_full)
    with pytest.raises(OSError) as full:
        run(tmp_path / "out", rows({}, 2), 0)
    assert Path(full.value.filename).suffix == ".rec"


def work(number: int) -> int:
    if number == 13:
        raise ValueError("thirteen")
    return number**2


def test_a_pool_gives_results_in_order_and_raises_what_its_tasks_raise():
    with WorkerPool(2) as pool:
        assert [pool.wait(task) for task in pool.submit_ahead(work, ((n,) for n in range(12)))] == [
            n**2 for n in range(12)
        ]
        with pytest.raises(ValueError, match="thirteen"):
            pool.run(work, 13)
        assert pool.run(work, 3) == 9
