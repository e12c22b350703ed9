"""How much of a face a scene shows, and so whether it is a face to be found, neither face nor background, or gone."""

import numpy as np

SMALLEST = 10  # pixels: a smaller face is neither face nor background
VISIBLE = 0.45  # of a face's box: what shows less of it is neither
CONTRAST = 4  # of 255: the standard deviation of its pixels' grey, under which a face is neither, being unlit or fogged
LEAST = 0.1  # of a face's box: what shows less of it is background


def cut_off(image: np.ndarray, boxes, landmarks, ignored, shown, covers) -> tuple:
    """Faces as they are to be found in `image` (h, w, 3): boxes (n, 4) cut off at its border, landmarks (n, 5, 2),
    ignored (n,) bool, and covers, a list of n words. What lies outside is gone; `ignored` is also what is too small or
    too faint, and of what too little is within the image and `shown`, (n,) shares of that part, 0..1."""
    size = np.array(image.shape[1::-1])
    whole = np.array(boxes, np.float64).reshape(-1, 4)
    shares = np.array([share_of_frame(image, box) for box in whole])
    boxes = np.clip(whole, 0, np.tile(size - 1, 2))
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    ignored = np.array(ignored, bool) | (shares * shown < VISIBLE) | (areas < SMALLEST**2)
    ignored |= np.array([is_faint(image, box) for box in boxes], bool)
    kept = shares > LEAST
    landmarks = np.array(landmarks, np.float64).reshape(-1, 5, 2)
    return boxes[kept], landmarks[kept], ignored[kept], [cover for cover, keep in zip(covers, kept) if keep]


def is_faint(image: np.ndarray, box: np.ndarray) -> bool:
    """Whether what an image (h, w, 3) uint8 shows in a box has next to no contrast."""
    x1, y1, x2, y2 = np.round(box).astype(int)
    part = image[y1 : y2 + 1, x1 : x2 + 1, 1]
    return part.size > 0 and bool(part.std() < CONTRAST)


def share_within(box: np.ndarray, other: np.ndarray) -> float:
    """How much of a box another one covers, 0..1."""
    shared = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return float(np.prod(np.maximum(shared, 0)) / max(np.prod(box[2:] - box[:2]), 1e-6))


def share_of_frame(image: np.ndarray, box: np.ndarray) -> float:
    """How much of a box lies within an image (h, w, ..), 0..1."""
    return share_within(box, np.array([0, 0, *image.shape[1::-1]]))


def share_of_mask(mask: np.ndarray, box: np.ndarray) -> float:
    """How much of a box a mask (h, w) of 0..1 covers; beyond its borders it is 0."""
    low, high = np.floor(np.maximum(box[:2], 0)).astype(int), np.ceil(np.maximum(box[2:], 0)).astype(int)
    part = mask[low[1] : high[1], low[0] : high[0]]
    return float(part.mean()) * share_of_frame(mask, box) if part.size else 0.0
