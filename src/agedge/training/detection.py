"""Training a face detector on scenes: the loop of `train.py` for a recipe whose network is one."""

import contextlib
import logging
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.detection import measure_detection
from agedge.evaluation.plots import plot_detection_curves
from agedge.faces.anchors import STRIDES, find_candidates
from agedge.faces.annotations import read_annotations
from agedge.faces.boxes import nms
from agedge.faces.detection import Faces
from agedge.sources import read_image
from agedge.training.checkpoint import save_checkpoint
from agedge.training.log import RunLog
from agedge.training.pretrained import load_pretrained_detector
from agedge.training.recipe import refuse_keys
from agedge.training.scenes.stream import Scenes, find_backgrounds, stream_batches
from agedge.training.schedule import learning_rate
from agedge.training.start import open_folder, optimizer_options, seed_everything, start_state, start_weights

log = logging.getLogger(__name__)

TERMS = {"face": 1.0, "box": 1.5, "landmarks": 3.0}  # of the loss, and their weights
LEAST = 0.05  # score of a face that counts for average precision
LONGEST = 1280  # pixels: a larger photograph is measured shrunk to that longer side, as the detector sees it
NOT_FOR_FACES = ("augment", "data.labels", "data.test")  # what scenes.* and data.val are for a detector


def train_detector(network, recipe, contexts: list, resume: bool = False, progress: bool = True) -> Path:
    """Train a detector as the recipe says, on one MXNet context, into `recipe.run.dir`. Returns that folder.

    It then holds recipe.yaml, log.csv, TensorBoard events, curves.png, last.ckpt and best.ckpt (the highest average
    precision on `data.val`). Raises `AgedgeError` where data or weights cannot be used, and where the loss is no number
    any more.
    """
    import mxnet as mx
    from mxnet import autograd, gluon

    from agedge.training.objective import DetectionObjective

    refuse_keys(recipe, NOT_FOR_FACES, "faces")
    if len(contexts) > 1:
        raise UsageError(f"--gpus: {len(contexts)} devices, where a detector trains on one")
    folder, context = open_folder(Path(recipe.run.dir), resume), contexts[0]
    scenes, held_out = open_scenes(recipe), open_held_out(recipe)
    size, batch_size = recipe.scenes.size, recipe.train.batch_size
    steps_an_epoch = max(1, recipe.scenes.an_epoch // batch_size)
    total_steps = steps_an_epoch * recipe.train.epochs
    total_steps = min(total_steps, recipe.train.max_steps or total_steps)

    start_weights(network, recipe, contexts, size, load_pretrained_detector, resume)
    objective = DetectionObjective(network, tuple(TERMS.values()))
    objective.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(network.collect_params(), recipe.optimizer.name, optimizer_options(recipe.optimizer))
    rate = learning_rate(recipe.optimizer, total_steps, steps_an_epoch)
    state = start_state(network, recipe, trainer, contexts, folder, resume)
    history = RunLog(folder, state["epoch"], plot_detection_curves)
    seeds = [(recipe.train.seed, step) for step in range(state["step"], total_steps)]

    batches = stream_batches(scenes, seeds, batch_size, recipe.data.threads)
    with contextlib.closing(batches):
        while state["step"] < total_steps:
            epoch = state["epoch"] + 1
            seed_everything(recipe.train.seed, epoch)
            steps = min(steps_an_epoch, total_steps - state["step"])
            sums, started = mx.nd.zeros(3, ctx=context), time.time()
            bar = tqdm(range(steps), f"epoch {epoch}", leave=False, disable=None if progress else True)
            for number in bar:
                batch = next(batches)
                trainer.set_learning_rate(rate(state["step"]))
                given = [mx.nd.array(value, ctx=context, dtype="float32") for value in batch]
                with autograd.record():
                    loss, terms = objective(*given)
                loss.backward()
                trainer.step(batch_size)
                state["step"] += 1
                sums += terms
                if number % recipe.train.log_every == 0 or number == steps - 1:
                    means = check_terms(sums / ((number + 1) * batch_size), folder, state["step"])
                    bar.set_postfix_str(", ".join(f"{name} {value:.3f}" for name, value in zip(TERMS, means)))
            seconds = time.time() - started

            # Validate, and keep the last and the best.
            measured = validate(network, held_out, context)
            recall, precision = measured["recall"], measured["precision"] or 0.0
            state["epoch"], score = epoch, measured["average_precision"]
            is_best = state["best"] is None or score > state["best"]
            if is_best:
                state.update(best=score, best_epoch=epoch)
            row = {
                "epoch": epoch,
                "step": state["step"],
                "lr": trainer.learning_rate,
                "loss": float(means @ list(TERMS.values())),
            }
            row.update({f"{name}_loss": float(value) for name, value in zip(TERMS, means)})
            row.update(val_recall=recall, val_precision=precision, val_ap=score)
            history.write({**row, "images_per_s": round(steps * batch_size / seconds, 1)})
            for name in ("best", "last") if is_best else ("last",):
                save_checkpoint(folder / f"{name}.ckpt", network, trainer, state)
            log.info(
                "epoch %d: %s; recall %.3f, precision %.3f, average precision %.3f%s; %.0f scenes/s",
                epoch,
                ", ".join(f"{name} {value:.3f}" for name, value in zip(TERMS, means)),
                recall,
                precision,
                score,
                " (best)" if is_best else "",
                steps * batch_size / seconds,
            )
            if recipe.train.patience and epoch - state["best_epoch"] >= recipe.train.patience:
                log.info("stopped: no better than epoch %d for %d epochs", state["best_epoch"], recipe.train.patience)
                break
    history.close()
    return folder


def open_scenes(recipe) -> Scenes:
    """What a recipe's scenes are made of. Raises `AgedgeError` where there is nothing."""
    cutouts = [read_faces(file) for file in as_list(recipe.data.train)]
    photographs = [photo for file in as_list(recipe.scenes.photographs) for photo in read_faces(file)]
    if not cutouts and not photographs:
        raise AgedgeError("data.train and scenes.photographs: no face: give files of annotated faces, label.txt")
    backgrounds = find_backgrounds(recipe.scenes.backgrounds) if cutouts else []
    return Scenes(cutouts, backgrounds, photographs, recipe.scenes.size, recipe.scenes.composed)


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


def check_terms(sums, folder: Path, step: int) -> np.ndarray:
    """The mean losses (3,). Raises `AgedgeError` where one is no number any more."""
    means = sums.asnumpy()
    if not np.isfinite(means).all():
        raise AgedgeError(f"{folder}: the loss is {means.sum()} at step {step}; last.ckpt holds the epoch before")
    return means


class Watcher:
    """A network that trains, as a detector that can be measured on whole photographs."""

    def __init__(self, network, context):
        self.network, self.context = network, context

    def detect(self, image: np.ndarray) -> Faces:
        """The faces of a BGR uint8 image (h, w, 3), of any score over LEAST."""
        from mxnet import nd

        scale = min(1, LONGEST / max(image.shape[:2]))
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = (-(-side // STRIDES[0]) * STRIDES[0] for side in image.shape[:2])
        data = np.zeros((1, 3, height, width), np.float32)
        data[0, :, : image.shape[0], : image.shape[1]] = image[..., ::-1].transpose(2, 0, 1)
        said = self.network.decode(nd, self.network(nd.array(data, ctx=self.context)))
        maps = [output.asnumpy() for output in said]
        boxes, scores, landmarks = find_candidates(maps, LEAST)[0]
        kept = nms(boxes, scores, 0.3, border=1)
        return Faces(boxes[kept] / scale, scores[kept], landmarks[kept] / scale)


def validate(network, photos: list, context) -> dict:
    """What `measure_detection` says of annotated photographs: recall and precision at a score of 0.5.

    A photograph that cannot be read is told and left out. Raises `AgedgeError` where no face is left to be found.
    """
    watcher, found = Watcher(network, context), []
    for photo in photos:
        try:
            found.append((watcher.detect(read_image(photo.file)), photo))
        except AgedgeError as error:
            log.warning("data.val: left out: %s", error)
    measured = measure_detection(found)
    if not measured["faces"]:
        raise AgedgeError("data.val: no face in those of its images that can be read")
    sure = measure_detection([(faces.take(faces.scores > 0.5), photo) for faces, photo in found])
    return {**sure, "average_precision": measured["average_precision"]}
