"""Training a face detector on scenes."""

import contextlib
import logging
import time
from pathlib import Path
from typing import Optional

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.detection import measure_detection
from agedge.evaluation.plots import plot_detection_curves
from agedge.faces.annotations import read_annotations
from agedge.faces.boxes import nms
from agedge.faces.detector import Faces
from agedge.faces.essh.anchors import STRIDES, find_candidates
from agedge.safe_write import replacing
from agedge.sources import read_image
from agedge.training.loop import run
from agedge.training.recipe import refuse_keys
from agedge.training.run.divergence import ADVICE, DivergedError
from agedge.training.run.pretrained import load_pretrained_detector
from agedge.training.scenes.loader import SceneBatch, SceneMaker, find_backgrounds, make_batch, stream_batches
from agedge.training.task import Batches, Inputs, Measured, Task

log = logging.getLogger(__name__)

TERMS = {"face": 1.0, "box": 1.5, "landmarks": 3.0}  # of the loss, and their weights
LEAST = 0.05  # score of a face that counts for average precision
LONGEST = 1280  # pixels: a larger photograph is measured shrunk to that longer side, as the detector sees it
NOT_FOR_FACES = (  # what scenes.* and data.val are for a detector
    "augment",
    "data.labels",
    "data.test",
    "data.cache",
    "data.balance",
    "train.mixup",
    "distill",
)


def train_detector(network, recipe, contexts: list, resume: bool = False, progress: bool = True) -> Path:
    """Train a detector as the recipe says, on one MXNet context, into `recipe.run.dir`. Returns that folder.

    See `loop.run`; the best checkpoint has the highest average precision on `data.val`.
    """
    refuse_keys(recipe, NOT_FOR_FACES, "faces")
    if len(contexts) > 1:
        raise UsageError(f"--gpus: {len(contexts)} devices, where a detector trains on one")
    if recipe.train.kvstore.startswith("dist"):
        raise UsageError(f"train.kvstore={recipe.train.kvstore}: a detector trains on one machine")
    return run(Detection, network, recipe, contexts, resume, progress)


class Detection(Task):
    """Scenes with faces."""

    load, plot = staticmethod(load_pretrained_detector), staticmethod(plot_detection_curves)

    def __init__(self, network, recipe, folder: Path, store, contexts: list):
        from agedge.training.objective import DetectionObjective

        self.network, self.recipe, self.context, self.folder = network, recipe, contexts[0], folder
        self.size, self.batch_size = recipe.scenes.size, recipe.train.batch_size
        self.scenes, self.held_out = open_scenes(recipe), open_held_out(recipe)
        self.steps = max(1, recipe.scenes.an_epoch // self.batch_size)
        self.count = self.steps * self.batch_size
        self.objective = DetectionObjective(network, tuple(TERMS.values()))
        self.stream: Optional[Waiting] = None  # of the whole run, for its processes take a while to start

    @contextlib.contextmanager
    def batches(self, epoch: int, first: int):
        step = (epoch - 1) * self.steps + first
        if self.stream is None or self.stream.step != step:
            self.close()
            # An epoch more than there are, for the statistics of averaged weights.
            seeds = [(self.recipe.train.seed, at) for at in range(step, (self.recipe.train.epochs + 1) * self.steps)]
            made = stream_batches(self.scenes, seeds, self.batch_size, self.recipe.data.threads)
            self.stream = Waiting(made, step)
        self.stream.waited = 0.0
        yield Batches(self.stream, (Inputs(as_floats(batch), self.stream.step - 1) for batch in self.stream))

    def close(self) -> None:
        if self.stream is not None:
            self.stream.source.close()
            self.stream = None

    def save_batches(self, indices: list, path: Path) -> str:
        path = path.with_suffix(".npz")
        seeds = ((self.recipe.train.seed, index) for index in indices)
        scenes = zip(*(make_batch(self.scenes, seed, self.batch_size) for seed in seeds))
        with replacing(path) as file:
            np.savez_compressed(file, **dict(zip(SceneBatch._fields, map(np.concatenate, scenes))))
        return path.name

    def figures(self, sums: np.ndarray) -> dict:
        means = sums[1:] / sums[0]
        figures = {f"{name}_loss": float(value) for name, value in zip(TERMS, means)}
        return {"loss": float(means @ list(TERMS.values())), **figures}

    def say(self, figures: dict) -> str:
        return ", ".join(f"{name} {figures[f'{name}_loss']:.3f}" for name in TERMS)

    def validate(self) -> Measured:
        measured = validate(self.network, self.held_out, self.context, self.folder)
        recall, precision = measured["recall"], measured["precision"] or 0.0
        score = measured["average_precision"]
        row = {"val_recall": recall, "val_precision": precision, "val_ap": score}
        text = f"recall {recall:.3f}, precision {precision:.3f}, average precision {score:.3f}"
        return Measured(-score, row, text)


class Waiting:
    """An iterator over batches; `step`: the number of the next one; `waited`: the seconds that somebody stood waiting
    for it."""

    def __init__(self, source, step: int):
        self.source, self.step, self.waited = source, step, 0.0

    def __iter__(self):
        return self

    def __next__(self):
        started = time.perf_counter()
        try:
            batch = next(self.source)
        finally:
            self.waited += time.perf_counter() - started
        self.step += 1
        return batch


def as_floats(batch) -> tuple:
    """The arrays of a batch as float32."""
    return tuple(np.asarray(value, np.float32) for value in batch)


def open_scenes(recipe) -> SceneMaker:
    """What a recipe's scenes are made of. Raises `AgedgeError` where there is nothing."""
    cutouts = [read_faces(file) for file in as_list(recipe.data.train)]
    photographs = [photo for file in as_list(recipe.scenes.photographs) for photo in read_faces(file)]
    if not cutouts and not photographs:
        raise AgedgeError("data.train and scenes.photographs: no face: give files of annotated faces, label.txt")
    backgrounds = find_backgrounds(recipe.scenes.backgrounds) if cutouts else []
    return SceneMaker(cutouts, backgrounds, photographs, recipe.scenes.size, recipe.scenes.composed)


def open_held_out(recipe) -> list:
    """The photographs of `data.val`. Raises `AgedgeError` where there is none, or where an image is missing."""
    photos = [photo for file in as_list(recipe.data.val) for photo in read_faces(file)]
    if not photos:
        raise AgedgeError("data.val: not given; say data.val=FILE, a label.txt (python -m rec_tools compose makes one)")
    missing = [photo.file for photo in photos if not photo.file.is_file()]
    if missing:
        raise AgedgeError(f"{missing[0]}: no such image; data.val names it{_and_more(len(missing) - 1)}")
    if all(photo.ignored.all() for photo in photos):
        raise AgedgeError("data.val: every face in it is to be ignored")
    return photos


def _and_more(count: int) -> str:
    return f", and {count} more that are missing" if count else ""


def read_faces(file) -> list:
    """The annotated photographs of a file. Raises `AgedgeError` where it has none with a face."""
    photos = read_annotations(file)
    if not any(len(photo) for photo in photos):
        raise AgedgeError(f"{file}: no photograph with a face in it")
    return photos


def as_list(value) -> list:
    return [value] if isinstance(value, str) and value else list(value)


class Watcher:
    """A network that trains, as a detector that can be measured on whole photographs."""

    def __init__(self, network, context, run="the detector"):
        self.network, self.context, self.run = network, context, run

    def detect(self, image: np.ndarray) -> Faces:
        """Return the faces of a BGR uint8 image (h, w, 3), of any score over LEAST. Raises `DivergedError`."""
        scale = min(1, LONGEST / max(image.shape[:2]))
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = (-(-side // STRIDES[0]) * STRIDES[0] for side in image.shape[:2])
        data = np.zeros((1, 3, height, width), np.float32)
        data[0, :, : image.shape[0], : image.shape[1]] = image[..., ::-1].transpose(2, 0, 1)
        boxes, scores, landmarks = find_candidates(self.answer(data), LEAST)[0]
        kept = nms(boxes, scores, 0.3, border=1)
        return Faces(boxes[kept] / scale, scores[kept], landmarks[kept] / scale)

    def answer(self, data: np.ndarray) -> list:
        """Return the network's outputs, NumPy arrays, for (1, 3, h, w) float32 RGB. Raises `DivergedError`."""
        from mxnet import nd

        maps = [out.asnumpy() for out in self.network.decode(nd, self.network(nd.array(data, ctx=self.context)))]
        if not all(np.isfinite(one).all() for one in maps):
            raise DivergedError(f"{self.run}: diverged: the trained network answers NaN or infinity; {ADVICE}")
        return maps


def validate(network, photos: list, context, run="the detector") -> dict:
    """Return what `measure_detection` measures on annotated photographs: recall and precision at a score of 0.5.

    A photograph that cannot be read is named in a warning and left out. Raises `AgedgeError` where no face is left to
    be found, `DivergedError`, which names the `run`, where the network answers anything but numbers.
    """
    watcher, found = Watcher(network, context, run), []
    for photo in photos:
        try:
            image = read_image(photo.file)
        except AgedgeError as error:
            log.warning("data.val: left out: %s", error)
        else:
            found.append((watcher.detect(image), photo))
    measured = measure_detection(found)
    if not measured["faces"]:
        raise AgedgeError("data.val: no face in those of its images that can be read")
    sure = measure_detection([(faces.take(faces.scores > 0.5), photo) for faces, photo in found])
    return {**sure, "average_precision": measured["average_precision"]}
