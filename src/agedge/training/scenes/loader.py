"""The loader of scenes: worker processes make the next batches, with the targets of every anchor, while the network
trains."""

import collections
import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Iterable, Iterator, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.annotations import Photo
from agedge.faces.essh.anchors import STRIDES, assign_targets, lay_anchors
from agedge.sources import list_images
from agedge.training.scenes.compose import Composer
from agedge.training.scenes.crop import crop_photograph
from agedge.training.scenes.images import TRIES, File, ImageReader
from agedge.training.scenes.visible import AnnotatedImage
from agedge.workers import start_worker

HELD_OUT = 10  # every tenth background is for validation alone
AHEAD = 3  # batches a worker that are ready or being made


class SceneBatch(NamedTuple):
    """A batch of n scenes and the targets of the A anchors.

    `images` (n, 3, size, size) RGB uint8; `faces` (n, A), `boxes` (n, A, 4) and `landmarks` (n, A, 10) as
    `agedge.faces.essh.anchors.assign_targets` returns them.
    """

    images: np.ndarray
    faces: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray


@dataclass
class SceneMaker:
    """Makes scenes of `size` pixels: the share `composed` of them by pasting faces into backgrounds, the others by
    cropping photographs.

    `cutouts`: datasets of annotated images of faces; `backgrounds`: files of images without a face; `photographs`:
    whole ones, with all their faces annotated.
    """

    cutouts: Sequence[Sequence[Photo]]
    backgrounds: Sequence[File]
    photographs: Sequence[Photo]
    size: int
    composed: float

    def __post_init__(self) -> None:
        self.composer = Composer(self.cutouts, self.backgrounds, self.size) if len(self.cutouts) else None
        self.images = ImageReader()

    def make_scene(self, rng: np.random.Generator) -> AnnotatedImage:
        """Make one scene. Raises `AgedgeError` if no image can be read."""
        if self.composer is not None and not (len(self.photographs) and rng.random() >= self.composed):
            scene = self.composer.compose(rng)
            return AnnotatedImage(scene.image, *scene.finish())
        for _ in range(TRIES):
            photo = self.photographs[rng.integers(len(self.photographs))]
            if (image := self.images.read(photo.file)) is not None:
                return crop_photograph(image, photo, self.size, rng)
        raise self.images.none_readable(photo.file)


def find_backgrounds(folder: Union[str, Path], held_out: bool = False) -> List[Path]:
    """Return the images of a folder without every tenth, or with `held_out` every tenth alone, from the first on: these
    are for validation. Raises `AgedgeError` if there are none."""
    if not folder:
        raise AgedgeError("scenes.backgrounds: must be a folder of photographs without a face")
    found = list_images(folder)
    chosen = [path for number, path in enumerate(found) if (number % HELD_OUT == 0) == held_out]
    if not chosen:
        raise AgedgeError(f"{folder}: must hold at least two photographs without a face")
    return chosen


def make_batch(scenes: SceneMaker, seed: Sequence[int], count: int) -> SceneBatch:
    """Make a batch of `count` scenes from a seed."""
    rng = np.random.default_rng(seed)
    anchors = np.concatenate([lay_anchors(stride, *[-(-scenes.size // stride)] * 2) for stride in STRIDES])
    images, targets = [], []
    for _ in range(count):
        image, boxes, landmarks, ignored, _ = scenes.make_scene(rng)
        images.append(image[..., ::-1].transpose(2, 0, 1))
        targets.append(assign_targets(anchors, boxes, landmarks, ignored))
    return SceneBatch(np.stack(images), *map(np.stack, zip(*targets)))


_scenes: Optional[SceneMaker] = None  # of a worker process


def _start_worker(scenes: SceneMaker) -> None:
    """Prepare a worker process."""
    global _scenes
    _scenes = scenes
    start_worker()
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # the parent alone handles Ctrl-C, and a SIGTERM to the whole group


def _make_batch(seed: Sequence[int], count: int) -> SceneBatch:
    assert _scenes is not None
    return make_batch(_scenes, seed, count)


def stream_batches(
    scenes: SceneMaker, seeds: Iterable[Sequence[int]], count: int, workers: int
) -> Iterator[SceneBatch]:
    """Yield a batch of `count` scenes for each of the seeds, in their order, whatever the number of `workers`.

    Closing the iterator ends the workers. Raises `AgedgeError` if a worker died.
    """
    if not workers:
        yield from (make_batch(scenes, seed, count) for seed in seeds)
        return
    # spawn: a process that has loaded MXNet must not fork
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (scenes,))
    try:
        coming = (pool.submit(_make_batch, seed, count) for seed in seeds)
        waiting = collections.deque(itertools.islice(coming, AHEAD * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(itertools.islice(coming, 1))
    except BrokenProcessPool:
        raise AgedgeError("a process that composes scenes died (out of memory?); try fewer data.threads") from None
    finally:
        pool.shutdown(cancel_futures=True)
