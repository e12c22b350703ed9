"""The second pass of ESSH: crop doubtful and small faces of the first pass, enlarge them and detect them again.

A false detection at one size is rarely detected again at another size and mirrored; a face is. Landmarks of a small
face become more accurate with more pixels.
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
SMALL = 52  # pixels of the longer side in the first view: smaller faces get new landmarks
SIDE, CANVAS = 112, 160  # pixels of the longer side, and of the square around it, in the second pass
MAX_FACES = 16  # per image, highest scores first; further faces stay as they are
SAME_FACE = 0.4  # least overlap of a box with that of the first pass, to be the same face
FAINT, NOTHING = 0.02, 0.05  # lowest score of a candidate; and of a face that is also detected mirrored
DOUBTFUL = 3 / 4  # share of the threshold: lowest score of a candidate for the second pass


def refine_faces(network: ESSHNetwork, image: np.ndarray, faces: Faces, scale: float) -> Faces:
    """Return the faces of an image (h, w, 3) BGR uint8, best first, with scores and landmarks of the second pass.

    `scale`: size of the first view as a share of the image's. The score of a doubtful face becomes the mean of three:
    of the first pass, of the enlarged face and of its mirror image; a score is 0 if the face is not found.
    """
    scores, landmarks = faces.scores.copy(), faces.landmarks.copy()
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1)
    doubtful = faces.scores < SURE
    for index in np.flatnonzero(doubtful | (sides * scale < SMALL))[:MAX_FACES]:
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
    """Detect the face in a box (4,) of the image again, enlarged.

    Returns its score and landmarks (5, 2) in the image; 0 and zeros if it is not found.
    """
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
    scores = np.where(overlaps(boxes, expected)[:, 0] >= SAME_FACE, scores, 0)
    if not scores.any():
        return 0.0, np.zeros((LANDMARK_COUNT, 2))
    best = scores.argmax()
    return float(scores[best]), (landmarks[best] + 0.5) / zoom - 0.5 + corner
