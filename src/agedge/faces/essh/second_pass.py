"""The second look of ESSH: what the first was not sure of, and small faces, each cut out and seen large.

A pattern that looks like a face in passing seldom does so at another size and mirrored, while a face does; and the
landmarks of a small face are read from more pixels.
"""

import numpy as np

from agedge.faces.boxes import overlaps
from agedge.faces.detector import Faces
from agedge.faces.essh.anchors import find_candidates
from agedge.faces.patches import cut_patches
from agedge.landmarks import mirror

SURE = 0.98  # score of a face that is not asked for again
SMALL = 52  # pixels: a face whose longer side was shown with fewer has its landmarks read again
SIDE, CANVAS = 112, 160  # pixels of that side, and of the square around it, in the second look
MOST = 16  # faces of an image; further ones, less sure, stay as they are
AGREES = 0.4  # overlap with the first look's box from which on it is the same face
FAINT, NOTHING = 0.02, 0.05  # scores that are none; below the second a face is not looked at a third time
DOUBTFUL = 3 / 4  # of the threshold: a score from which on a face is asked for again


def look_again(net, image: np.ndarray, faces: Faces, scale: float) -> Faces:
    """The faces of an image (h, w, 3) BGR uint8, the best score first, with the second look's scores and landmarks.

    `net`: an `agedge.faces.essh.network.Net`. `scale`: of what the first look was shown to the image. The score of a
    doubtful face becomes the mean of three: the first look's, and those of the face seen large, and so mirrored, which
    are 0 where it is not seen.
    """
    scores, landmarks = faces.scores.copy(), faces.landmarks.copy()
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1)
    doubtful = faces.scores < SURE
    for index in np.flatnonzero(doubtful | (sides * scale < SMALL))[:MOST]:
        box = faces.boxes[index].astype(np.float64)
        said, points = look_at(net, image, box)
        if doubtful[index]:
            mirrored, others = look_at(net, image, box, mirrored=True) if said > NOTHING else (0, points)
            scores[index] = (scores[index] + said + mirrored) / 3
            points = (said * points + mirrored * others) / max(said + mirrored, NOTHING)
            said = (said + mirrored) / 2
        if said >= scores[index] / 2:
            landmarks[index] = points
    return Faces(faces.boxes, scores, landmarks).take(np.argsort(-scores, kind="stable"))


def look_at(net, image: np.ndarray, box: np.ndarray, mirrored: bool = False) -> tuple:
    """The score and landmarks (5, 2) of the face in a box (4,) of the image, seen large; 0 and no landmarks of any use
    where no such face is seen."""
    side = max(1, round((box[2:] - box[:2]).max() * CANVAS / SIDE))
    corner, zoom = np.round((box[:2] + box[2:] - side) / 2), CANVAS / side
    shape = (1, 3, CANVAS, CANVAS)
    planes = net.reserve(shape)
    shown = planes[..., ::-1] if mirrored else planes
    cut_patches(image, np.concatenate([corner, corner + side])[None], shown[:, ::-1])  # BGR to RGB
    planes -= net.mean.reshape(1, 3, 1, 1)
    boxes, scores, landmarks = find_candidates(net.run(shape), FAINT)[0]
    if mirrored:
        boxes, landmarks = mirror(boxes, landmarks, CANVAS)
    looked_for = (box - np.tile(corner, 2))[None] * zoom
    scores = np.where(overlaps(boxes, looked_for)[:, 0] >= AGREES, scores, 0)
    if not scores.any():
        return 0.0, np.zeros((5, 2))
    best = scores.argmax()
    return float(scores[best]), (landmarks[best] + 0.5) / zoom - 0.5 + corner
