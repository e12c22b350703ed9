"""Images to compare two formats of one network with, where no faces are at hand: drawn from a fixed seed."""

import cv2
import numpy as np


def draw_probes(size: int, count: int = 12) -> np.ndarray:
    """Draw (count, size, size, 3) uint8 images: soft blotches with grain, half of them darker."""
    random = np.random.RandomState(7)
    probes = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        coarse = random.uniform(0, 255, (3 + index % 6, 3 + index % 6, 3)).astype(np.float32)
        soft = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        grain = random.normal(0, 4 * (index % 4), (size, size, 3))
        probes[index] = np.clip((soft + grain) * (1.0 if index % 2 else 0.6), 0, 255)
    return probes
