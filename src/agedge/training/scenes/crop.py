"""A piece of a photograph with annotated faces, as a scene (the random square crops of RetinaFace, section 4.2)."""

import cv2
import numpy as np

from agedge.faces.annotations import Photo
from agedge.landmarks import mirror
from agedge.training.scenes import light
from agedge.training.scenes.visible import cut_off

SHARES = (0.3, 0.45, 0.6, 0.8, 1.0)  # of the shorter side


def crop_photograph(image: np.ndarray, photo: Photo, size: int, chance: np.random.Generator) -> tuple:
    """A square piece of `image`, that of `photo`: (size, size, 3) BGR uint8, with the faces in it, as `cut_off` gives
    them: boxes (n, 4), landmarks (n, 5, 2), ignored (n,), and what covers them, (n,) words. Mirrored half of the time.
    """
    height, width = image.shape[:2]
    side = max(1, int(min(height, width) * chance.choice(SHARES)))
    left, top = int(chance.integers(width - side + 1)), int(chance.integers(height - side + 1))
    if len(photo.boxes) and chance.random() < 0.7:  # about one of its faces
        x, y = photo.boxes[chance.integers(len(photo.boxes))].reshape(2, 2).mean(axis=0)
        left = int(np.clip(x - side * chance.uniform(0.1, 0.9), 0, width - side))
        top = int(np.clip(y - side * chance.uniform(0.1, 0.9), 0, height - side))
    zoom = size / side
    piece = image[top : top + side, left : left + side]
    piece = cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    boxes = (photo.boxes.astype(np.float64) - [left, top, left, top]) * zoom
    # A pixel's centre lies at its integer coordinates.
    landmarks = (photo.landmarks.astype(np.float64) - [left, top] + 0.5) * zoom - 0.5
    shown = np.ones(len(boxes))
    boxes, landmarks, ignored, covers = cut_off(piece, boxes, landmarks, photo.ignored, shown, photo.occlusion)
    if chance.random() < 0.5:
        piece = np.ascontiguousarray(piece[:, ::-1])
        boxes, landmarks = mirror(boxes, landmarks, size)
    return light.photograph(piece, chance), boxes, landmarks, ignored, covers
