"""The second pass of ESSH: doubtful faces and small ones of the first pass are cut out, enlarged and detected again.

A pattern that looks like a face at one size seldom does so at another size and mirrored, while a face does; and the
landmarks of a small face are read from more pixels.
"""

from typing import Tuple

import numpy as np

from agedge.faces.boxes import overlaps
from agedge.faces.detector import Faces
from agedge.faces.essh.anchors import find_candidates
from agedge.faces.essh.network import ESSHNetwork
from agedge.faces.patches import cut_patches
from agedge.landmarks import LANDMARK_COUNT, mirror

SURE = 0.98  # score from which on a face is not doubtful
SMALL = 52  # pixels: a face whose longer side was shown with fewer has its landmarks read again
SIDE, CANVAS = 112, 160  # pixels of that side, and of the square around it, in the second pass
MOST = 16  # faces of an image; further ones, of lower scores, stay as they are
AGREES = 0.4  # overlap with the first pass's box from which on it is the same face
FAINT, NOTHING = 0.02, 0.05  # scores of no face; below the second a face is not detected a third time, mirrored
DOUBTFUL = 3 / 4  # of the threshold: the score from which on a candidate gets a second pass


def refine_faces(network: ESSHNetwork, image: np.ndarray, faces: Faces, scale: float) -> Faces:
    """Return the faces of an image (h, w, 3) BGR uint8, best score first, with the second pass's scores and landmarks.

    `scale`: the size of the first view, in sizes of the image. The score of a doubtful face becomes the mean of three:
    the first pass's, and those of the enlarged face and of its mirror image, which are 0 where it is not found.
    """
    scores, landmarks = faces.scores.copy(), faces.landmarks.copy()
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1)
    doubtful = faces.scores < SURE
    for index in np.flatnonzero(doubtful | (sides * scale < SMALL))[:MOST]:
        box = faces.boxes[index].astype(np.float64)
        score, points = detect_enlarged(network, image, box)
        if doubtful[index]:
            again, others = detect_enlarged(network, image, box, mirrored=True) if score > NOTHING else (0, points)
            scores[index] = (scores[index] + score + again) / 3
            points = (score * points + again * others) / max(score + again, NOTHING)
            score = (score + again) / 2
        if score >= scores[index] / 2:
            landmarks[index] = points
    return Faces(faces.boxes, scores, landmarks).take(np.argsort(-scores, kind="stable"))


def detect_enlarged(
    network: ESSHNetwork, image: np.ndarray, box: np.ndarray, mirrored: bool = False
) -> Tuple[float, np.ndarray]:
    """Return the score and landmarks (5, 2) of the face in a box (4,) of the image, enlarged; the score 0 and zeros
    where no such face is found."""
    side = max(1, round((box[2:] - box[:2]).max() * CANVAS / SIDE))
    corner, zoom = np.round((box[:2] + box[2:] - side) / 2), CANVAS / side
    shape = (1, 3, CANVAS, CANVAS)
    planes = network.reserve(shape)
    shown = planes[..., ::-1] if mirrored else planes
    cut_patches(image, np.concatenate([corner, corner + side])[None], shown[:, ::-1])  # BGR to RGB
    planes -= network.mean.reshape(1, 3, 1, 1)
    boxes, scores, landmarks = find_candidates(network.run(shape), FAINT)[0]
    if mirrored:
        boxes, landmarks = mirror(boxes, landmarks, CANVAS)
    expected = (box - np.tile(corner, 2))[None] * zoom
    scores = np.where(overlaps(boxes, expected)[:, 0] >= AGREES, scores, 0)
    if not scores.any():
        return 0.0, np.zeros((LANDMARK_COUNT, 2))
    best = scores.argmax()
    return float(scores[best]), (landmarks[best] + 0.5) / zoom - 0.5 + corner
