"""Measure how much of a face a scene shows, and decide whether the face is a target, ignored, or removed."""

from typing import List, NamedTuple, Sequence, Union

import numpy as np

Rows = Union[np.ndarray, Sequence]  # an array, or a list of its rows

MIN_SIDE = 10  # pixels; a face whose visible box has a smaller area than MIN_SIDE**2 is ignored
MIN_VISIBLE = 0.45  # share of the box; a face that is less visible is ignored
MIN_CONTRAST = 4  # of 255; a face is ignored (too dark or in fog) if the standard deviation of its pixels is smaller
MIN_INSIDE = 0.1  # share of the box; a face with at most this share inside the image is removed


class SceneFaces(NamedTuple):
    """The annotated faces of a scene.

    `boxes` (n, 4); `landmarks` (n, 5, 2), NaN if unknown; `ignored` (n,) bool: counts neither as a face nor as
    background; `covers`: the name of the object that covers each face, or "".
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray
    covers: List[str]


class AnnotatedImage(NamedTuple):
    """A scene `image` (h, w, 3) BGR uint8 with its faces; the other fields are those of `SceneFaces`."""

    image: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray
    covers: List[str]


def clip_faces(
    image: np.ndarray,
    boxes: Rows,
    landmarks: Rows,
    ignored: Rows,
    visible: Rows,
    covers: Union[Sequence[str], np.ndarray],
) -> SceneFaces:
    """Return the faces of `image` (h, w, 3) as training targets, with boxes clipped at the border of the image.

    Faces outside the image are removed. A face is also ignored if it is too small, has too little contrast, or is
    mostly covered: `visible` (n,) is the visible share, 0..1, of the part inside the image.
    """
    size = np.array(image.shape[1::-1])
    whole = np.array(boxes, np.float64).reshape(-1, 4)
    shares = np.array([share_of_frame(image, box) for box in whole])
    clipped = np.clip(whole, 0, np.tile(size - 1, 2))
    areas = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1)
    skipped = np.array(ignored, bool) | (shares * np.asarray(visible) < MIN_VISIBLE) | (areas < MIN_SIDE**2)
    skipped |= np.array([is_faint(image, box) for box in clipped], bool)
    kept = shares > MIN_INSIDE
    points = np.array(landmarks, np.float64).reshape(-1, 5, 2)
    covers = [cover for cover, keep in zip(covers, kept) if keep]
    return SceneFaces(clipped[kept], points[kept], skipped[kept], covers)


def is_faint(image: np.ndarray, box: np.ndarray) -> bool:
    """Return whether the contrast of an image (h, w, 3) uint8 within a box is below MIN_CONTRAST."""
    x1, y1, x2, y2 = np.round(box).astype(int)
    part = image[y1 : y2 + 1, x1 : x2 + 1, 1]
    return part.size > 0 and bool(part.std() < MIN_CONTRAST)


def share_within(box: np.ndarray, other: np.ndarray) -> float:
    """Return the share of a box that another box covers, 0..1."""
    shared = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return float(np.prod(np.maximum(shared, 0)) / max(np.prod(box[2:] - box[:2]), 1e-6))


def share_of_frame(image: np.ndarray, box: np.ndarray) -> float:
    """Return the share of a box that lies within an image (h, w, ..), 0..1."""
    return share_within(box, np.array([0, 0, *image.shape[1::-1]]))


def share_of_mask(mask: np.ndarray, box: np.ndarray) -> float:
    """Return the share of a box that a mask (h, w) of 0..1 covers; beyond its borders the mask is 0."""
    low, high = np.floor(np.maximum(box[:2], 0)).astype(int), np.ceil(np.maximum(box[2:], 0)).astype(int)
    part = mask[low[1] : high[1], low[0] : high[0]]
    return float(part.mean()) * share_of_frame(mask, box) if part.size else 0.0
