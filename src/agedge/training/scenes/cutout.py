"""A face cut out of its picture and pasted into a scene: turned, scaled, its rim soft, its landmarks going along."""

from dataclasses import dataclass

import cv2
import numpy as np

from agedge.landmarks import mirror

SHARPEST = 0.5  # bilinear sampling does not alias down to half the size


@dataclass
class Cutout:
    """A picture (h, w, 3) BGR with its faces: `boxes` (n, 4), `landmarks` (n, 5, 2), NaN where not known, and
    `ignored` (n,) bool. The first is the one it shows; others may stand beside."""

    image: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray

    @property
    def side(self) -> float:
        """The side, in pixels, of a square as large as the face."""
        return float(np.sqrt(np.prod(self.boxes[0, 2:] - self.boxes[0, :2])))

    def mirrored(self) -> "Cutout":
        boxes, landmarks = mirror(self.boxes, self.landmarks, self.image.shape[1])
        return Cutout(np.ascontiguousarray(self.image[:, ::-1]), boxes, landmarks, self.ignored)

    def shrunk(self, scale: float) -> tuple:
        """The same at a coarser resolution, where `scale` would alias, and what is left to scale."""
        if scale >= SHARPEST:
            return self, scale
        zoom = scale / SHARPEST
        height, width = (max(2, round(side * zoom)) for side in self.image.shape[:2])
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
        zooms = np.array([width / self.image.shape[1], height / self.image.shape[0]])
        # A pixel's centre lies at its integer coordinates.
        landmarks = (self.landmarks + 0.5) * zooms - 0.5
        return Cutout(image, self.boxes * np.tile(zooms, 2), landmarks, self.ignored), SHARPEST


def turn(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (..., 2) taken along by a (2, 3) matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def turn_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Upright boxes (n, 4) about the ellipses in boxes (n, 4) after a (2, 3) matrix."""
    centre = turn((boxes[:, :2] + boxes[:, 2:]) / 2, matrix)
    half = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (matrix[:, :2] ** 2).T)
    return np.concatenate([centre - half, centre + half], axis=1)


def similarity(source: np.ndarray, target: np.ndarray, scale: float, degrees: float) -> np.ndarray:
    """The (2, 3) matrix that takes the point `source` to `target`, scaling and turning about it."""
    angle = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, target - linear @ source])


def stretch(matrix: np.ndarray, middle: np.ndarray, height: float) -> np.ndarray:
    """A (2, 3) matrix after which a picture is so many times as high, about the point `middle` of it."""
    linear = matrix[:, :2] * (1, height)
    return np.column_stack([linear, turn(middle, matrix) - linear @ middle])


def soft_oval(cutout: Cutout, chance: np.random.Generator) -> np.ndarray:
    """(h, w) float32 mask of the head: an ellipse somewhat larger than the face, soft at its rim."""
    height, width = cutout.image.shape[:2]
    (x1, y1), (x2, y2) = cutout.boxes[0].reshape(2, 2)
    wide, high = (x2 - x1) * chance.uniform(0.6, 0.85), (y2 - y1) * chance.uniform(0.62, 0.85)
    x = (np.arange(width, dtype=np.float32) - (x1 + x2) / 2) / wide
    y = (np.arange(height, dtype=np.float32) - (y1 + y2) / 2 + 0.08 * (y2 - y1)) / high
    softness = chance.uniform(0.03, 0.3)
    return np.clip((1 - np.sqrt(x[None] ** 2 + y[:, None] ** 2)) / softness + 0.5, 0, 1) * soft_frame(cutout, 0.04)


def soft_frame(cutout: Cutout, softness: float) -> np.ndarray:
    """(h, w) float32 mask of the whole picture, soft over a share of its sides; 0: hard."""
    ramps = []
    for side in cutout.image.shape[:2]:
        place = (np.arange(side, dtype=np.float32) + 0.5) / side
        ramps.append(np.clip(np.minimum(place, 1 - place) / max(softness, 1e-6), 0, 1))
    return ramps[0][:, None] * ramps[1][None]


def paste(canvas: np.ndarray, cutout: Cutout, mask: np.ndarray, matrix: np.ndarray) -> None:
    """Blend a cut-out, its mask (h, w) and all, into the canvas (H, W, 3) where the matrix takes it, in place."""
    height, width = cutout.image.shape[:2]
    corners = turn(np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64), matrix)
    x1, y1 = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    x2, y2 = np.minimum(np.ceil(corners.max(axis=0)).astype(int), canvas.shape[1::-1])
    if x2 <= x1 or y2 <= y1:
        return
    local = matrix - np.array([[0, 0, x1], [0, 0, y1]])
    size = (int(x2 - x1), int(y2 - y1))
    image = cv2.warpAffine(cutout.image, local, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(mask, local, size, flags=cv2.INTER_LINEAR)
    blend(canvas[y1:y2, x1:x2], image, alpha)


def blend(ground: np.ndarray, image: np.ndarray, alpha: np.ndarray) -> None:
    """ground = alpha * image + (1 - alpha) * ground, in place: (h, w, 3) uint8 each, alpha (h, w) in 0..1."""
    ground[:] = cv2.blendLinear(image, ground, np.float32(alpha), np.float32(1 - alpha))
