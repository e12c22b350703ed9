"""MTCNN: faces and five landmarks by a cascade of three small networks (Zhang et al., IEEE SPL 2016), run by MXNet.

P-net looks at every place of an image pyramid, R-net at what P-net proposes, O-net at what R-net leaves.
"""

import cv2
import numpy as np

from agedge.errors import UsageError
from agedge.faces.boxes import nms
from agedge.faces.detection import Faces

CELL, STRIDE = 12, 2  # P-net sees 12x12 pixels at every second place
FACTOR = 0.709  # from one level of the pyramid to the next: half the area
SAME_LEVEL, ACROSS_LEVELS, LAST = 0.5, 0.7, 0.7  # NMS thresholds, of the paper's authors' code
# P-net runs on canvases with these sides, and R- and O-net on batches of these sizes, so that MXNet, which keeps an
# executor a shape, stays small whatever photographs come. A level larger than a canvas is cut into overlapping tiles.
SIDES = (24, 32, 48, 64, 96, 128, 192, 256)
BATCHES = (4, 16, 64)


class MTCNN:
    """The detector of `--det 0`. `min_face`: the side, in pixels, of the smallest face to look for.

    Networks are loaded at the first `detect`, in the process that calls it. Raises `AgedgeError` where the weights are
    missing or are not the known ones.
    """

    def __init__(self, min_face: float = 40, thresholds=(0.6, 0.7, 0.8), weights=None):
        if min_face < CELL:
            raise UsageError(f"min_face {min_face}: MTCNN sees faces from {CELL} pixels on")
        self.min_face, self.thresholds, self.weights = min_face, tuple(thresholds), weights
        self._nets = None

    def __getstate__(self):
        return {**self.__dict__, "_nets": None}

    def load(self) -> dict:
        """The three networks, read once a process."""
        if self._nets is None:
            from agedge.faces.mtcnn_nets import Net

            self._nets = {
                "pnet": Net("pnet", (1, 3, SIDES[-1], SIDES[-1]), self.weights),
                "rnet": Net("rnet", (BATCHES[-1], 3, 24, 24), self.weights),
                "onet": Net("onet", (BATCHES[-1], 3, 48, 48), self.weights),
            }
        return self._nets

    def detect(self, image: np.ndarray) -> Faces:
        """The faces of a BGR uint8 image (h, w, 3), best score first."""
        proposals = self._propose(image)
        return self._finish(image, self._refine(image, proposals))

    def _propose(self, image: np.ndarray) -> np.ndarray:
        """P-net: square boxes (n, 4) worth a closer look."""
        boxes, scores, offsets = [], [], []
        scale = CELL / self.min_face
        while min(image.shape[:2]) * scale >= CELL:
            cells, score, offset = self._scan(resize(image, scale))
            kept = nms(cells, score, SAME_LEVEL)
            boxes.append(cells[kept] / scale)
            scores.append(score[kept])
            offsets.append(offset[kept])
            scale *= FACTOR
        if not boxes:
            return np.empty((0, 4))
        boxes, scores, offsets = map(np.concatenate, (boxes, scores, offsets))
        kept = nms(boxes, scores, ACROSS_LEVELS)
        return make_square(move(boxes[kept], offsets[kept]))

    def _scan(self, level: np.ndarray) -> tuple:
        """P-net over one level of the pyramid: cells (n, 4) in the level's pixels, scores (n,), offsets (n, 4)."""
        found = []
        for top, height in cut(level.shape[0]):
            for left, width in cut(level.shape[1]):
                tile = level[top : top + height, left : left + width]
                canvas = np.zeros((1, 3, round_up(height, SIDES), round_up(width, SIDES)), np.float32)
                canvas[0, :, : tile.shape[0], : tile.shape[1]] = normalise(tile)
                offset, score = self.load()["pnet"].run(canvas)
                rows, columns = ((side - CELL) // STRIDE + 1 for side in tile.shape[:2])
                y, x = np.nonzero(score[0, 1, :rows, :columns] > self.thresholds[0])
                corner = np.stack([left + STRIDE * x, top + STRIDE * y], axis=1)
                cells = np.concatenate([corner, corner + CELL], axis=1).astype(np.float64)
                found.append((cells, score[0, 1, y, x], offset[0, :, y, x]))
        return tuple(map(np.concatenate, zip(*found)))

    def _refine(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """R-net: the square boxes (n, 4) among the proposals in which it sees a face."""
        offsets, scores = self._look("rnet", image, boxes, 24)
        face = scores[:, 1] > self.thresholds[1]
        boxes, offsets, scores = boxes[face], offsets[face], scores[face, 1]
        kept = nms(boxes, scores, ACROSS_LEVELS)
        return make_square(move(boxes[kept], offsets[kept]))

    def _finish(self, image: np.ndarray, boxes: np.ndarray) -> Faces:
        """O-net: the faces among the boxes, with landmarks."""
        offsets, points, scores = self._look("onet", image, boxes, 48)
        face = scores[:, 1] > self.thresholds[2]
        boxes, offsets, scores, points = boxes[face], offsets[face], scores[face, 1], points[face]
        corner, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
        landmarks = corner + size * points.reshape(-1, 2, 5).transpose(0, 2, 1)
        boxes = move(boxes, offsets).clip(0, np.tile(image.shape[1::-1], 2))
        return Faces(boxes, scores, landmarks).take(nms(boxes, scores, LAST, "min"))

    def _look(self, name: str, image: np.ndarray, boxes: np.ndarray, side: int) -> list:
        """The outputs of R- or O-net for the image's boxes (n, 4)."""
        from agedge.faces.mtcnn_nets import HEADS

        outputs = [[np.empty((0, width), np.float32)] for width in HEADS[name].values()]
        for start in range(0, len(boxes), BATCHES[-1]):
            chunk = boxes[start : start + BATCHES[-1]]
            batch = np.zeros((round_up(len(chunk), BATCHES), 3, side, side), np.float32)
            for patch, box in zip(batch, chunk):
                patch[:] = normalise(cut_out(image, box, side))
            for output, values in zip(outputs, self.load()[name].run(batch)):
                output.append(values[: len(chunk)])
        return list(map(np.concatenate, outputs))


def normalise(image: np.ndarray) -> np.ndarray:
    """A BGR uint8 image as (3, h, w) float32, RGB: of the 62 faces of the development photographs these weights find
    94% in RGB and 60% in BGR."""
    return (image[..., ::-1].transpose(2, 0, 1).astype(np.float32) - 127.5) / 128


def resize(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(CELL, int(np.ceil(side * scale))) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def cut(length: int) -> list:
    """(start, length) of tiles no longer than the largest canvas that together show every cell of `length` pixels."""
    overlap = CELL - STRIDE
    tiles = max(1, -(-(length - overlap) // (SIDES[-1] - overlap)))
    step = -(-(length - overlap) // tiles)
    step += step % STRIDE
    return [(start, min(step + overlap, length - start)) for start in range(0, length - overlap, step)]


def round_up(length: int, ladder: tuple) -> int:
    return next(step for step in ladder if step >= length)


def move(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) with their corners moved by offsets (n, 4), in units of each box's width and height."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.tile(size, 2)


def make_square(boxes: np.ndarray) -> np.ndarray:
    """Squares about the centres of boxes (n, 4), as large as their longer sides."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def cut_out(image: np.ndarray, box: np.ndarray, side: int) -> np.ndarray:
    """The box of the image at (side, side, 3), the border replicated where it leaves the image."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.round(box).astype(int)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if not inside.size:
        return np.zeros((side, side, 3), np.uint8)
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        sides = (max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0))
        inside = cv2.copyMakeBorder(inside, *sides, cv2.BORDER_REPLICATE)
    shrinks = inside.shape[0] > side
    return cv2.resize(inside, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
