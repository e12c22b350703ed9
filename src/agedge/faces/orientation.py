"""Find faces in images that are turned by a quarter or a half, and tell upright faces from turned ones.

Detectors are made for upright faces. For a turned one they often give the landmarks of an upright face, with a score
below those of upright ones. So a face of a lower score is cut out and detected again in all four directions.
"""

import math
from typing import List, NamedTuple, Protocol, Tuple, cast

import numpy as np

from agedge.faces.boxes import overlaps
from agedge.faces.detector import Detector, Faces
from agedge.faces.face_shape import MAX_TILT, find_faults, fit_template
from agedge.faces.patches import cut_patches

ORIENTATIONS = ("auto", "upright")
QUARTERS = (0, 1, 2, 3)  # turns of an image, counterclockwise
# A direction is taken for a face of such a score. In 200 images without faces, turned three times, MTCNN finds 7.
STRONG = np.float32(0.9)
VIEW, SIDE = 96, 56  # pixels: of the square in which a face is detected again, and of the face's longer side in it
MIDDLE = np.array([[VIEW - SIDE, VIEW - SIDE, VIEW + SIDE, VIEW + SIDE]]) / 2
SAME = 0.2  # overlap from which on a box in the square is that of the same face
MOST = 16  # faces of an image that are detected again, those of the lowest scores
# A face is turned if its best turned score exceeds the mean of the first and the new upright score by so many logits;
# UNSEEN is the score where it is not found. Of faces found in photographs and chips, 1,228 upright ones, none was
# called turned; of 383 upside down 345 were, of 160 on their side 122.
MARGIN, UNSEEN = 1.0, 0.05


class CloseUpDetector(Protocol):
    """A detector that can detect a face again: see `agedge.faces.detector.Detector`."""

    def detect_middle(self, views: np.ndarray, side: float) -> List[Faces]:
        """Return `Faces` of any score for square images (n, s, s, 3) with a face of `side` pixels in the middle."""
        ...


class OrientedFaces(NamedTuple):
    """The faces of an image in its best orientation.

    `faces` lie in `image`, which is the given image turned counterclockwise by `turns` quarters; `faults`: for each the
    reason why it must not be aligned, "" for a good one.
    """

    image: np.ndarray
    faces: Faces
    faults: List[str]
    turns: int = 0

    def faces_as_given(self) -> Faces:
        """Return the faces in the coordinates of the image as it was given."""
        return turn_back(self.faces, self.turns, self.image.shape)

    @property
    def good(self) -> np.ndarray:
        """Return the indices of the good faces."""
        return np.array([index for index, fault in enumerate(self.faults) if not fault], int)

    @property
    def strong(self) -> int:
        """Return the number of good faces with scores from STRONG on."""
        return int((self.faces.scores[self.good] >= STRONG).sum())

    @property
    def total(self) -> float:
        """Return the sum of the good faces' scores."""
        return float(self.faces.scores[self.good].sum())


def orient_faces(detector: Detector, image: np.ndarray, faces: Faces, orientation: str = "auto") -> OrientedFaces:
    """Return the `faces` that `detector` found in an image (h, w, 3), or those of the turned image that shows more.

    The image is turned where fewer than half of its faces are good, or none has a score from 0.9 on; the direction
    with most good faces of such scores counts. `orientation`: "auto", or "upright": neither is the image turned nor a
    face detected again.
    """
    if orientation == "upright":
        return OrientedFaces(image, faces, find_faults(faces.landmarks, faces.boxes))
    best = OrientedFaces(image, faces, judge(detector, image, faces))
    if not image.size or best.strong and len(best.good) * 2 >= len(faces):
        return best
    for turns in QUARTERS[1:]:
        turned = np.ascontiguousarray(np.rot90(image, turns))
        found = detector.detect(turned)
        other = OrientedFaces(turned, found, judge(detector, turned, found), turns)
        # Of two turned directions with equally many faces the higher scores decide; upright is not left for that.
        has_higher_scores = best.turns and other.strong == best.strong and other.total > best.total
        if other.strong > best.strong or has_higher_scores:
            best = other
    return best


def judge(detector: Detector, image: np.ndarray, faces: Faces) -> List[str]:
    """Return for each face the reason why it must not be aligned, "" for a good one.

    Faces with a lower score than the detector's `sure_score`, if it has one, are detected again, turned.
    """
    faults = find_faults(faces.landmarks, faces.boxes)
    sure = getattr(detector, "sure_score", 0)
    doubtful = [index for index in np.argsort(faces.scores) if not faults[index] and faces.scores[index] < sure]
    for index in doubtful[:MOST]:
        tilt = find_tilt(cast(CloseUpDetector, detector), image, faces.boxes[index], faces.scores[index])
        faults[index] = f"it is turned by {tilt:.0f} degrees" if tilt else ""
    return faults


def keep_good(detector: Detector, image: np.ndarray, faces: Faces) -> Faces:
    """Return those of the `faces` of an image that `judge` finds good; all, of a detector without `detect_middle`."""
    if not hasattr(detector, "detect_middle"):
        return faces
    return faces.take([index for index, fault in enumerate(judge(detector, image, faces)) if not fault])


def find_tilt(detector: CloseUpDetector, image: np.ndarray, box: np.ndarray, score: float) -> float:
    """Return by how many degrees, over `MAX_TILT`, the face in a box (4,) is turned; 0 for one that is not.

    `score`: that of the face as it was found.
    """
    view = cut_out(image, box)
    views = np.stack([np.rot90(view, turns) for turns in QUARTERS])
    upright, turned, tilt = UNSEEN, UNSEEN, 0.0
    for turns, found in zip(QUARTERS, detector.detect_middle(views, SIDE)):
        found = found.take(overlaps(found.boxes, MIDDLE)[:, 0] >= SAME).take(slice(1))
        if not len(found) or find_faults(found.landmarks, found.boxes)[0]:
            continue
        its_tilt = abs((fit_template(found.landmarks).tilt[0] + 90 * turns + 180) % 360 - 180)
        if its_tilt <= MAX_TILT:
            upright = max(upright, found.scores[0])
        elif found.scores[0] > turned:
            turned, tilt = found.scores[0], its_tilt
    is_turned = turned > upright and logit(turned) - (logit(upright) + logit(score)) / 2 > MARGIN
    return tilt if is_turned else 0.0


def logit(probability: float) -> float:
    """Return the logit of a probability, which is kept away from 0 and 1."""
    probability = min(max(float(probability), 1e-6), 1 - 1e-7)  # float32 has none nearer to 1
    return math.log(probability / (1 - probability))


def cut_out(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the surroundings (VIEW, VIEW, 3) of a box (4,) of an image (h, w, 3), its longer side SIDE pixels."""
    half = (box[2:] - box[:2]).max() * VIEW / SIDE / 2
    middle = (box[:2] + box[2:]) / 2
    planes = np.empty((1, 3, VIEW, VIEW), np.float32)
    cut_patches(image, np.concatenate([middle - half, middle + half])[None], planes)
    return planes[0].transpose(1, 2, 0).astype(np.uint8)


def turn_back(faces: Faces, turns: int, shape: Tuple[int, ...]) -> Faces:
    """Return faces of a turned image of `shape` (h, w, 3) in the coordinates of the image before.

    It was turned counterclockwise by `turns` quarters. Landmarks keep their names: the left eye is the left one of the
    upright face.
    """
    boxes, landmarks, (height, width) = faces.boxes, faces.landmarks, shape[:2]
    for _ in range(turns):  # each one clockwise
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack([height - y2, x1, height - y1, x2], axis=1)
        landmarks = np.stack([height - 1 - landmarks[..., 1], landmarks[..., 0]], axis=-1)
        height, width = width, height
    return Faces(boxes, faces.scores, landmarks)
