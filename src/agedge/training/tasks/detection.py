"""Train a face detector on scenes."""

import contextlib
import logging
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.detection import measure_detection
from agedge.evaluation.plots import plot_detection_curves
from agedge.faces.annotations import Photo, read_annotations
from agedge.faces.boxes import nms
from agedge.faces.detector import Faces
from agedge.faces.essh.anchors import STRIDES, find_candidates
from agedge.safe_write import replacing
from agedge.sources import read_image
from agedge.training import loop
from agedge.training.distributed.kvstore import KVStore
from agedge.training.recipe import Recipe, refuse_keys
from agedge.training.run.divergence import ADVICE, DivergedError
from agedge.training.run.pretrained import load_pretrained_detector
from agedge.training.scenes.loader import SceneBatch, SceneMaker, find_backgrounds, make_batch, stream_batches
from agedge.training.task import BatchIterator, Task, TrainingBatch, Validation

log = logging.getLogger(__name__)

TERMS = {"face": 1.0, "box": 1.5, "landmarks": 3.0}  # loss terms and their weights
MIN_SCORE = 0.05  # lowest score of a face for average precision
MAX_SIDE = 1280  # pixels; larger photographs are resized to this longer side, as in the detector
NOT_FOR_DETECTORS = (  # a detector has scenes.* and data.val instead
    "augment",
    "data.labels",
    "data.test",
    "data.cache",
    "data.balance",
    "train.mixup",
    "distill",
)


def train_detector(network: Any, recipe: Recipe, contexts: list, resume: bool = False, progress: bool = True) -> Path:
    """Train a detector on one MXNet context. Return the run's folder.

    See `loop.train`; the best checkpoint has the highest average precision on `data.val`. Raises `UsageError` for
    settings that do not apply to a detector, several contexts and several workers.
    """
    refuse_keys(recipe, NOT_FOR_DETECTORS, "faces")
    if len(contexts) > 1:
        raise UsageError(f"--gpus: {len(contexts)} devices, but a detector trains on one")
    if recipe.train.kvstore.startswith("dist"):
        raise UsageError(f"train.kvstore={recipe.train.kvstore}: a detector trains on one machine")
    return loop.train(DetectionTask, network, recipe, contexts, resume, progress)


class DetectionTask(Task):
    """Scenes with annotated faces.

    Attributes:
        scenes: the composer of training scenes.
        held_out: the annotated photographs of `data.val`.
        stream: the batches of the whole run (its worker processes are slow to start); None before the first batch.
    """

    load, plot = staticmethod(load_pretrained_detector), staticmethod(plot_detection_curves)

    def __init__(self, network: Any, recipe: Recipe, folder: Path, kvstore: KVStore, contexts: list):
        from agedge.training.objective import DetectionObjective

        self.network, self.recipe, self.context, self.folder = network, recipe, contexts[0], folder
        self.size, self.batch_size = recipe.scenes.size, recipe.train.batch_size
        self.scenes, self.held_out = open_scenes(recipe), open_held_out(recipe)
        self.steps = max(1, recipe.scenes.an_epoch // self.batch_size)
        self.count = self.steps * self.batch_size
        self.objective = DetectionObjective(network, tuple(TERMS.values()))
        self.stream: Optional[TimedBatches] = None

    @contextlib.contextmanager
    def batches(self, epoch: int, first: int) -> Iterator[BatchIterator]:
        """See `Task.batches`."""
        step = (epoch - 1) * self.steps + first
        if self.stream is None or self.stream.step != step:
            self.close()
            # One more epoch, for the BatchNorm statistics of averaged weights.
            seeds = [(self.recipe.train.seed, at) for at in range(step, (self.recipe.train.epochs + 1) * self.steps)]
            made = stream_batches(self.scenes, seeds, self.batch_size, self.recipe.data.threads)
            self.stream = TimedBatches(made, step)
        stream = self.stream
        stream.waited = 0.0
        yield BatchIterator(stream, (TrainingBatch(as_floats(batch), stream.step - 1) for batch in stream))

    def close(self) -> None:
        """End the worker processes."""
        if self.stream is not None:
            self.stream.source.close()
            self.stream = None

    def save_batches(self, indices: list, path: Path) -> str:
        """See `Task.save_batches`; the scenes and targets as an .npz file."""
        path = path.with_suffix(".npz")
        seeds = ((self.recipe.train.seed, index) for index in indices)
        scenes = zip(*(make_batch(self.scenes, seed, self.batch_size) for seed in seeds))
        with replacing(path) as file:
            np.savez_compressed(file, **dict(zip(SceneBatch._fields, map(np.concatenate, scenes))))
        return path.name

    def metrics(self, sums: np.ndarray) -> Dict[str, float]:
        """See `Task.metrics`."""
        means = sums[1:] / sums[0]
        terms = {f"{name}_loss": float(value) for name, value in zip(TERMS, means)}
        return {"loss": float(means @ list(TERMS.values())), **terms}

    def describe(self, metrics: Dict[str, Any]) -> str:
        """See `Task.describe`."""
        return ", ".join(f"{name} {metrics[f'{name}_loss']:.3f}" for name in TERMS)

    def validate(self) -> Validation:
        """See `Task.validate`."""
        measured = validate(self.network, self.held_out, self.context, self.folder)
        recall, precision = measured["recall"], measured["precision"] or 0.0
        score = measured["average_precision"]
        row = {"val_recall": recall, "val_precision": precision, "val_ap": score}
        text = f"recall {recall:.3f}, precision {precision:.3f}, average precision {score:.3f}"
        return Validation(-score, row, text)


class TimedBatches:
    """An iterator of batches. `step`: number of the next one; `waited`: seconds that the consumer waited."""

    def __init__(self, source: Any, step: int):
        self.source, self.step, self.waited = source, step, 0.0

    def __iter__(self) -> "TimedBatches":
        return self

    def __next__(self) -> SceneBatch:
        started = time.perf_counter()
        try:
            batch = next(self.source)
        finally:
            self.waited += time.perf_counter() - started
        self.step += 1
        return batch


def as_floats(batch: SceneBatch) -> Tuple[np.ndarray, ...]:
    """Return the arrays of a batch as float32."""
    return tuple(np.asarray(value, np.float32) for value in batch)


def open_scenes(recipe: Recipe) -> SceneMaker:
    """Create the scene composer of a recipe. Raises `AgedgeError` if the recipe has no faces."""
    cutouts = [read_faces(file) for file in as_list(recipe.data.train)]
    photographs = [photo for file in as_list(recipe.scenes.photographs) for photo in read_faces(file)]
    if not cutouts and not photographs:
        raise AgedgeError("data.train or scenes.photographs must be files of annotated faces (label.txt)")
    backgrounds = find_backgrounds(recipe.scenes.backgrounds) if cutouts else []
    return SceneMaker(cutouts, backgrounds, photographs, recipe.scenes.size, recipe.scenes.composed)


def open_held_out(recipe: Recipe) -> List[Photo]:
    """Return the annotated photographs of `data.val`. Raises `AgedgeError` if there is none, and if an image
    is missing."""
    photos = [photo for file in as_list(recipe.data.val) for photo in read_faces(file)]
    if not photos:
        raise AgedgeError("data.val must be a label.txt (created by python -m rec_tools compose)")
    missing = [photo.file for photo in photos if not photo.file.is_file()]
    if missing:
        raise AgedgeError(f"{missing[0]}: does not exist, but is in data.val{_and_more(len(missing) - 1)}")
    if all(photo.ignored.all() for photo in photos):
        raise AgedgeError("data.val: all faces are marked as ignored")
    return photos


def _and_more(count: int) -> str:
    return f", and {count} more that are missing" if count else ""


def read_faces(file: Union[str, Path]) -> List[Photo]:
    """Return the annotated photographs of a file. Raises `AgedgeError` if none has a face."""
    photos = read_annotations(file)
    if not any(len(photo) for photo in photos):
        raise AgedgeError(f"{file}: contains no photograph with a face")
    return photos


def as_list(value: Union[str, Sequence[str]]) -> List[str]:
    """Return a recipe value (one file or several) as a list."""
    return [value] if isinstance(value, str) and value else list(value)


class TrainedDetector:
    """A detector of whole photographs, which runs a network in training. `run`: name of the run in errors."""

    def __init__(self, network: Any, context: Any, run: Any = "the detector"):
        self.network, self.context, self.run = network, context, run

    def detect(self, image: np.ndarray) -> Faces:
        """Return the faces of a BGR uint8 image (h, w, 3) whose score is above MIN_SCORE. Raises `DivergedError`."""
        scale = min(1, MAX_SIDE / max(image.shape[:2]))
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = (-(-side // STRIDES[0]) * STRIDES[0] for side in image.shape[:2])
        data = np.zeros((1, 3, height, width), np.float32)
        data[0, :, : image.shape[0], : image.shape[1]] = image[..., ::-1].transpose(2, 0, 1)
        boxes, scores, landmarks = find_candidates(self.predict(data), MIN_SCORE)[0]
        kept = nms(boxes, scores, 0.3, border=1)
        return Faces(boxes[kept] / scale, scores[kept], landmarks[kept] / scale)

    def predict(self, data: np.ndarray) -> List[np.ndarray]:
        """Return the network's outputs (NumPy arrays) for (1, 3, h, w) float32 RGB. Raises `DivergedError`."""
        from mxnet import nd

        maps = [out.asnumpy() for out in self.network.decode(nd, self.network(nd.array(data, ctx=self.context)))]
        if not all(np.isfinite(one).all() for one in maps):
            raise DivergedError(f"{self.run}: diverged: the trained network outputs NaN or infinity; {ADVICE}")
        return maps


def validate(network: Any, photos: Sequence[Photo], context: Any, run: Any = "the detector") -> Dict[str, Any]:
    """Return the metrics of `measure_detection` on annotated photographs: recall and precision at a score of 0.5.

    A photograph that cannot be read is skipped with a warning. Raises `AgedgeError` if no face is left to detect,
    `DivergedError`, which names the `run`, if the network outputs NaN or infinity.
    """
    detector, found = TrainedDetector(network, context, run), []
    for photo in photos:
        try:
            image = read_image(photo.file)
        except AgedgeError as error:
            log.warning("data.val: skipped: %s", error)
        else:
            found.append((detector.detect(image), photo))
    measured = measure_detection(found)
    if not measured["faces"]:
        raise AgedgeError("data.val: no face in its readable images")
    confident = measure_detection([(faces.take(faces.scores > 0.5), photo) for faces, photo in found])
    return {**confident, "average_precision": measured["average_precision"]}
