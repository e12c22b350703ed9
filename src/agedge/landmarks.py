"""The five landmarks of a face: their names, their order and their mirroring. "Left" means left in the image."""

from typing import Tuple

import numpy as np

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")  # eye centres, mouth corners
LANDMARK_COUNT = len(LANDMARK_NAMES)
LANDMARK_COLUMNS = tuple(f"{name}_{axis}" for name in LANDMARK_NAMES for axis in "xy")  # columns of a table, in pixels
MIRRORED = (1, 0, 2, 4, 3)  # mirrored landmark i is landmark MIRRORED[i] of the original image


def mirror(boxes: np.ndarray, landmarks: np.ndarray, width: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return boxes (n, 4) of inclusive corners and landmarks (n, 5, 2), mirrored in an image `width` pixels wide."""
    boxes = boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (width - 1, 0, width - 1, 0)
    return boxes, landmarks[:, MIRRORED] * (-1, 1) + (width - 1, 0)
