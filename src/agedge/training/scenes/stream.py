"""Batches of scenes with what every anchor is to say of them, made by worker processes while the network trains."""

import collections
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Sequence

import cv2
import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.anchors import STRIDES, assign_targets, lay_anchors
from agedge.faces.annotations import Photo
from agedge.sources import IMAGE_SUFFIXES
from agedge.training.scenes.compose import Composer
from agedge.training.scenes.crop import crop_photograph

HELD_OUT = 10  # every so many-th background is for measuring alone
AHEAD = 3  # batches a worker may be ahead


@dataclass
class Batch:
    """`images` (n, 3, size, size) RGB uint8; for each of the A anchors `faces` (n, A), `boxes` (n, A, 4) and
    `landmarks` (n, A, 10), as `agedge.faces.anchors.assign_targets` gives them."""

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

    def make(self, chance: np.random.Generator) -> tuple:
        """One scene: image (size, size, 3) BGR uint8, boxes (n, 4), landmarks (n, 5, 2), ignored (n,), and what covers
        each of the faces, (n,) words."""
        if self.composer is None or (len(self.photographs) and chance.random() >= self.composed):
            photo = self.photographs[chance.integers(len(self.photographs))]
            return crop_photograph(photo, self.size, chance)
        scene = self.composer.compose(chance)
        return (scene.image, *scene.finish())


def find_backgrounds(folder, held_out: bool = False) -> List[Path]:
    """The images of a folder, without every tenth, which are `held_out` to measure with. Raises `AgedgeError`."""
    found = (
        sorted(path for path in Path(folder).glob("**/*") if path.suffix.lower() in IMAGE_SUFFIXES) if folder else []
    )
    chosen = [path for number, path in enumerate(found) if (number % HELD_OUT == 0) == held_out]
    if not chosen:
        raise AgedgeError(f"{folder or 'scenes.backgrounds'}: a folder of photographs without a face is wanted")
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
    cv2.setNumThreads(1)


def _work(seed, count: int) -> Batch:
    return make_batch(_scenes, seed, count)


def stream_batches(scenes: Scenes, seeds: List, count: int, workers: int) -> Iterator[Batch]:
    """A batch of `count` scenes for each of the seeds, in their order, whatever the number of `workers`."""
    if not workers:
        yield from (make_batch(scenes, seed, count) for seed in seeds)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _begin, (scenes,)) as pool:
        waiting, seeds = collections.deque(), iter(seeds)
        for seed in seeds:
            waiting.append(pool.apply_async(_work, (seed, count)))
            if len(waiting) >= AHEAD * workers:
                yield waiting.popleft().get()
        while waiting:
            yield waiting.popleft().get()
