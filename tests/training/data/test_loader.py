"""The loader of training faces: the same bits however often the run was stopped, and a thread that always ends."""

import gc
import signal
import threading
import time

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.labels import exact
from agedge.records import RecordWriter, encode
from agedge.training.data.dataset import open_dataset
from agedge.training.data.loader import PREFETCH, FaceLoader
from agedge.training.data.sampling import draw_order
from agedge.training.recipe import AugmentSection

COUNT, BATCH = 42, 8
AUGMENT = AugmentSection(mirror=0.5, rotate=20, noise=0.1, blur=0.3, jpeg=0.3, cutout=0.3)
ORDER = draw_order(COUNT, BATCH, 5, 2)


@pytest.fixture(scope="module")
def rec(tmp_path_factory):
    chance, path = np.random.default_rng(0), tmp_path_factory.mktemp("loader") / "a.rec"
    with RecordWriter(path) as writer:
        for i in range(COUNT):
            image = cv2.resize(chance.integers(0, 256, (5, 5, 3), np.uint8), (24, 24))
            writer.write(exact(i % 2, i), encode(image))
    return path


@pytest.fixture(scope="module")
def faces(rec):
    return open_dataset([rec], 24, cache="memory")


def read(faces, augment=AUGMENT, **options):
    with FaceLoader(faces, ORDER, BATCH, augment, 5, 2, **options) as loader:
        return list(loader)


def same(some, others):
    assert len(some) == len(others)
    return all((a == b).all() for one, other in zip(some, others) for a, b in zip(one, other))


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "training faces"]


def test_an_epoch_is_every_face_with_its_label(faces):
    batches = read(faces, AugmentSection())
    index = np.concatenate([batch.index for batch in batches])
    assert (index == ORDER).all() and set(index) == set(range(COUNT))
    for batch in batches:
        assert batch.data.shape == (BATCH, 3, 24, 24) and batch.data.dtype == np.float32
        assert (batch.labels == faces.labels[batch.index]).all() and batch.labels[0, 1] == batch.index[0]
        pool, rows = faces.load(batch.index)
        assert (batch.data == pool[rows][..., 2::-1].transpose(0, 3, 1, 2)).all()


def test_a_loader_that_starts_later_gives_the_same_bits(faces):
    whole = read(faces)
    for first in (1, 4, 5, 6):
        assert same(read(faces, first=first), whole[first:])
    assert len({batch.data.tobytes() for batch in whole}) == 6
    assert len({batch.mirrored.tobytes() for batch in whole}) >= 4, "each batch draws its own transforms"


def test_the_disk_gives_the_same_bits(faces, rec):
    assert same(read(open_dataset([rec], 24, cache="disk", threads=2)), read(faces))


def test_seed_and_epoch_change_the_transforms(faces):
    first = next(FaceLoader(faces, ORDER, BATCH, AUGMENT, 5, 2))
    for seed, epoch in ((5, 3), (6, 2), (2, 5)):
        other = next(FaceLoader(faces, ORDER, BATCH, AUGMENT, seed, epoch))
        assert (other.index == first.index).all() and (other.data != first.data).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("parts", [2, 3])
def test_workers_have_the_parts_of_the_batch_of_one(faces, parts):
    shares = [read(faces, part=(i, parts)) for i in range(parts)]
    joined = [[np.concatenate(arrays) for arrays in zip(*batches)] for batches in zip(*shares)]
    assert same(joined, read(faces))


class Slow:
    """A dataset that counts how often faces are loaded, takes its time, and may fail."""

    def __init__(self, faces, error_at=None, pause=0.0):
        self.size, self.labels, self.loaded, self.pause = faces.size, faces.labels, 0, pause
        self.faces, self.error_at = faces, error_at

    def load(self, rows):
        self.loaded += 1
        if self.loaded == self.error_at:
            raise AgedgeError("a.rec record 7: not an image")
        time.sleep(self.pause)
        return self.faces.load(rows)


def test_few_batches_are_made_ahead(faces):
    slow = Slow(faces)
    with FaceLoader(slow, ORDER, BATCH, AUGMENT, 5, 2) as loader:
        time.sleep(0.2)
        assert slow.loaded == PREFETCH
        next(loader)
        time.sleep(0.2)
        assert slow.loaded == PREFETCH + 1


def test_an_error_is_raised_in_place_of_its_batch(faces):
    with FaceLoader(Slow(faces, error_at=3), ORDER, BATCH, AUGMENT, 5, 2) as loader:
        assert same([next(loader), next(loader)], read(faces)[:2])
        with pytest.raises(AgedgeError, match="a.rec record 7"):
            next(loader)
        with pytest.raises(StopIteration):
            next(loader)


def test_waiting_is_counted(faces):
    with FaceLoader(Slow(faces, pause=0.05), ORDER, BATCH, AUGMENT, 5, 2) as loader:
        list(loader)
        assert 0.2 < loader.waited < 3
    with FaceLoader(faces, ORDER, BATCH, AUGMENT, 5, 2) as loader:
        for _ in loader:
            time.sleep(0.03)
        assert loader.waited < 0.1


def test_the_thread_ends_however_the_loader_is_left(faces):
    def leave_by_break():
        with FaceLoader(faces, ORDER, BATCH, AUGMENT, 5, 2) as loader:
            for _ in loader:
                break

    def leave_by_interrupt():
        with pytest.raises(KeyboardInterrupt), FaceLoader(faces, ORDER, BATCH, AUGMENT, 5, 2) as loader:
            next(loader)
            raise KeyboardInterrupt

    def forget():
        next(FaceLoader(faces, ORDER, BATCH, AUGMENT, 5, 2))

    def close_twice_and_read():
        loader = FaceLoader(faces, ORDER, BATCH, AUGMENT, 5, 2)
        loader.close()
        loader.close()
        assert list(loader) == []

    def read_to_the_end():
        assert len(list(FaceLoader(faces, ORDER, BATCH, AUGMENT, 5, 2))) == 6

    for leave in (leave_by_break, leave_by_interrupt, forget, close_twice_and_read, read_to_the_end):
        leave()
        gc.collect()
        ends = time.time() + 5
        while loader_threads() and time.time() < ends:
            time.sleep(0.01)
        assert not loader_threads(), leave.__name__


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals on this system")
def test_an_interrupt_while_waiting_does_not_hang(faces):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with (
            pytest.raises(KeyboardInterrupt),
            FaceLoader(Slow(faces, pause=0.4), ORDER, BATCH, AUGMENT, 5, 2) as loader,
        ):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            next(loader)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not loader_threads()


def test_batches_are_not_written_over(faces):
    batches = read(faces)
    assert len({batch.data.ctypes.data for batch in batches}) == len(batches)
