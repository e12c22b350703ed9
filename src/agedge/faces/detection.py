"""Create a detector by its name, `--det 0` MTCNN or `--det 1` ESSH, and find the face that a picture is about."""

from typing import Optional

import cv2
import numpy as np

from agedge.errors import choices
from agedge.faces.detector import Detector, Faces, check_image
from agedge.faces.face_shape import find_faults

DETECTORS = ("mtcnn", "essh")


def create_detector(kind, **options) -> Detector:
    """The detector of a name or of a number: 0 "mtcnn", 1 "essh"; `options` are the arguments of its class, of which
    both have `min_face`, `max_faces`, `min_score` and `max_side`.

    Raises `UsageError` on another kind and `AgedgeError` where a detector's files are missing or were changed.
    """
    name = dict(enumerate(DETECTORS)).get(int(kind), kind) if str(kind).isdigit() else kind
    if name == "mtcnn":
        from agedge.faces.mtcnn.detector import MTCNN

        return MTCNN(**options)
    if name == "essh":
        from agedge.faces.essh.detector import ESSH

        return ESSH(**options)
    raise choices("det", kind, [f"{number} ({name})" for number, name in enumerate(DETECTORS)])


def detect_padded(detector: Detector, image: np.ndarray, share: float = 0.5) -> Faces:
    """The faces of an image widened on every side by `share` of its shorter side, the border replicated.

    For crops so tight that a detector sees no face in them. Coordinates are the image's own.
    """
    image = check_image(image)
    if not image.size:
        return Faces.empty()
    pad = int(round(share * min(image.shape[:2])))
    wide = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    return detector.detect(wide).shifted(-pad, -pad)


def main_face(detector: Detector, image: np.ndarray) -> Optional[np.ndarray]:
    """Landmarks (5, 2) of the face that a picture of one person is about; None where no face is found.

    The largest central face: that of the greatest side less twice its distance from the image's centre. Faces whose
    landmarks cannot be aligned are left out. Where nothing is found, the image may be cut too tightly, and a second
    look is taken at it padded by half its side.
    """
    faces = _keep_alignable(detector.detect(image))
    if not len(faces):
        faces = _keep_alignable(detect_padded(detector, image))
    if not len(faces):
        return None
    return faces.landmarks[choose_main(faces.boxes, image.shape)]


def _keep_alignable(faces: Faces) -> Faces:
    return faces.take([index for index, fault in enumerate(find_faults(faces.landmarks, faces.boxes)) if not fault])


def choose_main(boxes: np.ndarray, shape: tuple) -> int:
    """The index of the largest central box of (n, 4) in an image of `shape` (h, w, ...)."""
    side = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).clip(0))
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = np.linalg.norm(centre - np.array([shape[1], shape[0]]) / 2, axis=1)
    return int(np.argmax(side - 2 * away))
