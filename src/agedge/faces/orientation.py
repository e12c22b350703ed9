"""Faces in pictures that lie on their side or stand on their head.

Detectors are made for upright faces. Of a turned one they often give the landmarks of an upright face, with a score
below those of real ones. So a face that is not sure is cut out and looked at in all four directions.
"""

import math
from typing import List, NamedTuple

import numpy as np

from agedge.faces.boxes import overlaps
from agedge.faces.detector import Detector, Faces
from agedge.faces.face_shape import MAX_TILT, find_faults, fit_template
from agedge.faces.patches import cut_patches

ORIENTATIONS = ("auto", "upright")
QUARTERS = (0, 1, 2, 3)  # turns of a picture, counterclockwise
# A direction is taken for a face of such a score. In 200 pictures without faces, turned three times, MTCNN sees 7.
STRONG = np.float32(0.9)
VIEW, SIDE = 96, 56  # pixels: of the square in which a face is looked at again, and of the face's longer side there
MIDDLE = np.array([[VIEW - SIDE, VIEW - SIDE, VIEW + SIDE, VIEW + SIDE]]) / 2
SAME = 0.2  # overlap from which on a box in the view is that of the face looked for
MOST = 16  # faces of a picture that are looked at again, the least sure ones
# A face is turned if the best turned look exceeds the mean of the first and the upright look by so many logits, an
# absent one counted as UNSEEN. Of faces found in photographs and chips, 1,228 upright ones, none was called turned; of
# 383 upside down 345 were, of 160 on their side 122.
MARGIN, UNSEEN = 1.0, 0.05


class Looked(NamedTuple):
    """What was found in a picture: `faces` in `image`, which is the picture turned counterclockwise by `turns`
    quarters; `faults`, for each the reason why it must not be aligned, "" for a good face."""

    image: np.ndarray
    faces: Faces
    faults: List[str]
    turns: int = 0

    def faces_in_picture(self) -> Faces:
        """Return the faces in the coordinates of the picture as it was given."""
        return turn_back(self.faces, self.turns, self.image.shape)

    @property
    def good(self) -> np.ndarray:
        """The indices of the good faces."""
        return np.array([index for index, fault in enumerate(self.faults) if not fault], int)

    @property
    def strong(self) -> int:
        """The number of good faces with scores from STRONG on."""
        return int((self.faces.scores[self.good] >= STRONG).sum())

    @property
    def total(self) -> float:
        """The sum of the good faces' scores."""
        return float(self.faces.scores[self.good].sum())


def look_around(detector: Detector, image: np.ndarray, faces: Faces, orientation: str = "auto") -> Looked:
    """Judge the `faces` that `detector` found in an image (h, w, 3), and look in the other directions where fewer than
    half of them are good, or none is of a score over 0.9; the direction with most of these counts.

    `orientation`: "auto", or "upright": neither is the picture turned nor a face looked at again.
    """
    if orientation == "upright":
        return Looked(image, faces, find_faults(faces.landmarks, faces.boxes))
    best = Looked(image, faces, judge(detector, image, faces))
    if not image.size or best.strong and len(best.good) * 2 >= len(faces):
        return best
    for turns in QUARTERS[1:]:
        turned = np.ascontiguousarray(np.rot90(image, turns))
        found = detector.detect(turned)
        other = Looked(turned, found, judge(detector, turned, found), turns)
        # Of two turned directions with equally many faces the surer one counts; upright is not left for that.
        is_surer = best.turns and other.strong == best.strong and other.total > best.total
        if other.strong > best.strong or is_surer:
            best = other
    return best


def judge(detector: Detector, image: np.ndarray, faces: Faces) -> List[str]:
    """Return for each face the reason why it must not be aligned, "" for a good one.

    Faces with a lower score than the detector's `sure_score`, if it has one, are looked at again, turned.
    """
    faults = find_faults(faces.landmarks, faces.boxes)
    sure = getattr(detector, "sure_score", 0)
    doubtful = [index for index in np.argsort(faces.scores) if not faults[index] and faces.scores[index] < sure]
    for index in doubtful[:MOST]:
        tilt = find_tilt(detector, image, faces.boxes[index], faces.scores[index])
        faults[index] = f"it is turned by {tilt:.0f} degrees" if tilt else ""
    return faults


def keep_good(detector: Detector, image: np.ndarray, faces: Faces) -> Faces:
    """Return those of the `faces` of an image that `judge` finds good; all, of a detector that cannot look again."""
    if not hasattr(detector, "detect_middle"):
        return faces
    return faces.take([index for index, fault in enumerate(judge(detector, image, faces)) if not fault])


def find_tilt(detector: Detector, image: np.ndarray, box: np.ndarray, score: float) -> float:
    """Return by how many degrees, over `MAX_TILT`, the face in a box (4,) is turned; 0 for one that is not.

    `score`: with which it was found upright.
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
    probability = min(max(float(probability), 1e-6), 1 - 1e-7)  # float32 knows none nearer to 1
    return math.log(probability / (1 - probability))


def cut_out(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the surroundings (VIEW, VIEW, 3) of a box (4,) of an image (h, w, 3), its longer side SIDE pixels."""
    half = (box[2:] - box[:2]).max() * VIEW / SIDE / 2
    middle = (box[:2] + box[2:]) / 2
    planes = np.empty((1, 3, VIEW, VIEW), np.float32)
    cut_patches(image, np.concatenate([middle - half, middle + half])[None], planes)
    return planes[0].transpose(1, 2, 0).astype(np.uint8)


def turn_back(faces: Faces, turns: int, shape: tuple) -> Faces:
    """Return faces in a picture that was turned counterclockwise by `turns` quarters to an image of `shape` (h, w, 3),
    in the coordinates of the picture. Landmarks keep their names: the left eye is the left one of the upright face."""
    boxes, landmarks, (height, width) = faces.boxes, faces.landmarks, shape[:2]
    for _ in range(turns):  # each one clockwise
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack([height - y2, x1, height - y1, x2], axis=1)
        landmarks = np.stack([height - 1 - landmarks[..., 1], landmarks[..., 0]], axis=-1)
        height, width = width, height
    return Faces(boxes, faces.scores, landmarks)
