"""Define the interface of face detectors: `Faces`, the `Detector` protocol, common options, and input checks."""

from dataclasses import dataclass
from typing import Any, Optional, Protocol

import cv2
import numpy as np

from agedge.errors import UsageError, choices
from agedge.images.bit_depth import scale_to_uint8
from agedge.landmarks import LANDMARK_COUNT
from agedge.runtime.model import RUNTIMES
from agedge.value_equality import compare_by_value

IMAGE_KINDS = "must be an array of uint8 or uint16, (h, w, 3) BGR, (h, w) grey or (h, w, 4) BGRA"


@compare_by_value
@dataclass(frozen=True)
class Faces:
    """The faces of one image, best score first.

    `boxes` (n, 4) x1, y1, x2, y2 in pixels, within the image; `scores` (n,) in 0..1;
    `landmarks` (n, 5, 2) x, y of left eye, right eye, nose, left and right mouth corner as seen in the image. float32.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray

    def __post_init__(self) -> None:
        for name, shape in (("boxes", (-1, 4)), ("scores", (-1,)), ("landmarks", (-1, LANDMARK_COUNT, 2))):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float32).reshape(shape))
        if not len(self.boxes) == len(self.scores) == len(self.landmarks):
            counts = f"{len(self.boxes)} boxes, {len(self.scores)} scores, {len(self.landmarks)} sets of landmarks"
            raise ValueError(f"faces: {counts}")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def empty(cls) -> "Faces":
        """Return `Faces` with no faces: arrays of length zero."""
        return cls(np.empty((0, 4)), np.empty(0), np.empty((0, LANDMARK_COUNT, 2)))

    def take(self, index: Any) -> "Faces":
        """Return the faces at `index`: integers, a slice or a mask."""
        return Faces(self.boxes[index], self.scores[index], self.landmarks[index])

    def shifted(self, x: float, y: float) -> "Faces":
        """Return the same faces in an image whose origin lies at (-x, -y) of this one."""
        offset = np.array([x, y], np.float32)
        return Faces(self.boxes + np.tile(offset, 2), self.scores, self.landmarks + offset)


class Detector(Protocol):
    """Interface of a face detector.

    Besides `detect`, a detector may have `detect_batch`, for several images at once. To recognise turned faces it may
    have a `sure_score`, which only upright faces reach, and `detect_middle`, which runs on small crops of the others.
    """

    def detect(self, image: np.ndarray) -> Faces:
        """Return the faces of a BGR uint8 image (h, w, 3); `Faces.empty()` if there is none."""
        ...


@dataclass(frozen=True)
class DetectorOptions:
    """The options of every detector. Raises `UsageError` on an invalid one.

    Attributes:
        runtime: of the networks: "mxnet", or "onnx", "ncnn", "ncnn-fp16" if the detector has files for it.
        min_face: the side, in pixels of the image, of the smallest face to find; None for the detector's default.
        max_faces: keep at most so many faces of an image, the largest; None for all.
        min_score: faces with lower scores are left out.
        max_side: a larger image is shrunk to that longer side, in pixels; None for the detector's default.
    """

    runtime: str = "mxnet"
    min_face: Optional[float] = None
    max_faces: Optional[int] = None
    min_score: float = 0
    max_side: Optional[int] = None

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise choices("runtime", self.runtime, RUNTIMES)
        count, score = self.max_faces, self.min_score
        if count is not None and not (isinstance(count, (int, np.integer)) and count >= 1):
            raise UsageError(f"max_faces {count}: must be a whole number from 1 on, or None")
        is_number = isinstance(score, (int, float, np.number)) and not isinstance(score, bool)
        if not is_number or not 0 <= score <= 1:
            raise UsageError(f"min_score {score}: must be a number between 0 and 1")


def check_image(image: np.ndarray) -> np.ndarray:
    """Convert an image to BGR uint8 (h, w, 3), the input of every detector; such an image is not copied.

    Grey, (h, w) or (h, w, 1), becomes three equal channels; the alpha of (h, w, 4) is dropped; uint16 is reduced
    to the upper eight bits of its used range (`agedge.images.bit_depth`). An array without elements is an image without
    pixels, (0, 0, 3). Raises `UsageError` on anything else.
    """
    if not isinstance(image, np.ndarray):
        raise UsageError(f"image: {IMAGE_KINDS}; it is of type {type(image).__name__}")
    if not image.size:
        return np.empty((0, 0, 3), np.uint8)
    channels = image.shape[2] if image.ndim == 3 else {2: 1}.get(image.ndim)
    if channels not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"image: {IMAGE_KINDS}; it is {image.dtype} {image.shape}")
    if image.dtype == np.uint16:
        image = scale_to_uint8(image)
    if channels == 3:
        return image
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)
