"""What a detection is: `Faces`, the `Detector` protocol, and the checks that all detectors make of their input."""

from dataclasses import dataclass
from typing import Optional, Protocol

import cv2
import numpy as np

from agedge.errors import UsageError
from agedge.images.bit_depth import scale_to_uint8
from agedge.value_equality import compare_by_value

WANTED = "an array of uint8 or uint16, (h, w, 3) BGR, (h, w) grey or (h, w, 4) BGRA,"  # as images


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

    def __post_init__(self):
        for name, shape in (("boxes", (-1, 4)), ("scores", (-1,)), ("landmarks", (-1, 5, 2))):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float32).reshape(shape))
        if not len(self.boxes) == len(self.scores) == len(self.landmarks):
            counts = f"{len(self.boxes)} boxes, {len(self.scores)} scores, {len(self.landmarks)} sets of landmarks"
            raise ValueError(f"faces: {counts}")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def empty(cls) -> "Faces":
        return cls(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))

    def take(self, index) -> "Faces":
        """The faces at `index`: integers, a slice or a mask."""
        return Faces(self.boxes[index], self.scores[index], self.landmarks[index])

    def shifted(self, x: float, y: float) -> "Faces":
        """The same faces in an image whose origin lies at (-x, -y) of this one."""
        offset = np.array([x, y], np.float32)
        return Faces(self.boxes + np.tile(offset, 2), self.scores, self.landmarks + offset)


class Detector(Protocol):
    """What finds faces. It is made in the process that uses it.

    Beside `detect` it may have `detect_batch`, for several images at once; and, for faces that may be turned, a
    `sure_score`, which only upright faces reach, and `detect_middle`, which looks at small views of the others.
    """

    def detect(self, image: np.ndarray) -> Faces:
        """The faces of a BGR uint8 image (h, w, 3); `Faces.empty()` where there is none."""


def check_image(image: np.ndarray) -> np.ndarray:
    """An image as every detector sees it, BGR uint8 (h, w, 3); one that is so already comes back itself, uncopied.

    Grey, (h, w) or (h, w, 1), becomes three equal channels; the alpha of (h, w, 4) is dropped; of uint16 the upper
    eight bits of the range in use stay (`agedge.images.bit_depth`). An array without elements is an image without
    pixels, (0, 0, 3). Raises `UsageError` on anything else.
    """
    if not isinstance(image, np.ndarray):
        raise UsageError(f"image: {WANTED} is wanted; this is of type {type(image).__name__}")
    if not image.size:
        return np.empty((0, 0, 3), np.uint8)
    channels = image.shape[2] if image.ndim == 3 else {2: 1}.get(image.ndim)
    if channels not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"image: {WANTED} is wanted; this is {image.dtype} {image.shape}")
    if image.dtype == np.uint16:
        image = scale_to_uint8(image)
    if channels == 3:
        return image
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)


def check_max_faces(max_faces: Optional[int]) -> Optional[int]:
    """An option of every detector. Raises `UsageError` where it is no number of faces."""
    if max_faces is not None and not (isinstance(max_faces, (int, np.integer)) and max_faces >= 1):
        raise UsageError(f"max_faces {max_faces}: a whole number from 1 on, or none")
    return max_faces


def check_min_score(min_score: float) -> float:
    """An option of every detector. Raises `UsageError` where it is not a score."""
    is_number = isinstance(min_score, (int, float, np.number)) and not isinstance(min_score, bool)
    if not is_number or not 0 <= min_score <= 1:
        raise UsageError(f"min_score {min_score}: a number between 0 and 1")
    return float(min_score)
