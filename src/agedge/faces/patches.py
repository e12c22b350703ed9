"""Crop and resize patches of an image, or whole pyramid levels, to the layout of a network's input.

The compiled function of `_patches.pyx` is used if it is built, else OpenCV; some pixels differ by one grey level.
"""

import logging
from importlib import import_module
from typing import Any

import cv2
import numpy as np


def cut_patches(image: np.ndarray, boxes: np.ndarray, patches: np.ndarray) -> None:
    """Fill patches (n, 3, rows, columns) float32, whole grey levels, with the boxes (n, 4) of an image (h, w, 3).

    Corners are rounded to pixels; a box has at least one pixel. Outside of the image its border is replicated, up to
    the length of its longer side; a box that extends further is clipped. A box larger than the patch is shrunk by area
    averaging, a smaller one is enlarged by linear interpolation. The order of the channels does not change. Raises
    `ValueError` if the image has no pixels or a box is not finite.
    """
    if not image.size or not np.isfinite(boxes).all():
        raise ValueError("patches: the image must have pixels, and the boxes must be finite")
    reach = max(image.shape[:2])
    boxes = np.ascontiguousarray(np.round(np.asarray(boxes).clip(-reach, 2 * reach)), np.int64).reshape(-1, 4)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    if _patches is None:
        fill_patches_numpy(image, boxes, patches)
    else:
        _patches.cut_patches(np.ascontiguousarray(image), boxes, patches)


def fill_patches_numpy(image: np.ndarray, boxes: np.ndarray, patches: np.ndarray) -> None:
    """Fill patches as `cut_patches` does, with boxes (n, 4) in whole pixels, at least one pixel wide and high."""
    rows, columns = patches.shape[2:]
    for patch, (x1, y1, x2, y2) in zip(patches, boxes):
        shown = _show(_show(image, y1, y2, axis=0), x1, x2, axis=1)
        shrinks = shown.shape[0] > rows or shown.shape[1] > columns
        small = cv2.resize(shown, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        patch[:] = small.transpose(2, 0, 1)


def _show(image: np.ndarray, start: int, end: int, axis: int) -> np.ndarray:
    """Return the pixels start..end along an axis, with the border replicated."""
    if start >= 0 and end <= image.shape[axis]:
        return image[start:end] if axis == 0 else image[:, start:end]
    return image.take(np.arange(start, end).clip(0, image.shape[axis] - 1), axis)


_patches: Any = None
try:
    _patches = import_module("agedge.faces._patches")
except ImportError:
    logging.getLogger(__name__).info("patches: the compiled code is not built; OpenCV is used, which is slower")
