"""Cut out a face with its annotations, and paste it into a scene: rotated, scaled and blended at its border."""

from dataclasses import dataclass
from typing import Tuple

import cv2
import numpy as np

from agedge.landmarks import mirror

MIN_SCALE = 0.5  # smallest scale at which bilinear sampling does not alias


@dataclass
class Cutout:
    """An image (h, w, 3) BGR uint8 of a face: `boxes` (n, 4), `landmarks` (n, 5, 2), NaN if unknown, and `ignored`
    (n,) bool. The first face is the subject of the image; any others are in it by chance."""

    image: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray

    @property
    def side(self) -> float:
        """Return the side, in pixels, of a square with the area of the face's box."""
        return float(np.sqrt(np.prod(self.boxes[0, 2:] - self.boxes[0, :2])))

    def mirrored(self) -> "Cutout":
        """Return the mirror image."""
        boxes, landmarks = mirror(self.boxes, self.landmarks, self.image.shape[1])
        return Cutout(np.ascontiguousarray(self.image[:, ::-1]), boxes, landmarks, self.ignored)

    def shrunk(self, scale: float) -> "Tuple[Cutout, float]":
        """Return a cutout of lower resolution if `scale` would alias, and the remaining scale."""
        if scale >= MIN_SCALE:
            return self, scale
        zoom = scale / MIN_SCALE
        height, width = (max(2, round(side * zoom)) for side in self.image.shape[:2])
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
        zooms = np.array([width / self.image.shape[1], height / self.image.shape[0]])
        # A pixel's centre lies at its integer coordinates.
        landmarks = (self.landmarks + 0.5) * zooms - 0.5
        return Cutout(image, self.boxes * np.tile(zooms, 2), landmarks, self.ignored), MIN_SCALE


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) matrix to points (..., 2)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def transform_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the bounding boxes (n, 4) of the ellipses in boxes (n, 4), transformed by a (2, 3) matrix."""
    centre = transform_points((boxes[:, :2] + boxes[:, 2:]) / 2, matrix)
    half = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (matrix[:, :2] ** 2).T)
    return np.concatenate([centre - half, centre + half], axis=1)


def similarity(source: np.ndarray, target: np.ndarray, scale: float, degrees: float) -> np.ndarray:
    """Return the (2, 3) matrix that maps the point `source` to `target`, and scales and rotates about it."""
    angle = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, target - linear @ source])


def stretch(matrix: np.ndarray, middle: np.ndarray, height: float) -> np.ndarray:
    """Return a (2, 3) matrix that also scales the height of the image by `height`, around its point `middle`."""
    linear = matrix[:, :2] * (1, height)
    return np.column_stack([linear, transform_points(middle, matrix) - linear @ middle])


def oval_mask(cutout: Cutout, rng: np.random.Generator) -> np.ndarray:
    """Return a mask (h, w) float32 of the head: an ellipse somewhat larger than the face, with a soft edge."""
    height, width = cutout.image.shape[:2]
    (x1, y1), (x2, y2) = cutout.boxes[0].reshape(2, 2)
    wide, high = (x2 - x1) * rng.uniform(0.6, 0.85), (y2 - y1) * rng.uniform(0.62, 0.85)
    x = (np.arange(width, dtype=np.float32) - (x1 + x2) / 2) / wide
    y = (np.arange(height, dtype=np.float32) - (y1 + y2) / 2 + 0.08 * (y2 - y1)) / high
    softness = rng.uniform(0.03, 0.3)
    return np.clip((1 - np.sqrt(x[None] ** 2 + y[:, None] ** 2)) / softness + 0.5, 0, 1) * frame_mask(cutout, 0.04)


def frame_mask(cutout: Cutout, softness: float) -> np.ndarray:
    """Return a mask (h, w) float32 of the image, soft at its edges over a share `softness` of its sides; 0: hard."""
    ramps = []
    for side in cutout.image.shape[:2]:
        place = (np.arange(side, dtype=np.float32) + 0.5) / side
        ramps.append(np.clip(np.minimum(place, 1 - place) / max(softness, 1e-6), 0, 1))
    return ramps[0][:, None] * ramps[1][None]


def paste(canvas: np.ndarray, cutout: Cutout, mask: np.ndarray, matrix: np.ndarray) -> None:
    """Transform a cutout and its mask (h, w) by a (2, 3) matrix and blend it into the canvas (H, W, 3), in place."""
    height, width = cutout.image.shape[:2]
    corners = transform_points(np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64), matrix)
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
    """Set ground = alpha * image + (1 - alpha) * ground, in place: (h, w, 3) uint8 each, alpha (h, w) in 0..1."""
    weights = np.asarray(alpha, np.float32), np.asarray(1 - alpha, np.float32)
    ground[:] = cv2.blendLinear(image, ground, *weights)
