"""Batches of scenes with what every anchor is to say of them, made by worker processes while the network trains."""

import collections
import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.annotations import Photo
from agedge.faces.essh.anchors import STRIDES, assign_targets, lay_anchors
from agedge.sources import list_images
from agedge.training.scenes.compose import Composer
from agedge.training.scenes.crop import crop_photograph
from agedge.training.scenes.pictures import TRIES, Pictures
from agedge.workers import start_worker

HELD_OUT = 10  # every so many-th background is for measuring alone
AHEAD = 3  # batches a worker may be ahead


class Batch(NamedTuple):
    """`images` (n, 3, size, size) RGB uint8; for each of the A anchors `faces` (n, A), `boxes` (n, A, 4) and
    `landmarks` (n, A, 10), as `agedge.faces.essh.anchors.assign_targets` gives them."""

    images: np.ndarray
    faces: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray


@dataclass
class Scenes:
    """What scenes are made of: `cutouts`, sets of pictures of faces, to paste over files of `backgrounds`;
    `photographs`, whole ones with all their faces, of which a scene is a piece. `composed`: the share of scenes that
    are composed."""

    cutouts: Sequence[Sequence[Photo]]
    backgrounds: Sequence
    photographs: Sequence[Photo]
    size: int
    composed: float

    def __post_init__(self):
        self.composer = Composer(self.cutouts, self.backgrounds, self.size) if len(self.cutouts) else None
        self.pictures = Pictures()

    def make(self, chance: np.random.Generator) -> tuple:
        """One scene: image (size, size, 3) BGR uint8, boxes (n, 4), landmarks (n, 5, 2), ignored (n,), and what covers
        each of the faces, (n,) words. Raises `AgedgeError` where no picture can be read."""
        if self.composer is not None and not (len(self.photographs) and chance.random() >= self.composed):
            scene = self.composer.compose(chance)
            return (scene.image, *scene.finish())
        for _ in range(TRIES):
            photo = self.photographs[chance.integers(len(self.photographs))]
            if (image := self.pictures.read(photo.file)) is not None:
                return crop_photograph(image, photo, self.size, chance)
        raise self.pictures.none_left(photo.file)


def find_backgrounds(folder, held_out: bool = False) -> List[Path]:
    """The images of a folder, without every tenth, the first among them: those are `held_out` to measure with. Raises
    `AgedgeError`."""
    if not folder:
        raise AgedgeError("scenes.backgrounds: a folder of photographs without a face is wanted")
    found = list_images(folder)
    chosen = [path for number, path in enumerate(found) if (number % HELD_OUT == 0) == held_out]
    if not chosen:
        raise AgedgeError(f"{folder}: one photograph alone, where at least two without a face are wanted")
    return chosen


def make_batch(scenes: Scenes, seed: Sequence[int], count: int) -> Batch:
    """`count` scenes of a seed."""
    chance = np.random.default_rng(seed)
    anchors = np.concatenate([lay_anchors(stride, *[-(-scenes.size // stride)] * 2) for stride in STRIDES])
    images, targets = [], []
    for _ in range(count):
        image, boxes, landmarks, ignored, _ = scenes.make(chance)
        images.append(image[..., ::-1].transpose(2, 0, 1))
        targets.append(assign_targets(anchors, boxes, landmarks, ignored))
    return Batch(np.stack(images), *map(np.stack, zip(*targets)))


_scenes = None


def _begin(scenes: Scenes) -> None:
    global _scenes
    _scenes = scenes
    start_worker()
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C, or a SIGTERM to the whole group, is the parent's to answer


def _work(seed, count: int) -> Batch:
    return make_batch(_scenes, seed, count)


def stream_batches(scenes: Scenes, seeds: List, count: int, workers: int) -> Iterator[Batch]:
    """A batch of `count` scenes for each of the seeds, in their order, whatever the number of `workers`. Closing the
    iterator ends the workers; one that died raises `AgedgeError`."""
    if not workers:
        yield from (make_batch(scenes, seed, count) for seed in seeds)
        return
    # spawn: a process that has loaded MXNet must not fork
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (scenes,))
    try:
        coming = (pool.submit(_work, seed, count) for seed in seeds)
        waiting = collections.deque(itertools.islice(coming, AHEAD * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(itertools.islice(coming, 1))
    except BrokenProcessPool:
        raise AgedgeError("a process that composes scenes died (out of memory?); try fewer data.threads") from None
    finally:
        pool.shutdown(cancel_futures=True)
