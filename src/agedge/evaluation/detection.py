"""Metrics of a face detector on annotated faces: recall, precision, average precision, landmarks."""

from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from agedge.faces.annotations import Photo
from agedge.faces.boxes import overlaps
from agedge.faces.detector import Faces

IOU = 0.4  # overlap from which a face counts as found: annotators disagree on chins and foreheads
WRONG, IGNORED = -1, -2  # the match of a detected face that is not an annotated one
SIZES = (16, 32, 64, 128, 256)  # pixels, the bounds of the bands of a face's size, the square root of its area
CLEAR = "none"  # the tag of faces without occlusion
Result = Tuple[Faces, Photo]


def match_faces(faces: Faces, photo: Photo, iou: float = IOU) -> np.ndarray:
    """Return for each detected face (n,) the index of its annotated face, `WRONG`, or `IGNORED`.

    Greedy, the best score first: each takes the free annotated face that it overlaps most, at least by `iou`. So of two
    boxes about one face one is wrong. An ignored face may be detected any number of times.
    """
    shared = overlaps(faces.boxes, photo.boxes)
    matches = np.full(len(faces), WRONG)
    free = ~photo.ignored
    for index in np.argsort(-faces.scores, kind="stable"):
        its = np.where(free, shared[index], 0)
        if its.max(initial=0) >= iou:
            matches[index] = its.argmax()
            free[matches[index]] = False
        elif shared[index][photo.ignored].max(initial=0) >= iou:
            matches[index] = IGNORED
    return matches


def measure_detection(results: Iterable[Result], iou: float = IOU) -> Dict:
    """Return the metrics of a detector's `Faces` on annotated photographs; a metric without cases is None.

    The counts `photos`, `faces` and `detected`; `recall`, `precision`, `average_precision`; `landmarks_error`: the
    mean distance of the points, in distances of the annotated eyes, over the `landmarks_faces` that were detected and
    have both eyes annotated; `sizes`, `occlusion`: a list of {"band" or "tag", "n", "recall"}.
    """
    results = list(results)
    matches = [match_faces(faces, photo, iou) for faces, photo in results]
    found, counted = [], []
    for (_, photo), its in zip(results, matches):
        found.append(np.isin(np.arange(len(photo)), its))
        counted.append(~photo.ignored)
    found, counted = _join(found, bool), _join(counted, bool)
    boxes = _join([photo.boxes for _, photo in results], np.float64, (0, 4))
    tags = [tag.split() or [CLEAR] for _, photo in results for tag in photo.occlusion.tolist()]
    matched = _join(matches, int)
    counting = matched != IGNORED
    correct, scores = matched[counting] >= 0, _join([faces.scores for faces, _ in results], np.float64)[counting]
    errors = [e for (faces, photo), its in zip(results, matches) for e in landmark_errors(faces, photo, its)]
    return {
        "photos": len(results),
        "faces": int(counted.sum()),
        "detected": len(correct),
        "recall": _mean(found[counted]),
        "precision": _mean(correct),
        "average_precision": average_precision(correct, scores, int(counted.sum())),
        "landmarks_error": _mean(errors),
        "landmarks_faces": len(errors),
        "sizes": _by_size(boxes[counted], found[counted]),
        "occlusion": _by_tag([its for its, counts in zip(tags, counted) if counts], found[counted]),
    }


def average_precision(correct: np.ndarray, scores: np.ndarray, count: int) -> Optional[float]:
    """Return the area below the precision-recall curve, with the precision made monotonic (Everingham et al., "The
    Pascal Visual Object Classes Challenge: A Retrospective", IJCV 2015).

    `correct` (n,) bool and `scores` (n,) of the detected faces, `count` of the annotated faces; None for `count` 0.
    """
    if not count:
        return None
    order = np.argsort(-np.asarray(scores), kind="stable")
    hits = np.cumsum(np.asarray(correct, bool)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best * np.diff(hits, prepend=0)).sum() / count)


def landmark_errors(faces: Faces, photo: Photo, matches: np.ndarray) -> List[float]:
    """Return the mean distance of known landmarks, in distances of the eyes, of each matched face with known eyes."""
    errors = []
    for points, index in zip(faces.landmarks, matches):
        known = photo.landmarks[index] if index >= 0 else np.full((5, 2), np.nan)
        eyes = np.linalg.norm(known[1] - known[0])
        if eyes > 0:  # not NaN
            errors.append(float(np.nanmean(np.linalg.norm(points - known, axis=1)) / eyes))
    return errors


def _by_size(boxes: np.ndarray, found: np.ndarray) -> List[Dict]:
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    names = [f"<{SIZES[0]}", *(f"{low}-{high}" for low, high in zip(SIZES, SIZES[1:])), f">={SIZES[-1]}"]
    band = np.searchsorted(SIZES, sides, side="right")
    return [
        {"band": name, "n": int((band == index).sum()), "recall": _mean(found[band == index])}
        for index, name in enumerate(names)
    ]


def _by_tag(tags: Sequence[List[str]], found: np.ndarray) -> List[Dict]:
    rows = []
    for tag in sorted({tag for its in tags for tag in its}, key=lambda tag: (tag != CLEAR, tag)):
        hits = [hit for its, hit in zip(tags, found) if tag in its]
        rows.append({"tag": tag, "n": len(hits), "recall": _mean(hits)})
    return rows


def _join(arrays: list, dtype, empty: tuple = (0,)) -> np.ndarray:
    return np.concatenate([np.empty(empty), *arrays]).astype(dtype)


def _mean(values) -> Optional[float]:
    return float(np.mean(values)) if len(values) else None
