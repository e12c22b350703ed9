"""Create a detector by its name, `--det 0` MTCNN or `--det 1` ESSH, and find the face that an image is about."""

from typing import Any, Optional, Union

import cv2
import numpy as np

from agedge.errors import choices
from agedge.faces.detector import Detector, DetectorOptions, Faces, check_image
from agedge.faces.face_shape import find_faults

DETECTORS = ("mtcnn", "essh")


def create_detector(
    kind: Union[int, str],
    runtime: str = "mxnet",
    min_face: Optional[float] = None,
    max_faces: Optional[int] = None,
    min_score: float = 0,
    max_side: Optional[int] = None,
    **others: Any,
) -> Detector:
    """Return the detector of a name or a number: 0 "mtcnn", 1 "essh".

    The options of both detectors are described by `DetectorOptions`. `others` are those of one class:
    `thresholds` and `weights` of `MTCNNDetector`; `folder`, `threshold` and `pyramid` of `ESSHDetector`.
    Raises `UsageError` on an unknown detector or an invalid option, `AgedgeError` if files are missing or were changed.
    """
    name = dict(enumerate(DETECTORS)).get(int(kind), kind) if str(kind).isdigit() else kind
    if name not in DETECTORS:
        raise choices("det", kind, [f"{number} ({name})" for number, name in enumerate(DETECTORS)])
    options = DetectorOptions(runtime, min_face, max_faces, min_score, max_side)
    if name == "mtcnn":
        from agedge.faces.mtcnn.detector import MTCNNDetector

        return MTCNNDetector(options, **others)
    from agedge.faces.essh.detector import ESSHDetector

    return ESSHDetector(options, **others)


def detect_padded(detector: Detector, image: np.ndarray, share: float = 0.5) -> Faces:
    """Detect faces in an image padded on every side by `share` of its shorter side, with its border replicated.

    For crops so tight that a detector finds no face in them. Coordinates are those of the unpadded image.
    """
    image = check_image(image)
    if not image.size:
        return Faces.empty()
    pad = int(round(share * min(image.shape[:2])))
    wide = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    return detector.detect(wide).shifted(-pad, -pad)


def main_face(detector: Detector, image: np.ndarray) -> Optional[np.ndarray]:
    """Return the landmarks (5, 2) of the face that an image of one person is about; None if no face is found.

    It is the largest central face: the one with the greatest side minus twice its distance from the image's centre.
    Faces whose landmarks cannot be aligned are left out. If nothing is found, the image may be cropped too tightly, so
    the detector runs again on the image padded by half its side.
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
    """Return the index of the largest central box of (n, 4) in an image of `shape` (h, w, ...)."""
    side = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).clip(0))
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = np.linalg.norm(centre - np.array([shape[1], shape[0]]) / 2, axis=1)
    return int(np.argmax(side - 2 * away))
