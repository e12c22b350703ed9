"""MTCNN: faces and five landmarks by a cascade of three small networks (Zhang et al., IEEE SPL 2016), run by MXNet.

P-net looks at every place of an image pyramid, R-net at what P-net proposes, O-net at what R-net leaves.
"""

from typing import Iterator, Optional, Sequence

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
BATCHES = (1, 2, 4, 8, 16, 32, 64)


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
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray], min_face: Optional[float] = None) -> list:
        """`Faces` for each of several images, of any sizes: their tiles and boxes share the networks' batches, which is
        several times as fast for small images. `min_face`: another smallest side for this call."""
        if not images:
            return []
        return self.detect_at(images, self._propose(images, max(CELL, min_face or self.min_face)))

    def detect_at(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list:
        """`Faces` for each image where its boxes (n, 4) say that faces may be, without a search of the image.

        For images whose face is known to lie near a place: ten times as fast, and found as often; how exactly, says
        benchmarks/first_look.py.
        """
        return self._finish(images, self._refine(images, list(map(make_square, boxes))))

    def _propose(self, images: Sequence[np.ndarray], min_face: float) -> list:
        """P-net: square boxes (n, 4) worth a closer look, for each image."""
        levels, scales = [], []
        for owner, image in enumerate(images):
            scale = CELL / min_face
            while min(image.shape[:2]) * scale >= CELL:
                levels.append((owner, resize(image, scale)))
                scales.append(scale)
                scale *= FACTOR
        found = [[] for _ in images]
        for (owner, _), scale, (cells, score, offset) in zip(
            levels, scales, self._scan([level for _, level in levels])
        ):
            kept = nms(cells, score, SAME_LEVEL)
            found[owner].append((cells[kept] / scale, score[kept], offset[kept]))
        return [self._join(levels) for levels in found]

    def _join(self, levels: list) -> np.ndarray:
        """One image's proposals, from those of its levels."""
        if not levels:
            return np.empty((0, 4))
        boxes, scores, offsets = map(np.concatenate, zip(*levels))
        kept = nms(boxes, scores, ACROSS_LEVELS)
        return make_square(move(boxes[kept], offsets[kept]))

    def _scan(self, levels: list) -> list:
        """P-net over pyramid levels: for each, cells (n, 4) in the level's pixels, scores (n,), offsets (n, 4)."""
        tiles = {}  # by the canvas they fit on
        for number, level in enumerate(levels):
            for top, height in cut(level.shape[0]):
                for left, width in cut(level.shape[1]):
                    canvas = (round_up(height, SIDES), round_up(width, SIDES))
                    tiles.setdefault(canvas, []).append(
                        (number, left, top, level[top : top + height, left : left + width])
                    )
        found = [[(np.empty((0, 4)), np.empty(0), np.empty((0, 4)))] for _ in levels]
        for (height, width), places in tiles.items():
            # No batch is larger than the largest canvas, whose memory it shares.
            at_once = max(size for size in BATCHES if size * height * width <= SIDES[-1] ** 2)
            for chunk in chunks_of(places, at_once):
                batch = np.zeros((round_up(len(chunk), BATCHES), 3, height, width), np.float32)
                for canvas, (*_, tile) in zip(batch, chunk):
                    canvas[:, : tile.shape[0], : tile.shape[1]] = normalise(tile)
                offsets, scores = self.load()["pnet"].run(batch)
                for (number, left, top, tile), offset, score in zip(chunk, offsets, scores[:, 1]):
                    rows, columns = ((side - CELL) // STRIDE + 1 for side in tile.shape[:2])
                    y, x = np.nonzero(score[:rows, :columns] > self.thresholds[0])
                    corner = np.stack([left + STRIDE * x, top + STRIDE * y], axis=1)
                    cells = np.concatenate([corner, corner + CELL], axis=1).astype(np.float64)
                    found[number].append((cells, score[y, x], offset[:, y, x].T))
        return [tuple(map(np.concatenate, zip(*places))) for places in found]

    def _refine(self, images: Sequence[np.ndarray], proposals: list) -> list:
        """R-net: of each image's proposals the square boxes (n, 4) in which it sees a face."""
        refined = []
        for boxes, (offsets, scores) in zip(proposals, self._look("rnet", images, proposals, 24)):
            face = scores[:, 1] > self.thresholds[1]
            boxes, offsets, scores = boxes[face], offsets[face], scores[face, 1]
            kept = nms(boxes, scores, ACROSS_LEVELS)
            refined.append(make_square(move(boxes[kept], offsets[kept])))
        return refined

    def _finish(self, images: Sequence[np.ndarray], refined: list) -> list:
        """O-net: the faces among each image's boxes, with landmarks."""
        faces = []
        for image, boxes, (offsets, points, scores) in zip(images, refined, self._look("onet", images, refined, 48)):
            face = scores[:, 1] > self.thresholds[2]
            boxes, offsets, scores, points = boxes[face], offsets[face], scores[face, 1], points[face]
            corner, size = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
            landmarks = corner + size * points.reshape(-1, 2, 5).transpose(0, 2, 1)
            boxes = move(boxes, offsets).clip(0, np.tile(image.shape[1::-1], 2))
            faces.append(Faces(boxes, scores, landmarks).take(nms(boxes, scores, LAST, "min")))
        return faces

    def _look(self, name: str, images: Sequence[np.ndarray], boxes: list, side: int) -> Iterator[list]:
        """The outputs of R- or O-net for each image's boxes (n, 4)."""
        from agedge.faces.mtcnn_nets import HEADS

        places = [(image, box) for image, its in zip(images, boxes) for box in its]
        outputs = [[np.empty((0, width), np.float32)] for width in HEADS[name].values()]
        for chunk in chunks_of(places, BATCHES[-1]):
            batch = np.zeros((round_up(len(chunk), BATCHES), 3, side, side), np.float32)
            for patch, (image, box) in zip(batch, chunk):
                patch[:] = normalise(cut_out(image, box, side))
            for output, values in zip(outputs, self.load()[name].run(batch)):
                output.append(values[: len(chunk)])
        outputs, end = list(map(np.concatenate, outputs)), 0
        for its in boxes:
            start, end = end, end + len(its)
            yield [output[start:end] for output in outputs]


def chunks_of(things: list, length: int) -> Iterator[list]:
    return (things[start : start + length] for start in range(0, len(things), length))


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
