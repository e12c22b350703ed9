"""Boxes (n, 4) x1, y1, x2, y2 in pixels: how much they overlap, and which of them to keep.

The Cython twins of `_boxes.pyx` serve where they were built, these NumPy ones elsewhere; both give the same numbers.
"""

import logging

import numpy as np

from agedge.errors import choices

METHODS = ("union", "min")


def overlaps_numpy(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) float64 of boxes (n, 4) with others (m, 4); a box is x2 - x1 wide."""
    a, b = _as_boxes(boxes)[:, None], _as_boxes(others)[None]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    area_a, area_b = ((box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b))
    union = area_a + area_b - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def nms_numpy(boxes: np.ndarray, scores: np.ndarray, threshold: float, method: str = "union") -> np.ndarray:
    """Greedy non-maximum suppression: indices (k,) of the boxes kept, the best score first, ties in the given order.

    A box goes where its intersection with a better one exceeds `threshold` of their union, or ("min") of the smaller.
    """
    boxes, order = _as_boxes(boxes), _by_score(scores, method)
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1) * (y2 - y1)
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
        whole = np.minimum(areas[best], areas[rest]) if method == "min" else areas[best] + areas[rest] - shared
        order = rest[shared <= threshold * whole]
    return np.array(kept, np.int64)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """As `overlaps_numpy`, by the faster twin that this installation has."""
    if _boxes is None:
        return overlaps_numpy(boxes, others)
    return _boxes.overlaps(_as_boxes(boxes), _as_boxes(others))


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, method: str = "union") -> np.ndarray:
    """As `nms_numpy`, by the faster twin that this installation has."""
    if _boxes is None:
        return nms_numpy(boxes, scores, threshold, method)
    return _boxes.nms(_as_boxes(boxes), _by_score(scores, method), threshold, method == "min")


def _as_boxes(boxes) -> np.ndarray:
    return np.ascontiguousarray(boxes, np.float64).reshape(-1, 4)


def _by_score(scores, method: str) -> np.ndarray:
    if method not in METHODS:
        raise choices("nms method", method, METHODS)
    return np.argsort(-np.asarray(scores, np.float64).reshape(-1), kind="stable").astype(np.int64)


try:
    from agedge.faces import _boxes
except ImportError:
    logging.getLogger(__name__).info("boxes: the compiled twins are not built here; NumPy does the work, more slowly")
    _boxes = None
