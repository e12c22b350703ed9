"""Overlap and non-maximum suppression of boxes (n, 4) x1, y1, x2, y2 in pixels.

A box is x2 - x1 wide; with `border=1` its corners are inclusive and it is x2 - x1 + 1 wide. A box with
swapped corners is empty. A box whose area is not finite (NaN, infinite or extremely large corners) overlaps no other
and is never kept.

The compiled functions of `_boxes.pyx` are used if they are built, else the NumPy functions; both return the same
numbers.
"""

import logging
from importlib import import_module
from typing import Any, Tuple

import numpy as np

from agedge.errors import UsageError, choices

METHODS = ("union", "min")


def overlaps_numpy(boxes: np.ndarray, others: np.ndarray, border: float = 0) -> np.ndarray:
    """Return the intersection over union (n, m) float64 of boxes (n, 4) with others (m, 4)."""
    return _overlap(_by_side(boxes, border), _by_side(others, border))


def match_numpy(boxes: np.ndarray, others: np.ndarray, border: float = 0) -> Tuple[np.ndarray, ...]:
    """Return the best match of each of the boxes (n, 4) among the others (m, 4), and the reverse.

    Four arrays: index (n,) and overlap (n,) of the best other for each box; index (m,) and overlap (m,) of the best box
    for each other. Of equal overlaps, the first is returned; 0 and 0.0 if there is no overlap.
    """
    shared = overlaps_numpy(boxes, others, border)
    if not shared.size:
        return _nothing(shared.shape[0]) + _nothing(shared.shape[1])
    return shared.argmax(axis=1), shared.max(axis=1), shared.argmax(axis=0), shared.max(axis=0)


def nms_numpy(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, method: str = "union", border: float = 0
) -> np.ndarray:
    """Return the indices (k,) of the boxes that greedy non-maximum suppression keeps, best score first, ties in order.

    A box is removed if its intersection with a better box exceeds `threshold`, 0 to 1, of their union, or (method
    "min") of the smaller area. A box whose score is NaN is never kept. Memory is linear in the number of boxes. Raises
    `UsageError` on an unknown method, an invalid threshold, or different numbers of scores and boxes.
    """
    order, sides = _by_score(boxes, scores, threshold, method, border)
    x1, y1, x2, y2, areas = sides
    rest, kept = np.arange(len(order)), []
    with np.errstate(over="ignore", invalid="ignore"):
        while len(rest):
            best, rest = rest[0], rest[1:]
            kept.append(best)
            width = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
            height = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
            shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
            whole = np.minimum(areas[best], areas[rest]) if method == "min" else areas[best] + areas[rest] - shared
            rest = rest[~(shared > threshold * whole)]
    return order[np.array(kept, np.int64)]


def overlaps(boxes: np.ndarray, others: np.ndarray, border: float = 0) -> np.ndarray:
    """Return the result of `overlaps_numpy`, by compiled code if it is built."""
    if _boxes is None:
        return overlaps_numpy(boxes, others, border)
    return _boxes.overlaps(_by_side(boxes, border), _by_side(others, border))


def match(boxes: np.ndarray, others: np.ndarray, border: float = 0) -> Tuple[np.ndarray, ...]:
    """Return the result of `match_numpy`, by compiled code if it is built, which needs no memory for the pairs."""
    if _boxes is None:
        return match_numpy(boxes, others, border)
    return _boxes.match(_by_side(boxes, border), _by_side(others, border))


def nms(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, method: str = "union", border: float = 0
) -> np.ndarray:
    """Return the result of `nms_numpy`, by compiled code if it is built."""
    if _boxes is None:
        return nms_numpy(boxes, scores, threshold, method, border)
    order, sides = _by_score(boxes, scores, threshold, method, border)
    return order[_boxes.nms(sides, threshold, method == "min")]


def _by_side(boxes: Any, border: float) -> np.ndarray:
    """Return (5, n) x1, y1, x2, y2, area of boxes (n, 4).

    A box whose area is not finite gets the area NaN and corners that overlap no box.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = np.empty((5, len(boxes)))
    sides[:4] = boxes.T
    with np.errstate(over="ignore", invalid="ignore"):
        sides[2:4] += border
        np.multiply(*np.maximum(sides[2:4] - sides[:2], 0), out=sides[4])
    sound = np.isfinite(sides[4])
    if not sound.all():
        sides[:, ~sound] = [[np.inf], [np.inf], [-np.inf], [-np.inf], [np.nan]]
    return sides


def _by_score(boxes: Any, scores: Any, threshold: float, method: str, border: float) -> Tuple[np.ndarray, np.ndarray]:
    """Return the indices (k,) of the boxes that may be kept, the best first, and `_by_side` (5, k) of them."""
    if method not in METHODS:
        raise choices("nms method", method, METHODS)
    if not 0 <= threshold <= 1:
        raise UsageError(f"nms threshold {threshold}: must be a number from 0 to 1")
    sides, scores = _by_side(boxes, border), np.asarray(scores).reshape(-1)
    if scores.dtype != np.float32:  # float32 sorts faster
        scores = scores.astype(np.float64)
    if len(scores) != sides.shape[1]:
        raise UsageError(f"nms: {sides.shape[1]} boxes, {len(scores)} scores")
    order = np.argsort(-scores, kind="stable")
    sound = np.isfinite(sides[4]) & (scores == scores)
    if not sound.all():
        order = order[sound[order]]
    return order, np.take(sides, order, axis=1)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the intersection over union (n, m) of boxes by their sides, (5, n) and (5, m)."""
    a = a[:, :, None]
    with np.errstate(over="ignore"):
        width, height = (np.minimum(a[i + 2], b[i + 2]) - np.maximum(a[i], b[i]) for i in (0, 1))
        shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
        return np.divide(shared, a[4] + b[4] - shared, out=np.zeros_like(shared), where=shared > 0)


def _nothing(count: int) -> Tuple[np.ndarray, np.ndarray]:
    return np.zeros(count, np.int64), np.zeros(count)


_boxes: Any = None
try:
    _boxes = import_module("agedge.faces._boxes")
except ImportError:
    logging.getLogger(__name__).info("boxes: the compiled functions are not built; NumPy is used, which is slower")
