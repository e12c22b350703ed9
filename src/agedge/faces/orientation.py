"""Find faces in images that are turned by 90, 180 or 270 degrees, and distinguish upright faces from turned ones.

Detectors are made for upright faces. For a turned one they often return the landmarks of an upright face, with a
lower score. So a face with a low score is cropped and detected again in all four orientations.
"""

import math
from typing import List, NamedTuple, Protocol, Tuple, cast

import numpy as np

from agedge.faces.boxes import overlaps
from agedge.faces.detector import Detector, Faces
from agedge.faces.face_shape import MAX_TILT, find_faults, fit_template
from agedge.faces.patches import cut_patches

ORIENTATIONS = ("auto", "upright")
TURNS = (0, 1, 2, 3)  # rotations of an image by 90 degrees, counterclockwise
# Faces with at least this score decide the orientation of an image. In 200 images without faces, each in the three
# turned orientations, MTCNN finds 7 of them.
STRONG = np.float32(0.9)
VIEW, SIDE = 96, 56  # pixels: of the square in which a face is detected again, and of the face's longer side in it
MIDDLE = np.array([[VIEW - SIDE, VIEW - SIDE, VIEW + SIDE, VIEW + SIDE]]) / 2
SAME_FACE = 0.2  # least overlap with the middle of the square of a box of the same face
MAX_REDETECTED = 16  # faces per image that are detected again, lowest scores first
# A face is turned if its best turned score exceeds the mean of the first and the new upright score by MARGIN logits.
# NOT_FOUND is the score of an orientation in which it is not found. Measured on faces in photographs and chips: 0 of
# 1,228 upright faces were classified as turned, 345 of 383 upside-down faces, and 122 of 160 faces on their side.
MARGIN, NOT_FOUND = 1.0, 0.05


class CloseUpDetector(Protocol):
    """A detector that can detect a face again: see `agedge.faces.detector.Detector`."""

    def detect_middle(self, views: np.ndarray, side: float) -> List[Faces]:
        """Return `Faces` of any score for square images (n, s, s, 3) with a face of `side` pixels in the middle."""
        ...


class OrientedFaces(NamedTuple):
    """The faces of an image in its best orientation.

    `image`: the given image turned counterclockwise by `turns` * 90 degrees. `faces`: in coordinates of `image`.
    `faults`: why each face must not be aligned, "" for a good one.
    """

    image: np.ndarray
    faces: Faces
    faults: List[str]
    turns: int = 0

    def faces_as_given(self) -> Faces:
        """Return the faces in the coordinates of the original image."""
        return turn_back(self.faces, self.turns, self.image.shape)

    @property
    def good(self) -> np.ndarray:
        """Return the indices of the good faces."""
        return np.array([index for index, fault in enumerate(self.faults) if not fault], int)

    @property
    def strong(self) -> int:
        """Return the number of good faces with scores of at least STRONG."""
        return int((self.faces.scores[self.good] >= STRONG).sum())

    @property
    def total(self) -> float:
        """Return the sum of the good faces' scores."""
        return float(self.faces.scores[self.good].sum())


def orient_faces(detector: Detector, image: np.ndarray, faces: Faces, orientation: str = "auto") -> OrientedFaces:
    """Return the faces of an image (h, w, 3) in the orientation with the most good faces.

    `faces`: those that `detector` found in the image as given. If fewer than half of them are good, or none has a score
    of 0.9 or more, the detector also runs on the turned images. The orientation with the most good faces of such scores
    is chosen. `orientation`: "auto", or "upright": the image is not turned and no face is detected again.
    """
    if orientation == "upright":
        return OrientedFaces(image, faces, find_faults(faces.landmarks, faces.boxes))
    best = OrientedFaces(image, faces, find_faults_in_image(detector, image, faces))
    if not image.size or best.strong and len(best.good) * 2 >= len(faces):
        return best
    for turns in TURNS[1:]:
        turned = np.ascontiguousarray(np.rot90(image, turns))
        found = detector.detect(turned)
        other = OrientedFaces(turned, found, find_faults_in_image(detector, turned, found), turns)
        # Between two turned orientations with equally many faces, scores decide; upright wins a tie with a turned one.
        has_higher_scores = best.turns and other.strong == best.strong and other.total > best.total
        if other.strong > best.strong or has_higher_scores:
            best = other
    return best


def find_faults_in_image(detector: Detector, image: np.ndarray, faces: Faces) -> List[str]:
    """Return why each face must not be aligned, "" for a good one.

    If the detector has a `sure_score`, faces with a lower score are detected again in all four orientations.
    """
    faults = find_faults(faces.landmarks, faces.boxes)
    sure = getattr(detector, "sure_score", 0)
    doubtful = [index for index in np.argsort(faces.scores) if not faults[index] and faces.scores[index] < sure]
    for index in doubtful[:MAX_REDETECTED]:
        tilt = find_tilt(cast(CloseUpDetector, detector), image, faces.boxes[index], faces.scores[index])
        faults[index] = f"it is turned by {tilt:.0f} degrees" if tilt else ""
    return faults


def keep_good(detector: Detector, image: np.ndarray, faces: Faces) -> Faces:
    """Return the good faces of an image; all of them if the detector has no `detect_middle`."""
    if not hasattr(detector, "detect_middle"):
        return faces
    return faces.take([index for index, fault in enumerate(find_faults_in_image(detector, image, faces)) if not fault])


def find_tilt(detector: CloseUpDetector, image: np.ndarray, box: np.ndarray, score: float) -> float:
    """Return the angle in degrees by which the face in a box (4,) is turned, if over `MAX_TILT`; else 0.

    `score`: the score of the face in its first detection.
    """
    view = cut_out(image, box)
    views = np.stack([np.rot90(view, turns) for turns in TURNS])
    upright, turned, tilt = NOT_FOUND, NOT_FOUND, 0.0
    for turns, found in zip(TURNS, detector.detect_middle(views, SIDE)):
        found = found.take(overlaps(found.boxes, MIDDLE)[:, 0] >= SAME_FACE).take(slice(1))
        if not len(found) or find_faults(found.landmarks, found.boxes)[0]:
            continue
        view_tilt = abs((fit_template(found.landmarks).tilt[0] + 90 * turns + 180) % 360 - 180)
        if view_tilt <= MAX_TILT:
            upright = max(upright, found.scores[0])
        elif found.scores[0] > turned:
            turned, tilt = found.scores[0], view_tilt
    is_turned = turned > upright and logit(turned) - (logit(upright) + logit(score)) / 2 > MARGIN
    return tilt if is_turned else 0.0


def logit(probability: float) -> float:
    """Return the logit of a probability, clipped to stay finite."""
    probability = min(max(float(probability), 1e-6), 1 - 1e-7)  # the largest float32 below 1
    return math.log(probability / (1 - probability))


def cut_out(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Crop the surroundings of a box (4,) to (VIEW, VIEW, 3), with the box's longer side at SIDE pixels."""
    half = (box[2:] - box[:2]).max() * VIEW / SIDE / 2
    middle = (box[:2] + box[2:]) / 2
    planes = np.empty((1, 3, VIEW, VIEW), np.float32)
    cut_patches(image, np.concatenate([middle - half, middle + half])[None], planes)
    return planes[0].transpose(1, 2, 0).astype(np.uint8)


def turn_back(faces: Faces, turns: int, shape: Tuple[int, ...]) -> Faces:
    """Convert faces of a turned image of `shape` (h, w, 3) to the coordinates of the original image.

    The image was turned counterclockwise by `turns` * 90 degrees. Landmarks keep their names: the left eye is the left
    one of the upright face.
    """
    boxes, landmarks, (height, width) = faces.boxes, faces.landmarks, shape[:2]
    for _ in range(turns):  # each by 90 degrees, clockwise
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack([height - y2, x1, height - y1, x2], axis=1)
        landmarks = np.stack([height - 1 - landmarks[..., 1], landmarks[..., 0]], axis=-1)
        height, width = width, height
    return Faces(boxes, faces.scores, landmarks)
