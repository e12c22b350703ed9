"""How much of a face a scene shows: that decides whether the face is to be found, ignored, or left out."""

from typing import List, NamedTuple, Sequence, Union

import numpy as np

Rows = Union[np.ndarray, Sequence]  # an array, or its rows in a list

SMALLEST = 10  # pixels: a smaller face is ignored
VISIBLE = 0.45  # share of a face's box: a face of which less is visible is ignored
CONTRAST = 4  # of 255: a face is ignored, as unlit or fogged, where its pixels' standard deviation is smaller
LEAST = 0.1  # share of a face's box: a face of which less lies within the image is left out


class SceneFaces(NamedTuple):
    """Annotated faces of a scene.

    `boxes` (n, 4); `landmarks` (n, 5, 2), NaN where not known; `ignored` (n,) bool: neither face nor background;
    `covers`: a name for what covers each face, "" for nothing.
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
    shown: Rows,
    covers: Sequence[str],
) -> SceneFaces:
    """Return the faces of `image` (h, w, 3) as they are to be found, their boxes clipped at its border.

    Faces outside of the image are left out. A face is ignored too where it is too small, too faint, or too little of it
    is visible: `shown` (n,) is the visible share, 0..1, of the part within the image.
    """
    size = np.array(image.shape[1::-1])
    whole = np.array(boxes, np.float64).reshape(-1, 4)
    shares = np.array([share_of_frame(image, box) for box in whole])
    clipped = np.clip(whole, 0, np.tile(size - 1, 2))
    areas = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1)
    neither = np.array(ignored, bool) | (shares * np.asarray(shown) < VISIBLE) | (areas < SMALLEST**2)
    neither |= np.array([is_faint(image, box) for box in clipped], bool)
    kept = shares > LEAST
    points = np.array(landmarks, np.float64).reshape(-1, 5, 2)
    covers = [cover for cover, keep in zip(covers, kept) if keep]
    return SceneFaces(clipped[kept], points[kept], neither[kept], covers)


def is_faint(image: np.ndarray, box: np.ndarray) -> bool:
    """Return whether the pixels of an image (h, w, 3) uint8 in a box have next to no contrast."""
    x1, y1, x2, y2 = np.round(box).astype(int)
    part = image[y1 : y2 + 1, x1 : x2 + 1, 1]
    return part.size > 0 and bool(part.std() < CONTRAST)


def share_within(box: np.ndarray, other: np.ndarray) -> float:
    """Return the share of a box that another one covers, 0..1."""
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
