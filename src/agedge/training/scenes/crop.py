"""Scenes cropped from photographs with annotated faces (the random square crops of RetinaFace, section 4.2)."""

import cv2
import numpy as np

from agedge.faces.annotations import Photo
from agedge.landmarks import mirror
from agedge.training.scenes import light
from agedge.training.scenes.visible import AnnotatedImage, clip_faces

SHARES = (0.3, 0.45, 0.6, 0.8, 1.0)  # sides of a crop, as shares of the photograph's shorter side


def crop_photograph(image: np.ndarray, photo: Photo, size: int, rng: np.random.Generator) -> AnnotatedImage:
    """Crop a random square of the image of `photo`, and resize it to (size, size, 3) BGR uint8.

    The faces are cropped with it. Half of the crops are mirrored.
    """
    height, width = image.shape[:2]
    side = max(1, int(min(height, width) * rng.choice(SHARES)))
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    if len(photo.boxes) and rng.random() < 0.7:  # around one of its faces
        x, y = photo.boxes[rng.integers(len(photo.boxes))].reshape(2, 2).mean(axis=0)
        left = int(np.clip(x - side * rng.uniform(0.1, 0.9), 0, width - side))
        top = int(np.clip(y - side * rng.uniform(0.1, 0.9), 0, height - side))
    zoom = size / side
    crop = image[top : top + side, left : left + side]
    crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    boxes = (photo.boxes.astype(np.float64) - [left, top, left, top]) * zoom
    # A pixel's centre lies at its integer coordinates.
    landmarks = (photo.landmarks.astype(np.float64) - [left, top] + 0.5) * zoom - 0.5
    visible = np.ones(len(boxes))
    boxes, landmarks, ignored, covers = clip_faces(crop, boxes, landmarks, photo.ignored, visible, photo.occlusion)
    if rng.random() < 0.5:
        crop = np.ascontiguousarray(crop[:, ::-1])
        boxes, landmarks = mirror(boxes, landmarks, size)
    return AnnotatedImage(light.simulate_camera(crop, rng), boxes, landmarks, ignored, covers)
