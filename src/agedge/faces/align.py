"""Align faces: rotate them upright and crop them, in the same way for training and prediction (see crop.py)."""

from typing import Tuple

import cv2
import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError

SHARPEST = 0.5  # bilinear sampling does not alias down to half the size; below, the image is shrunk first
SINGLE = 1e-12  # squared pixels: landmarks with a smaller spread are a single point
UNLIKE = 1e-6  # correlation with the crop's points below which no rotation fits
LONGEST = 32000  # pixels of a side that OpenCV can warp: its coordinates have 16 bits


def estimate_similarity(landmarks: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the (2, 3) matrix of rotation, scale and shift that maps landmarks (k, 2) closest to points (k, 2).

    Least squares in closed form: Umeyama's solution (PAMI 1991) without reflection, which in the plane is one division
    of complex numbers. Raises `AgedgeError` if the landmarks are a single point, not finite or so unlike the
    points (some mirrored shapes) that the best scale is zero.
    """
    return estimate_similarities(np.asarray(landmarks)[None], points)[0]


def estimate_similarities(landmarks: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the matrices (n, 2, 3) of `estimate_similarity` for the landmarks (n, k, 2) of n faces."""
    return _to_matrices(*_estimate(landmarks, points))


def _estimate(landmarks: np.ndarray, points: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return turns and shifts (n,), complex: a position z of the image is mapped to turn * z + shift."""
    source, target = (
        np.ascontiguousarray(array, np.float64).view(np.complex128)[..., 0] for array in (landmarks, points)
    )
    middle_of_target = target.mean()
    aim = target - middle_of_target
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        middle = source.mean(axis=1)
        centred = source - middle[:, None]
        spread = (centred.real**2 + centred.imag**2).sum(axis=1)
        turn = (centred.conj() * aim).sum(axis=1) / spread
        likeness = np.abs(turn) * np.sqrt(spread) / np.linalg.norm(aim)
    sound = (spread > SINGLE) & (likeness > UNLIKE) & np.isfinite(spread)
    if not sound.all():
        which = "landmarks" if len(sound) == 1 else f"landmarks of face {sound.argmin() + 1} of {len(sound)}"
        shape = "a single point, not finite or not the shape of a face"
        raise AgedgeError(f"{which}: {shape}: nothing can be aligned by them")
    return turn, middle_of_target - turn * middle


def _to_matrices(turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.stack([turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag], axis=1).reshape(-1, 2, 3)


def align(image: np.ndarray, landmarks: np.ndarray, crop: Crop) -> np.ndarray:
    """Return the face of an image (h, w, 3) with its landmarks (5, 2), pixels, aligned to `crop`: (size, size, 3).

    Borders are replicated. A face more than twice as large as the crop is shrunk by area first, so it does not alias.
    """
    return align_faces(image, np.asarray(landmarks)[None], crop)[0]


def align_faces(image: np.ndarray, landmarks: np.ndarray, crop: Crop) -> np.ndarray:
    """Return the faces with the landmarks (n, 5, 2) in one image as `align` does: (n, size, size, 3)."""
    faces = np.empty((len(landmarks), crop.size, crop.size, *image.shape[2:]), image.dtype)
    if not len(faces):
        return faces
    turn, shift = _estimate(landmarks, crop.points)
    views, shift = _bring_near(turn, shift, crop.size, image.shape)
    factors = np.abs(turn) / SHARPEST
    is_long = max(image.shape[:2]) > LONGEST
    for face, matrix, view, factor in zip(faces, _to_matrices(turn, shift), views, factors):
        source = image
        if factor < 1 or is_long:
            source, matrix = _cut(image, matrix, view, min(factor, 1))
        cv2.warpAffine(source, matrix, (crop.size,) * 2, face, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    return faces


def _bring_near(turn: np.ndarray, shift: np.ndarray, size: int, shape: tuple) -> Tuple[np.ndarray, np.ndarray]:
    """Return the region (n, 2, 2) of the image that each crop shows, low and high (x, y), and the adapted shifts.

    A crop that lies completely outside of the image is moved until it is just beside it. It shows the same there,
    because borders are replicated, and OpenCV's coordinates of 32 bits do not overflow.
    """
    corners = np.array([-1 - 1j, size - 1j, -1 + size * 1j, size + size * 1j])
    seen = ((corners - shift[:, None]) / turn[:, None])[..., None].view(np.float64)
    views = np.stack([seen.min(axis=1), seen.max(axis=1)], axis=1)
    limit = np.array(shape[1::-1])
    away = np.minimum(views[:, 1] + 2, 0) + np.maximum(views[:, 0] - limit - 2, 0)
    return views - away[:, None], shift + turn * (away @ (1, 1j))


def _cut(image: np.ndarray, matrix: np.ndarray, view: np.ndarray, factor: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return the `view` (2, 2) of the image, shrunk by `factor`, and the matrix that maps it to the crop."""
    limit = np.array(image.shape[1::-1])
    pad = 2 / factor  # two pixels of the shrunk image
    x1, y1 = np.clip(np.floor(view[0] - pad), 0, limit - 1).astype(int)
    x2, y2 = np.clip(np.ceil(view[1] + pad), (x1 + 1, y1 + 1), limit).astype(int)
    width, height = (max(1, round((high - low) * factor)) for low, high in ((x1, x2), (y1, y2)))
    small = cv2.resize(image[y1:y2, x1:x2], (width, height), interpolation=cv2.INTER_AREA)
    # A pixel's centre lies at its integer coordinates: x of the image is (x - x1 + 0.5) * zoom - 0.5 of the small one.
    zoom = np.array([(x2 - x1) / width, (y2 - y1) / height])
    back = np.array([[zoom[0], 0, x1 + 0.5 * zoom[0] - 0.5], [0, zoom[1], y1 + 0.5 * zoom[1] - 0.5], [0, 0, 1]])
    return small, matrix @ back


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """Return the central square of an image (h, w, 3) at (size, size), as MXNet's reader does in training."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return square
    # Sample as `align` does, so that whole packed images look like aligned faces in prediction.
    interpolation = cv2.INTER_AREA if size < SHARPEST * side else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=interpolation)
