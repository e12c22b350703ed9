"""MTCNN: detect faces and five landmarks by three cascaded networks (Zhang et al., IEEE SPL 2016) on MXNet.

P-net scans an image pyramid and proposes boxes, R-net refines them, and O-net returns the faces and landmarks of the
remaining boxes. All images of a call share the networks' batches.
"""

import math
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from agedge.errors import UsageError
from agedge.faces.boxes import nms
from agedge.faces.detector import DetectorOptions, Faces, check_image
from agedge.faces.mtcnn.graphs import CascadeNetwork, open_network
from agedge.faces.mtcnn.pyramid import CANVAS, CELL, STRIDE, pack, shrink_levels
from agedge.faces.patches import cut_patches
from agedge.faces.per_process import PerProcessNetworks

MIN_FACE = 40  # pixels: the default of `min_face`
SAME_LEVEL, ACROSS_LEVELS, LAST = 0.5, 0.7, 0.7  # NMS thresholds, as in the code of the paper's authors
# Batch sizes and input sides of the networks. MXNet has an executor per batch size; larger ones are slower per face.
NETWORKS = {"pnet": ((1,), CANVAS), "rnet": ((4, 16, 32), 24), "onet": ((1, 2, 4), 48)}


class Cells(NamedTuple):
    """P-net's proposals: `boxes` (n, 4), the cells in pixels of a level, `scores` (n,), `offsets` (n, 4)."""

    boxes: np.ndarray
    scores: np.ndarray
    offsets: np.ndarray


NO_CELLS = Cells(np.empty((0, 4)), np.empty(0), np.empty((0, 4)))


class MTCNNDetector(PerProcessNetworks):
    """The detector of `--det 0`.

    `options`: see `DetectorOptions`. `min_face`: by default 40, at least 12; it counts pixels of the image as given,
    even if `max_side` shrinks it. `max_side`: by default none; it limits the time. `runtime`: only "mxnet".
    `thresholds`: minimum face probabilities for P-, R- and O-net. `weights`: a folder with three weight files that
    replace those of the installed wheel.

    Networks are loaded at the first call, once per process; a forked process raises an error if MXNet has several CPU
    threads. Threads wait for each other. Raises `UsageError` on an invalid option, and at the first call `AgedgeError`
    if the weights are missing or are not the known ones.
    """

    name = "MTCNN"
    # Reached by none of 479 faces found in turned images (0.9989 at most), and by 635 of 1,057 in upright ones.
    sure_score = 0.9995

    def __init__(
        self,
        options: DetectorOptions = DetectorOptions(),
        thresholds: Sequence[float] = (0.6, 0.7, 0.8),
        weights: Optional[Union[str, Path]] = None,
    ):
        super().__init__(options.runtime)
        if self.runtime != "mxnet":
            raise UsageError(f"runtime {self.runtime}: MTCNN runs on mxnet only; use mxnet, or the detector 1 (essh)")
        self.min_face = _check_min_face(MIN_FACE if options.min_face is None else options.min_face)
        self.max_side = _check_max_side(options.max_side)
        self.max_faces, self.min_score = options.max_faces, options.min_score
        self.thresholds, self.weights = _check_thresholds(thresholds), weights

    def detect(self, image: np.ndarray) -> Faces:
        """Return the faces of a BGR uint8 image (h, w, 3), or of an array that `check_image` accepts; best first."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray], min_face: Optional[float] = None) -> List[Faces]:
        """Return `Faces` for each of several images of any sizes; for small ones several times as fast as `detect`.

        `min_face`: replaces the detector's for this call.
        """
        min_face = self.min_face if min_face is None else _check_min_face(min_face)
        images = list(map(check_image, images))
        scales = [self._scale(image) for image in images]
        images = [shrink(image, scale) for image, scale in zip(images, scales)]
        with self.in_this_process().lock:
            found = self._finish(images, self._refine(images, self._propose(images, min_face, scales)))
        return [self._choose(enlarge(faces, scale)) for faces, scale in zip(found, scales)]

    def detect_at(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> List[Faces]:
        """Return `Faces` for each image from candidate boxes (n, 4), without a search of the image.

        For images with a known approximate position of the face: ten times as fast, with the same recall;
        benchmarks/first_look.py measures the precision of landmarks. Raises `UsageError` if the boxes are not finite.
        """
        images = list(map(check_image, images))
        boxes = [_check_boxes(its, image) for its, image in zip(boxes, images)]
        return list(map(self._choose, self._find_at(images, boxes)))

    def detect_middle(self, views: np.ndarray, side: float) -> List[Faces]:
        """Return `Faces`, of any score, for square images (n, s, s, 3), each with a face of about `side` pixels in the
        middle."""
        half = np.array([1, 1.4]) * side / 2  # a box of the facial features, and one of the head
        middle = views.shape[1] / 2
        boxes = np.stack([middle - half, middle - half, middle + half, middle + half], axis=1)
        return self._find_at(list(views), [boxes] * len(views))

    def _find_at(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> List[Faces]:
        with self.in_this_process().lock:
            return self._finish(images, self._refine(images, list(map(make_square, boxes))))

    def _scale(self, image: np.ndarray) -> float:
        """Return the scale to which an image is shrunk."""
        return min(1, self.max_side / max(image.shape[:2])) if self.max_side and image.size else 1

    def _choose(self, faces: Faces) -> Faces:
        faces = faces.take(faces.scores >= self.min_score)
        return faces.take(choose_largest(faces.boxes, self.max_faces))

    def open_networks(self) -> Dict[str, CascadeNetwork]:
        """Open P-, R- and O-net."""
        return {name: open_network(name, sizes, side, self.weights) for name, (sizes, side) in NETWORKS.items()}

    def _propose(self, images: Sequence[np.ndarray], min_face: float, scales: Sequence[float]) -> List[np.ndarray]:
        """Return P-net's proposals, square boxes (n, 4), for each image; `scales`: how much each was shrunk before."""
        pyramids = [shrink_levels(image, max(CELL, min_face * scale)) for image, scale in zip(images, scales)]
        found = iter(self._scan([level for pyramid in pyramids for _, level in pyramid]))
        proposals = []
        for pyramid in pyramids:
            levels = [NO_CELLS]
            for (scale, _), cells in zip(pyramid, found):
                kept = nms(cells.boxes, cells.scores, SAME_LEVEL)
                levels.append(Cells(cells.boxes[kept] / scale, cells.scores[kept], cells.offsets[kept]))
            boxes, scores, offsets = map(np.concatenate, zip(*levels))
            kept = nms(boxes, scores, ACROSS_LEVELS)
            proposals.append(make_square(move(boxes[kept], offsets[kept])))
        return proposals

    def _scan(self, levels: List[np.ndarray]) -> List[Cells]:
        """Return P-net's proposals in each pyramid level."""
        network, least = self.load()["pnet"], logit(self.thresholds[0])
        found = [[NO_CELLS] for _ in levels]
        for pieces in pack([(level.shape[1], level.shape[2]) for level in levels]):
            for level, top, left, height, width, y, x in pieces:
                piece = levels[level][:, top : top + height, left : left + width]
                network.data[0, :, y : y + height, x : x + width] = piece
            outputs = network.run(1)[0]
            for level, top, left, height, width, y, x in pieces:
                rows = slice(y // STRIDE, (y + height - CELL) // STRIDE + 1)
                columns = slice(x // STRIDE, (x + width - CELL) // STRIDE + 1)
                down, across = np.nonzero(outputs[-1, rows, columns] > least)
                offsets = outputs[:, rows, columns][:, down, across]
                corner = np.stack([left + STRIDE * across, top + STRIDE * down], axis=1)
                cells = np.concatenate([corner, corner + CELL], axis=1).astype(np.float64)
                found[level].append(Cells(cells, sigmoid(offsets[-1]), offsets[:-1].T))
        return [Cells(*map(np.concatenate, zip(*its))) for its in found]

    def _refine(self, images: Sequence[np.ndarray], proposals: List[np.ndarray]) -> List[np.ndarray]:
        """Return the proposals that R-net accepts, refined, as square boxes (n, 4) for each image."""
        refined = []
        for boxes, outputs in zip(proposals, self._run_on_boxes("rnet", images, proposals)):
            scores = sigmoid(outputs[:, -1])
            face = scores > self.thresholds[1]
            boxes, offsets, scores = boxes[face], outputs[face, :4], scores[face]
            kept = nms(boxes, scores, ACROSS_LEVELS)
            refined.append(make_square(move(boxes[kept], offsets[kept])))
        return refined

    def _finish(self, images: Sequence[np.ndarray], refined: List[np.ndarray]) -> List[Faces]:
        """Return the boxes that O-net accepts as faces, with landmarks, for each image."""
        found = []
        for image, boxes, outputs in zip(images, refined, self._run_on_boxes("onet", images, refined)):
            scores = sigmoid(outputs[:, -1])
            face = scores > self.thresholds[2]
            boxes, scores, offsets, points = boxes[face], scores[face], outputs[face, :4], outputs[face, 4:14]
            corner, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
            landmarks = corner + size * points.reshape(-1, 2, 5).transpose(0, 2, 1)
            boxes = move(boxes, offsets).clip(0, np.tile(image.shape[1::-1], 2))
            found.append(Faces(boxes, scores, landmarks).take(nms(boxes, scores, LAST, "min")))
        return found

    def _run_on_boxes(self, name: str, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Return the outputs (n, outputs) of R- or O-net for each image's boxes (n, 4)."""
        network = self.load()[name]
        outputs, waiting = [np.empty((0, network.outputs), np.float32)], 0
        for image, its in zip(images, boxes):
            while len(its):
                some, its = np.split(its, [len(network.data) - waiting])
                cut_patches(image, some, network.data[waiting : waiting + len(some)])
                waiting += len(some)
                if waiting == len(network.data):
                    outputs.append(network.run(waiting))
                    waiting = 0
        if waiting:
            outputs.append(network.run(waiting))
        return np.split(np.concatenate(outputs), np.cumsum(list(map(len, boxes)))[:-1])


def move(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return boxes (n, 4) with their corners moved by offsets (n, 4), in units of each box's width and height."""
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def make_square(boxes: np.ndarray) -> np.ndarray:
    """Return squares around the centres of boxes (n, 4), with the longer sides of the boxes."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def choose_largest(boxes: np.ndarray, count: Optional[int]) -> np.ndarray:
    """Return the indices, in the given order, of the `count` largest of boxes (n, 4); all for None."""
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.sort(np.argsort(-area, kind="stable")[:count])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits."""
    return 1 / (1 + np.exp(-logits))


def logit(probability: float) -> float:
    """Return the logit of a probability."""
    return math.log(probability / (1 - probability))


def shrink(image: np.ndarray, scale: float) -> np.ndarray:
    """Shrink an image to `scale` by area averaging; at scale 1 return it unchanged."""
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def enlarge(faces: Faces, scale: float) -> Faces:
    """Return faces of an image that was shrunk by `scale`, in pixels of the original image."""
    return faces if scale == 1 else Faces(faces.boxes / scale, faces.scores, (faces.landmarks + 0.5) / scale - 0.5)


def _check_max_side(max_side: Any) -> Optional[float]:
    is_number = isinstance(max_side, (int, float, np.number)) and max_side >= CELL
    if max_side is not None and not is_number:
        raise UsageError(f"max_side {max_side}: must be a number of pixels from {CELL} on, or None")
    return None if max_side is None else float(max_side)


def _check_min_face(min_face: Any) -> float:
    if not isinstance(min_face, (int, float, np.number)) or not CELL <= min_face < math.inf:
        raise UsageError(f"min_face {min_face}: must be a number of pixels from {CELL} on")
    return float(min_face)


def _check_thresholds(thresholds: Any) -> Tuple[float, ...]:
    try:
        numbers = tuple(map(float, thresholds))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(0 < number < 1 for number in numbers):
        raise UsageError(f"thresholds {thresholds}: must be three numbers between 0 and 1, for P-, R- and O-net")
    return numbers


def _check_boxes(boxes: Any, image: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise UsageError("boxes: not finite: a box must be four finite numbers")
    return boxes if image.size else boxes[:0]
