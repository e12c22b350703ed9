"""Draw antialiased shapes, given in face units, on an image of any resolution.

Face units are the pixels of the final image, with the origin midway between the eyes of an unposed face. The pen turns
the head (yaw, by a depth for every point) and lays the result on the crop's template, as alignment would.
"""

from functools import lru_cache
from typing import Sequence, Tuple, Union

import cv2
import numpy as np

from agedge.crop import Crop

SIZE = 160  # pixels of the final image
MARGIN = 0.3  # of the crop: hair and chin are in the image
TEMPLATE = Crop.named("arcface", SIZE, MARGIN).points
SHIFT = 4  # binary digits after the point that OpenCV's shapes take
# The head as half an ellipsoid on the plane of its outline, in face units; the tip of the nose stands out from it.
DEPTH, HALF_WIDTH, HALF_HEIGHT, NOSE_LIFT = 40.0, 50.0, 85.0, 12.0

Points = Union[np.ndarray, Sequence]  # (n, 2), or (2,) where one point is meant
Lift = Union[float, np.ndarray]
Colour = Union[float, np.ndarray, Sequence[float]]  # B, G, R, or a grey level


class Pen:
    """Draws in face units on square images whose side is a multiple of `SIZE`."""

    def __init__(self, landmarks: np.ndarray, yaw: float = 0.0, pose: complex = 1.0, shift: Points = (0.0, 0.0)):
        """Fit `landmarks` (5, 2) in face units to the template as well as a similarity can; then the `pose` (a complex
        number: scale and roll about the image's centre) and the `shift` in pixels. `yaw` in radians."""
        self.cos, self.sin = np.cos(yaw), np.sin(yaw)
        lift = np.array([0, 0, NOSE_LIFT, 0, 0])
        turn, move = fit_similarity(self._turn(landmarks, lift), TEMPLATE)
        centre = complex(SIZE / 2, SIZE / 2)
        turn, move = turn * pose, (move - centre) * pose + centre + complex(*shift)
        self.scale = abs(turn)
        self.matrix = np.array([(turn.real, turn.imag), (-turn.imag, turn.real)])
        self.move = np.array([move.real, move.imag])
        self.landmarks = self.project(landmarks, lift)

    def _turn(self, points: Points, lift: Lift = 0.0) -> np.ndarray:
        turned = np.array(points, np.float64)
        x, y = turned[:, 0], turned[:, 1] - 2
        depth = DEPTH * np.sqrt(np.maximum(1 - x * x * (1 / HALF_WIDTH**2) - y * y * (1 / HALF_HEIGHT**2), 0)) + lift
        turned[:, 0] = x * self.cos + depth * self.sin
        return turned

    def project(self, points: Points, lift: Lift = 0.0) -> np.ndarray:
        """Project points (n, 2) in face units to pixels of the final image; `lift` raises them, like a nose."""
        return self._turn(points, lift) @ self.matrix + self.move

    def _fixed(self, image: np.ndarray, points: Points, lift: Lift = 0.0) -> np.ndarray:
        scale = image.shape[0] / SIZE
        finer = (self.project(points, lift) + 0.5) * scale - 0.5  # integers are the centres of pixels
        return np.rint(finer * (1 << SHIFT)).astype(np.int32)

    def fill(self, image: np.ndarray, points: Points, colour: Colour, lift: Lift = 0.0) -> None:
        """Fill a polygon (n, 2)."""
        cv2.fillPoly(image, [self._fixed(image, points, lift)], _scalar(colour), cv2.LINE_AA, SHIFT)

    def line(
        self, image: np.ndarray, points: Points, colour: Colour, width: float, lift: Lift = 0.0, closed: bool = False
    ) -> None:
        """Draw a line through points (n, 2); `width` in face units."""
        thick = max(1, round(width * self.scale * image.shape[0] / SIZE))
        cv2.polylines(image, [self._fixed(image, points, lift)], closed, _scalar(colour), thick, cv2.LINE_AA, SHIFT)

    def lines(self, image: np.ndarray, many: np.ndarray, colour: Colour, width: float) -> None:
        """Draw lines (lines, n, 2) of equally many points in one colour."""
        fixed = self._fixed(image, many.reshape(-1, 2)).reshape(many.shape)
        thick = max(1, round(width * self.scale * image.shape[0] / SIZE))
        cv2.polylines(image, list(fixed), False, _scalar(colour), thick, cv2.LINE_AA, SHIFT)

    def spot(
        self,
        image: np.ndarray,
        centre: Points,
        radius: float,
        colour: Colour,
        flat: float = 1.0,
        lift: Lift = 0.0,
    ) -> None:
        """Fill a disc; `flat` is its height as a share of its width."""
        self.fill(image, ring(centre, radius, radius * flat), colour, lift)


def _scalar(colour: Colour) -> Sequence[float]:
    return [float(value) for value in np.atleast_1d(colour)]


def fit_similarity(points: np.ndarray, targets: np.ndarray) -> Tuple[complex, complex]:
    """Fit (turn, move) by least squares, in complex numbers: targets ~ points * turn + move."""
    p, t = points @ (1, 1j), targets @ (1, 1j)
    centred = p - p.mean()
    turn = np.vdot(centred, t - t.mean()) / np.vdot(centred, centred)
    return turn, t.mean() - turn * p.mean()


def ring(centre: Points, rx: float, ry: float, steps: int = 20) -> np.ndarray:
    """Return an ellipse as points (steps, 2)."""
    return np.asarray(centre) + _circle(steps) * (rx, ry)


@lru_cache(maxsize=8)
def _circle(steps: int) -> np.ndarray:
    angle = np.arange(steps) * (2 * np.pi / steps)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def curve(points: Points, closed: bool = False, steps: int = 6) -> np.ndarray:
    """Return a Catmull-Rom spline through points (n, 2)."""
    points = np.asarray(points, np.float64)
    if closed:
        knots = np.concatenate([points[-1:], points, points[:2]])
    else:
        knots = np.concatenate([points[:1], points, points[-1:]])
    windows = np.stack([knots[i : len(knots) - 3 + i] for i in range(4)], 1)  # (segments, 4, 2)
    path = np.einsum("sk,nkd->nsd", _basis(steps), windows).reshape(-1, 2)
    return path if closed else np.concatenate([path, points[-1:]])


@lru_cache(maxsize=8)
def _basis(steps: int) -> np.ndarray:
    t = np.arange(steps)[:, None] / steps
    return 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2])


def mirrored(right: Points) -> np.ndarray:
    """Return a closed outline from its right half, given from the top (x = 0) to the bottom (x = 0)."""
    right = np.asarray(right, np.float64)
    return np.concatenate([right, right[-2:0:-1] * (-1, 1)])


def arch(right: Points) -> np.ndarray:
    """Return an open line from left to right, from its right half, given from the middle (x = 0) outward."""
    right = np.asarray(right, np.float64)
    return np.concatenate([right[:0:-1] * (-1, 1), right])
