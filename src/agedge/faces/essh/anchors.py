"""Lay ESSH's anchors, decode its output maps relative to them, and assign training targets.

Boxes (n, 4) have inclusive corners here, as in the detectors of that family: a box is x2 - x1 + 1 wide.
"""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from agedge.errors import AgedgeError
from agedge.faces.boxes import _boxes, match
from agedge.landmarks import LANDMARK_COUNT

STRIDES = (32, 16, 8)  # in the order of the network's outputs
BASE = 16  # pixels: the side of an anchor of scale 1
SCALES = {32: (32, 16), 16: (8, 4), 8: (2, 1)}
FACE, BACKGROUND = 0.5, 0.3  # IoU with a face, from which an anchor is a face, and below which it is background
WITHOUT_LANDMARKS, WITH_LANDMARKS = 1, 2  # kinds of a face anchor
CHANNELS = (4, 8, 20)  # of the three maps of a stride: class probabilities, box deltas, landmark deltas
GROWTH = np.log(
    1000 / 16
)  # limit of the log of a side's growth, as in Detectron: larger values are noise, and exp overflows


class Candidates(NamedTuple):
    """What a network detects in one image: `boxes` (n, 4), `scores` (n,) float32, `landmarks` (n, 5, 2) in pixels."""

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray


class Targets(NamedTuple):
    """The training targets of A anchors.

    `faces` (A,) float32: WITH_LANDMARKS or WITHOUT_LANDMARKS for a face, 0 for background, -1 for neither.
    `box_deltas` (A, 4) and `landmark_deltas` (A, 10) float32: 0 for anchors without them.
    """

    faces: np.ndarray
    box_deltas: np.ndarray
    landmark_deltas: np.ndarray


def base_anchors(stride: int) -> np.ndarray:
    """Return the (2, 4) anchors at position (0, 0) of the map of `stride`.

    They are squares around the centre of the first BASE x BASE pixels.
    """
    half = BASE * np.array(SCALES[stride], np.float64) / 2
    centre = (BASE - 1) / 2
    low, high = centre - half + 0.5, centre + half - 0.5
    return np.stack([low, low, high, high], axis=1)


def lay_anchors(stride: int, height: int, width: int) -> np.ndarray:
    """Return the (2 * height * width, 4) anchors of a map of that size: by anchor, then row, then column."""
    y, x = np.mgrid[:height, :width] * stride
    shift = np.stack([x, y, x, y], axis=-1)
    return (base_anchors(stride)[:, None, None] + shift).reshape(-1, 4)


def decode_boxes(anchors: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Return boxes (n, 4) from anchors (n, 4) and deltas (n, 4).

    Deltas are shifts of the centre and logarithms of the growth, in units of the anchor's sides (Girshick et al., CVPR
    2014, appendix C). No side grows by more than exp(GROWTH).
    """
    size = anchors[:, 2:] - anchors[:, :2] + 1
    centre = anchors[:, :2] + (size - 1) / 2 + deltas[:, :2] * size
    half = (np.exp(np.minimum(deltas[:, 2:], GROWTH)) * size - 1) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def decode_landmarks(anchors: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Return landmarks (n, 5, 2) from anchors (n, 4) and deltas (n, 10): shifts of the centre in units of the sides."""
    size = anchors[:, 2:] - anchors[:, :2] + 1
    centre = anchors[:, :2] + (size - 1) / 2
    return deltas.reshape(-1, LANDMARK_COUNT, 2) * size[:, None] + centre[:, None]


def find_candidates(outputs: Sequence[np.ndarray], threshold: float) -> List[Candidates]:
    """Return the candidates of each of N images, in pixels of the network's input.

    These are the anchors with a face score over `threshold`, by stride, then in the order of `lay_anchors`.

    `outputs`: nine maps by position, for stride 32, 16, 8 class probabilities (N, 4, h, w) = [background a0, background
    a1, face a0, face a1], box deltas (N, 8, h, w) and landmark deltas (N, 20, h, w) of any h and w. An anchor with a
    score or delta that is NaN or infinite is not a candidate. Raises `AgedgeError` if the maps have other shapes.
    """
    check_maps(outputs)
    images, found = len(outputs[0]), []
    for i, stride in enumerate(STRIDES):
        score, box, landmarks = outputs[3 * i : 3 * i + 3]
        image, *candidates = decode_maps(stride, score, box, landmarks, threshold)
        starts = np.searchsorted(image, np.arange(images + 1))
        found.append([[each[start:end] for each in candidates] for start, end in zip(starts, starts[1:])])
    return [Candidates(*map(np.concatenate, zip(*strides))) for strides in zip(*found)]


def check_maps(outputs: Sequence[np.ndarray]) -> None:
    """Raise `AgedgeError` if outputs are not the nine maps that `find_candidates` takes."""
    if len(outputs) != len(STRIDES) * len(CHANNELS):
        raise AgedgeError(f"outputs: {len(outputs)}; must be nine maps, three for each stride of {STRIDES}")
    for i, stride in enumerate(STRIDES):
        shapes = [np.shape(each) for each in outputs[3 * i : 3 * i + 3]]
        images, places = np.shape(outputs[0])[:1], shapes[0][2:]
        if shapes != [(*images, channels, *places) for channels in CHANNELS] or len(places) != 2:
            expected = ", ".join(f"(N, {channels}, h, w)" for channels in CHANNELS)
            raise AgedgeError(f"outputs of stride {stride}: {', '.join(map(str, shapes))}; must be {expected}")


def decode_maps_numpy(
    stride: int, score: np.ndarray, box: np.ndarray, landmarks: np.ndarray, threshold: float
) -> Tuple[np.ndarray, ...]:
    """Return the candidates in the three maps of one stride: the image of each (n,), boxes, scores and landmarks."""
    images, _, height, width = score.shape
    face = np.asarray(score[:, 2:], np.float32)
    image, anchor, y, x = np.nonzero((face > np.float32(threshold)) & (face < np.inf))
    box = box.reshape(images, 2, 4, height, width)[image, anchor, :, y, x].astype(np.float64)
    landmarks = landmarks.reshape(images, 2, 10, height, width)[image, anchor, :, y, x].astype(np.float64)
    sound = np.isfinite(box).all(axis=1) & np.isfinite(landmarks).all(axis=1)
    image, anchor, y, x = (each[sound] for each in (image, anchor, y, x))
    anchors = base_anchors(stride)[anchor] + np.stack([x, y, x, y], axis=1) * stride
    boxes, points = decode_boxes(anchors, box[sound]), decode_landmarks(anchors, landmarks[sound])
    return image, boxes, face[image, anchor, y, x], points


def decode_maps(
    stride: int, score: np.ndarray, box: np.ndarray, landmarks: np.ndarray, threshold: float
) -> Tuple[np.ndarray, ...]:
    """Return the result of `decode_maps_numpy`, by compiled code if it is built.

    The compiled code uses exp of the C library, which may differ in the last bit; a side of a box may then differ by
    2**-50 of the longest side or coordinate.
    """
    if _boxes is None:
        return decode_maps_numpy(stride, score, box, landmarks, threshold)
    maps = (np.ascontiguousarray(each, np.float32) for each in (score, box, landmarks))
    return _boxes.decode(*maps, base_anchors(stride), stride, threshold, GROWTH)


def encode_boxes(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the deltas (n, 4) that `decode_boxes` decodes to boxes (n, 4)."""
    size, target_size = (each[:, 2:] - each[:, :2] + 1 for each in (anchors, boxes))
    centre, target = (each[:, :2] + (side - 1) / 2 for each, side in ((anchors, size), (boxes, target_size)))
    return np.concatenate([(target - centre) / size, np.log(target_size / size)], axis=1)


def encode_landmarks(anchors: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the deltas (n, 10) that `decode_landmarks` decodes to landmarks (n, 5, 2)."""
    size = anchors[:, 2:] - anchors[:, :2] + 1
    centre = anchors[:, :2] + (size - 1) / 2
    return ((landmarks - centre[:, None]) / size[:, None]).reshape(-1, 10)


def assign_targets(anchors: np.ndarray, boxes: np.ndarray, landmarks: np.ndarray, ignored: np.ndarray) -> Targets:
    """Return the targets of anchors (A, 4) for an image with faces.

    `boxes` (n, 4); `landmarks` (n, 5, 2), NaN if unknown; faces in `ignored` (n,) bool are neither faces nor
    background. An anchor is assigned to the face with the highest IoU, if that is at least FACE. The anchor with the
    highest IoU with a face is always assigned to it; otherwise small faces between two anchors would have none.
    """
    count = len(anchors)
    faces = np.zeros(count, np.float32)
    box_deltas, landmark_deltas = np.zeros((count, 4), np.float32), np.zeros((count, 10), np.float32)
    if not len(boxes):
        return Targets(faces, box_deltas, landmark_deltas)
    owner, most, best, best_most = match(anchors, boxes, border=1)
    sure = ~ignored & (best_most > BACKGROUND)
    owner[best[sure]], most[best[sure]] = np.flatnonzero(sure), 1
    faces[most >= BACKGROUND] = -1
    chosen = np.flatnonzero((most >= FACE) & ~ignored[owner])
    its = owner[chosen]
    has_landmarks = np.isfinite(landmarks[its]).all(axis=(1, 2))
    faces[chosen] = np.where(has_landmarks, WITH_LANDMARKS, WITHOUT_LANDMARKS)
    box_deltas[chosen] = encode_boxes(anchors[chosen], boxes[its])
    landmark_deltas[chosen] = np.nan_to_num(encode_landmarks(anchors[chosen], landmarks[its]))
    return Targets(faces, box_deltas, landmark_deltas)
