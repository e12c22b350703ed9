"""A face, turned upright and cut out: one alignment for training and for use (the crop contract, see crop.py)."""

import cv2
import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.crop import Crop

SHARPEST = 0.5  # bilinear sampling does not alias down to half the size; smaller faces come from a shrunk image


def estimate_similarity(landmarks: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The (2, 3) matrix of rotation, scale and shift that takes landmarks (n, 2) closest to points (n, 2).

    Least squares in closed form: Umeyama's solution (PAMI 1991) without reflection, which in the plane is one division
    of complex numbers. Raises `AgedgeError` where the landmarks are one single point or not finite.
    """
    source, target = (np.asarray(array, np.float64) @ (1, 1j) for array in (landmarks, points))
    centred = source - source.mean()
    spread = np.vdot(centred, centred).real
    if not spread > 0 or not np.isfinite(spread):
        raise AgedgeError("landmarks: one single point or not finite: no face can be aligned by them")
    turn = np.vdot(centred, target - target.mean()) / spread
    shift = target.mean() - turn * source.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align(image: np.ndarray, landmarks: np.ndarray, crop: Crop) -> np.ndarray:
    """The face of an image (h, w, 3) with its landmarks (5, 2), pixels, as `crop` wants it: (size, size, 3).

    Borders are replicated. A face more than twice as large as the crop is shrunk by area first, so it does not alias.
    """
    matrix = estimate_similarity(landmarks, crop.points)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < SHARPEST:
        image, matrix = _shrink(image, matrix, crop.size, scale / SHARPEST)
    return cv2.warpAffine(image, matrix, (crop.size,) * 2, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _shrink(image: np.ndarray, matrix: np.ndarray, size: int, factor: float) -> tuple:
    """What the crop shows of the image, shrunk by `factor`, and the matrix that takes it to the crop."""
    corners = np.array([(-1, -1, 1), (size, -1, 1), (-1, size, 1), (size, size, 1)], np.float64)
    seen = corners @ np.linalg.inv(np.vstack([matrix, (0, 0, 1)])).T[:, :2]
    limit = np.array(image.shape[1::-1])
    pad = 2 / factor  # two pixels of the shrunk image
    x1, y1 = np.clip(np.floor(seen.min(axis=0) - pad), 0, limit - 1).astype(int)
    x2, y2 = np.clip(np.ceil(seen.max(axis=0) + pad), (x1 + 1, y1 + 1), limit).astype(int)
    width, height = (max(1, round((high - low) * factor)) for low, high in ((x1, x2), (y1, y2)))
    small = cv2.resize(image[y1:y2, x1:x2], (width, height), interpolation=cv2.INTER_AREA)
    # A pixel's centre lies at its integer coordinates: x of the image is (x - x1 + 0.5) * zoom - 0.5 of the small one.
    zoom = np.array([(x2 - x1) / width, (y2 - y1) / height])
    back = np.array([[zoom[0], 0, x1 + 0.5 * zoom[0] - 0.5], [0, zoom[1], y1 + 0.5 * zoom[1] - 0.5], [0, 0, 1]])
    return small, matrix @ back


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """The central square of an image (h, w, 3), at (size, size); what MXNet's reader shows of one in training."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return square
    # As `align` samples, so that a face packed whole looks like one that is aligned where the model is used.
    interpolation = cv2.INTER_AREA if size < SHARPEST * side else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=interpolation)
