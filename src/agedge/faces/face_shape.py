"""Check whether five landmarks are those of a face that can be aligned: upright enough, and shaped like a face.

The extremes of MTCNN and ESSH on 2,100 upright faces of UTKFace, FairFace, All-Age-Faces and photographs are in
brackets below; the limits lie outside of them. Profiles and heads tilted by 45 degrees pass.
"""

from typing import List, NamedTuple

import numpy as np

from agedge.crop import TEMPLATES

MAX_TILT = 60  # degrees from upright; if more, the face is nearer to upright in the image turned by 90 degrees
MIN_LIKENESS = 0.78  # correlation with the template after the best rotation and scaling (0.81)
MAX_SHIFT = 0.6  # of a landmark from its position in the template, in eye distances of the template (0.52)
MIN_DROP = 0.3  # distance of the mouth below the eyes, in the same unit (0.65; of the template 1.14)
MIN_BREADTH = 0.25  # breadth of the landmarks over their length along the longest axis; less is a line (0.37)
MIN_EXTENT, LEAST_SHARE, MOST_SHARE = 1, 0.12, 1.5  # of the landmarks' extent: pixels; range in box sides (0.26 to 0.8)

_FACE = (TEMPLATES["arcface"] - TEMPLATES["arcface"].mean(axis=0)) @ (1, 1j)
_EYES = abs(_FACE[1] - _FACE[0])


class Fit(NamedTuple):
    """How landmarks (n, 5, 2) fit the upright template; NaN if they are a single point or not finite.

    Attributes:
        tilt: (n,) degrees clockwise from upright, in -180..180.
        likeness: (n,) correlation with the template, in 0..1.
        points: (n, 5) complex: the landmarks rotated upright, scaled to the template and centred at 0, in eye distances
            of the template.
    """

    tilt: np.ndarray
    likeness: np.ndarray
    points: np.ndarray


def fit_template(landmarks: np.ndarray) -> Fit:
    """Return the `Fit` of landmarks (n, 5, 2): left eye, right eye, nose, left and right mouth corner, in pixels."""
    with np.errstate(all="ignore"):
        points = np.asarray(landmarks, np.float64).reshape(-1, 5, 2) @ (1, 1j)
        points = points - points.mean(axis=1, keepdims=True)
        spread = (np.abs(points) ** 2).sum(axis=1)
        turn = (points.conj() * _FACE).sum(axis=1) / spread
        likeness = np.abs(turn) * np.sqrt(spread) / np.linalg.norm(_FACE)
        return Fit(-np.angle(turn, deg=True), likeness, turn[:, None] * points / _EYES)


def find_faults(landmarks: np.ndarray, boxes: np.ndarray) -> List[str]:
    """Return why landmarks (n, 5, 2) of faces in boxes (n, 4) must not be aligned, "" if nothing is wrong."""
    landmarks, boxes = np.asarray(landmarks, np.float64), np.asarray(boxes, np.float64)
    with np.errstate(all="ignore"):
        return [_find_fault(*face) for face in zip(landmarks, boxes, *fit_template(landmarks))]


def _find_fault(landmarks: np.ndarray, box: np.ndarray, tilt: float, likeness: float, points: np.ndarray) -> str:
    if not np.isfinite(landmarks).all():
        return "its landmarks are not finite"
    side, extent = (box[2:] - box[:2]).max(), np.ptp(landmarks, axis=0).max()
    if not extent >= MIN_EXTENT or extent < LEAST_SHARE * side:
        return "its landmarks are all at one point"
    away = np.abs(landmarks.mean(axis=0) - (box[:2] + box[2:]) / 2).max()
    if side > 0 and (extent > MOST_SHARE * side or away > side):
        return "its landmarks do not lie in its box"
    shifts = np.abs(points - _FACE / _EYES)
    left_eye, right_eye, _, left_mouth, right_mouth = points
    is_crossed = right_eye.real <= left_eye.real or right_mouth.real <= left_mouth.real
    drop = ((left_mouth + right_mouth) / 2 - (left_eye + right_eye) / 2).imag
    along, across = np.linalg.svd(landmarks - landmarks.mean(axis=0), compute_uv=False)
    is_flat = across < MIN_BREADTH * along
    if not likeness >= MIN_LIKENESS or is_flat or is_crossed or drop < MIN_DROP or shifts.max() > MAX_SHIFT:
        return "its landmarks do not have the shape of a face"
    if abs(tilt) > MAX_TILT:
        return f"it is turned by {abs(tilt):.0f} degrees"
    return ""
