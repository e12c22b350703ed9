"""MTCNN: faces and five landmarks by a cascade of three small networks (Zhang et al., IEEE SPL 2016), run by MXNet.

P-net looks at every place of an image pyramid, R-net at what P-net proposes, O-net at what R-net leaves. All images
of a call share the networks' batches.
"""

import math
from typing import List, Optional, Sequence

import cv2
import numpy as np

from agedge.errors import UsageError
from agedge.faces.boxes import nms
from agedge.faces.detector import Faces, check_image, check_max_faces, check_min_score
from agedge.faces.mtcnn.pyramid import CANVAS, CELL, STRIDE, pack, shrink_levels
from agedge.faces.patches import cut_patches
from agedge.faces.per_process import OwnNetworks

SAME_LEVEL, ACROSS_LEVELS, LAST = 0.5, 0.7, 0.7  # NMS thresholds, of the paper's authors' code
# Batch sizes and input sides of the networks. MXNet keeps an executor for each size; larger ones are slower a face.
NETS = {"pnet": ((1,), CANVAS), "rnet": ((4, 16, 32), 24), "onet": ((1, 2, 4), 48)}


class MTCNN(OwnNetworks):
    """The detector of `--det 0`.

    `min_face`: the side, in pixels, of the smallest face to look for. `thresholds`: the least probability of a face for
    P-, R- and O-net. `max_faces`: how many faces of an image at most, the largest of them. `min_score`: faces with
    lower scores are left out. `max_side`: a larger image is shrunk to that longer side first, which bounds the time;
    `min_face` still counts pixels of the image as it is given.

    Networks are loaded at the first call, once in each process; a forked one refuses with several CPU threads. Threads
    take turns. Raises `UsageError` on other options, and at the first call `AgedgeError` where the weights are missing
    or are not the known ones.
    """

    # None of 479 faces found in turned pictures had it (0.9989 at most), 635 of 1,057 in upright ones.
    sure_score = 0.9995

    def __init__(
        self,
        min_face: float = 40,
        thresholds=(0.6, 0.7, 0.8),
        max_faces: Optional[int] = None,
        weights=None,
        min_score: float = 0,
        max_side: Optional[int] = None,
    ):
        self.min_face, self.thresholds = _check_min_face(min_face), _check_thresholds(thresholds)
        self.max_faces, self.weights = check_max_faces(max_faces), weights
        self.min_score, self.max_side = check_min_score(min_score), _check_max_side(max_side)
        super().__init__()

    def detect(self, image: np.ndarray) -> Faces:
        """The faces of an image, best score first: BGR uint8 (h, w, 3), or what `check_image` makes that of."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray], min_face: Optional[float] = None) -> List[Faces]:
        """`Faces` for each of several images, of any sizes, which is several times as fast for small ones.
        `min_face`: another smallest side for this call."""
        min_face = self.min_face if min_face is None else _check_min_face(min_face)
        images = list(map(check_image, images))
        scales = [self._scale(image) for image in images]
        images = [shrink(image, scale) for image, scale in zip(images, scales)]
        with self.own().lock:
            found = self._finish(images, self._refine(images, self._propose(images, min_face, scales)))
        return [self._choose(enlarge(faces, scale)) for faces, scale in zip(found, scales)]

    def detect_at(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> List[Faces]:
        """`Faces` for each image where its boxes (n, 4) say that faces may be, without a search of the image.

        For images whose face is known to lie near a place: ten times as fast, and found as often; how exactly, says
        benchmarks/first_look.py. Raises `UsageError` where the boxes are not finite.
        """
        images = list(map(check_image, images))
        boxes = [_check_boxes(its, image) for its, image in zip(boxes, images)]
        return list(map(self._choose, self._find_at(images, boxes)))

    def detect_middle(self, views: np.ndarray, side: float) -> List[Faces]:
        """`Faces` of each of the views (n, s, s, 3) in whose middle one of about `side` pixels may be, whatever its
        score."""
        half = np.array([1, 1.4]) * side / 2  # a box about features alone, and one about the head
        middle = views.shape[1] / 2
        boxes = np.stack([middle - half, middle - half, middle + half, middle + half], axis=1)
        return self._find_at(views, [boxes] * len(views))

    def _find_at(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> List[Faces]:
        with self.own().lock:
            return self._finish(images, self._refine(images, list(map(make_square, boxes))))

    def _scale(self, image: np.ndarray) -> float:
        """At which an image is looked at."""
        return min(1, self.max_side / max(image.shape[:2])) if self.max_side and image.size else 1

    def _choose(self, faces: Faces) -> Faces:
        faces = faces.take(faces.scores >= self.min_score)
        return faces.take(choose_largest(faces.boxes, self.max_faces))

    def open_networks(self) -> dict:
        from agedge.faces.mtcnn.graphs import Net

        return {name: Net(name, sizes, side, self.weights) for name, (sizes, side) in NETS.items()}

    def _propose(self, images: Sequence[np.ndarray], min_face: float, scales: Sequence[float]) -> list:
        """P-net: square boxes (n, 4) worth a closer look, for each image, that was shrunk by its scale before."""
        pyramids = [shrink_levels(image, max(CELL, min_face * scale)) for image, scale in zip(images, scales)]
        found = iter(self._scan([level for pyramid in pyramids for _, level in pyramid]))
        proposals = []
        for pyramid in pyramids:
            boxes, scores, offsets = [np.empty((0, 4))], [np.empty(0)], [np.empty((0, 4))]
            for (scale, _), (cells, score, offset) in zip(pyramid, found):
                kept = nms(cells, score, SAME_LEVEL)
                boxes.append(cells[kept] / scale)
                scores.append(score[kept])
                offsets.append(offset[kept])
            boxes, scores, offsets = map(np.concatenate, (boxes, scores, offsets))
            kept = nms(boxes, scores, ACROSS_LEVELS)
            proposals.append(make_square(move(boxes[kept], offsets[kept])))
        return proposals

    def _scan(self, levels: List[np.ndarray]) -> list:
        """P-net over pyramid levels: for each, cells (n, 4) in the level's pixels, scores (n,), offsets (n, 4)."""
        net, least = self.load()["pnet"], logit(self.thresholds[0])
        found = [[(np.empty((0, 4)), np.empty(0), np.empty((0, 4)))] for _ in levels]
        for pieces in pack([level.shape[1:] for level in levels]):
            for level, top, left, height, width, y, x in pieces:
                piece = levels[level][:, top : top + height, left : left + width]
                net.data[0, :, y : y + height, x : x + width] = piece
            outputs = net.run(1)[0]
            for level, top, left, height, width, y, x in pieces:
                rows = slice(y // STRIDE, (y + height - CELL) // STRIDE + 1)
                columns = slice(x // STRIDE, (x + width - CELL) // STRIDE + 1)
                down, across = np.nonzero(outputs[-1, rows, columns] > least)
                offsets = outputs[:, rows, columns][:, down, across]
                corner = np.stack([left + STRIDE * across, top + STRIDE * down], axis=1)
                cells = np.concatenate([corner, corner + CELL], axis=1).astype(np.float64)
                found[level].append((cells, sigmoid(offsets[-1]), offsets[:-1].T))
        return [tuple(map(np.concatenate, zip(*parts))) for parts in found]

    def _refine(self, images: Sequence[np.ndarray], proposals: list) -> list:
        """R-net: of each image's proposals the square boxes (n, 4) in which it sees a face."""
        refined = []
        for boxes, outputs in zip(proposals, self._look("rnet", images, proposals)):
            scores = sigmoid(outputs[:, -1])
            face = scores > self.thresholds[1]
            boxes, offsets, scores = boxes[face], outputs[face, :4], scores[face]
            kept = nms(boxes, scores, ACROSS_LEVELS)
            refined.append(make_square(move(boxes[kept], offsets[kept])))
        return refined

    def _finish(self, images: Sequence[np.ndarray], refined: list) -> List[Faces]:
        """O-net: the faces among each image's boxes, with landmarks."""
        found = []
        for image, boxes, outputs in zip(images, refined, self._look("onet", images, refined)):
            scores = sigmoid(outputs[:, -1])
            face = scores > self.thresholds[2]
            boxes, scores, offsets, points = boxes[face], scores[face], outputs[face, :4], outputs[face, 4:14]
            corner, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
            landmarks = corner + size * points.reshape(-1, 2, 5).transpose(0, 2, 1)
            boxes = move(boxes, offsets).clip(0, np.tile(image.shape[1::-1], 2))
            found.append(Faces(boxes, scores, landmarks).take(nms(boxes, scores, LAST, "min")))
        return found

    def _look(self, name: str, images: Sequence[np.ndarray], boxes: list) -> list:
        """The outputs (n, outputs) of R- or O-net for each image's boxes (n, 4)."""
        net = self.load()[name]
        outputs, waiting = [np.empty((0, net.outputs), np.float32)], 0
        for image, its in zip(images, boxes):
            while len(its):
                some, its = np.split(its, [len(net.data) - waiting])
                cut_patches(image, some, net.data[waiting : waiting + len(some)])
                waiting += len(some)
                if waiting == len(net.data):
                    outputs.append(net.run(waiting))
                    waiting = 0
        if waiting:
            outputs.append(net.run(waiting))
        return np.split(np.concatenate(outputs), np.cumsum(list(map(len, boxes)))[:-1])


def move(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) with their corners moved by offsets (n, 4), in units of each box's width and height."""
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def make_square(boxes: np.ndarray) -> np.ndarray:
    """Squares about the centres of boxes (n, 4), as large as their longer sides."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def choose_largest(boxes: np.ndarray, count: Optional[int]) -> np.ndarray:
    """The indices, in the given order, of the `count` largest of boxes (n, 4); all for none."""
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.sort(np.argsort(-area, kind="stable")[:count])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def shrink(image: np.ndarray, scale: float) -> np.ndarray:
    """An image at `scale`, averaged; itself at 1."""
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def enlarge(faces: Faces, scale: float) -> Faces:
    """Faces of an image that was shrunk by `scale`, in the image."""
    return faces if scale == 1 else Faces(faces.boxes / scale, faces.scores, (faces.landmarks + 0.5) / scale - 0.5)


def _check_max_side(max_side) -> Optional[float]:
    is_number = isinstance(max_side, (int, float, np.number)) and max_side >= CELL
    if max_side is not None and not is_number:
        raise UsageError(f"max_side {max_side}: a number of pixels from {CELL} on, or none")
    return max_side


def _check_min_face(min_face) -> float:
    if not isinstance(min_face, (int, float, np.number)) or not CELL <= min_face < math.inf:
        raise UsageError(f"min_face {min_face}: MTCNN sees faces from {CELL} pixels on")
    return float(min_face)


def _check_thresholds(thresholds) -> tuple:
    try:
        numbers = tuple(map(float, thresholds))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(0 < number < 1 for number in numbers):
        raise UsageError(f"thresholds {thresholds}: three numbers between 0 and 1, for P-, R- and O-net")
    return numbers


def _check_boxes(boxes, image: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise UsageError("boxes: not finite: a place to look at has four numbers")
    return boxes if image.size else boxes[:0]
