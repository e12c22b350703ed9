"""Find the landmarks of the face in each image: those of the data set, else by a detector in up to three passes.

An image of a data set shows one person, usually large and in its middle. So the first pass runs the detector on one
region only: the given box or the central square. If there is no face, the second pass searches the image. If there is
still none, the third pass searches the padded image, for crops so tight that a detector finds no face in them.

The first pass takes a tenth of the time of a search and finds as many faces. The median distance of its landmarks to
those of a search is 0.02 to 0.03 eye distances, as between two searches with different `min_face`. 95% lie within
0.05 on UTKFace's chips (two searches: 0.05), and within 0.22 on FairFace's loose crops with turned heads (two searches:
0.13). Measured by benchmarks/first_look.py.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from agedge.crop import Crop
from agedge.faces.detection import choose_main, create_detector, detect_padded
from agedge.faces.detector import Faces
from agedge.faces.orientation import keep_good
from rec_tools.rows import Row

CHOICES = ("nearest", "central", "drop")
SMALLEST = 1 / 8  # of the image's shorter side: a smaller face is not the subject of the image
FAR = 1e6  # pixels: larger than any image
LARGEST = 640  # pixels of the longer side of an image that the face fills
SET, AT_PLACE, SEARCHED = "landmarks of the set", "found at its place", "found by a search"
PADDED, FIXED = "found after padding", "fixed affine of the set's own alignment"

_detectors: Dict[Any, Any] = {}


Boxes = Sequence[Optional[np.ndarray]]


class Place(NamedTuple):
    """The landmarks (5, 2) of a face in pixels of its image, or None; `method`: how they were found, or why not."""

    landmarks: Optional[np.ndarray]
    method: str


def find_landmarks(
    images: Sequence[np.ndarray],
    rows: Sequence[Row],
    detector: str,
    faces: str = "nearest",
    set_crop: Optional[Crop] = None,
    **options: Any,
) -> List[Place]:
    """Find the face of each image (h, w, 3) BGR uint8.

    `faces`: which of several faces in an image. "nearest": the one nearest to the row's box (without a box, as
    "central"); "central": the largest central one; "drop": none. `set_crop`: the crop of the data set's images, if they
    are aligned chips. `options` of the detector.
    """
    places = [Place(np.array(row.landmarks), SET) if row.landmarks is not None else None for row in rows]
    boxes = [given_box(row) if faces == "nearest" else None for row in rows]
    for find in (detect_at_place, search, search_padded)[faces == "drop" :]:
        todo = [index for index, place in enumerate(places) if place is None]
        if not todo:
            break
        found, method = find(get_detector(detector, **options), [images[i] for i in todo], [boxes[i] for i in todo])
        for index, some in zip(todo, found):
            some = keep_good(get_detector(detector), images[index], some)
            if len(some) > 1 and faces == "drop":
                places[index] = Place(None, "several faces")
            elif len(some):
                places[index] = Place(some.landmarks[choose(some, boxes[index], images[index].shape)], method)
    return [place or fall_back(image, set_crop) for place, image in zip(places, images)]


def get_detector(name: str, **options: Any) -> Any:
    """Return the detector with this name and options; each process makes it once."""
    key = (name, *sorted(options.items())) if options else name
    if key not in _detectors:
        _detectors[key] = create_detector(name, **options)
    return _detectors[key]


def detect_at_place(detector: Any, images: Sequence[np.ndarray], boxes: Boxes) -> Tuple[List[Faces], str]:
    """Detect faces at each box (4,), or for None in the image's central square, if the detector has `detect_at`."""
    if not hasattr(detector, "detect_at"):
        return [Faces.empty() for _ in images], AT_PLACE
    places = [expected_box(image, box)[None] for image, box in zip(images, boxes)]
    return detector.detect_at(images, places), AT_PLACE


def search(detector: Any, images: Sequence[np.ndarray], boxes: Boxes) -> Tuple[List[Faces], str]:
    """Detect faces anywhere in each image."""
    if not hasattr(detector, "detect_batch"):
        return [detector.detect(image) for image in images], SEARCHED
    found = [Faces.empty()] * len(images)
    # Images of one size have the same `min_face`, so they can share a batch.
    for size in sorted({min(image.shape[:2]) for image in images}):
        alike = [index for index, image in enumerate(images) if min(image.shape[:2]) == size]
        faces = detector.detect_batch([images[index] for index in alike], max(detector.min_face, size * SMALLEST))
        for index, some in zip(alike, faces):
            found[index] = some
    return found, SEARCHED


def search_padded(detector: Any, images: Sequence[np.ndarray], boxes: Boxes) -> Tuple[List[Faces], str]:
    """Detect faces in each image with padding around it."""
    return [search_tight(detector, image) for image in images], PADDED


def search_tight(detector: Any, image: np.ndarray) -> Faces:
    """Detect faces in a tight crop. A large crop is shrunk first, since the face fills it."""
    scale = min(1, LARGEST / max(image.shape[:2]))
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    faces = detect_padded(detector, cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return Faces(faces.boxes / scale, faces.scores, faces.landmarks / scale)


def fall_back(image: np.ndarray, set_crop: Optional[Crop]) -> Place:
    """Return the landmarks by the data set's own alignment, if it has one."""
    if set_crop is None:
        return Place(None, "no face found")
    return Place(set_crop.points * (np.array(image.shape[1::-1]) / set_crop.size), FIXED)


def choose(faces: Faces, box: Optional[np.ndarray], shape: Tuple[int, ...]) -> int:
    """Return the index of the face nearest to a box (4,), or without a box, of the largest central face."""
    if box is None:
        return choose_main(faces.boxes, shape)
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    return int(np.argmin(np.linalg.norm(centres - (box[:2] + box[2:]) / 2, axis=1)))


def given_box(row: Row) -> Optional[np.ndarray]:
    """Return a row's box (4,), or the box around its corners, or None."""
    if row.box is not None:
        return np.clip(np.array(row.box, np.float64), -FAR, FAR)
    if row.corners is None:
        return None
    corners = np.array(row.corners, np.float64)
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def expected_box(image: np.ndarray, box: Optional[np.ndarray]) -> np.ndarray:
    """Return the part of the box (4,) that lies in the image, else the central square."""
    if box is not None:
        box = box.clip(0, np.tile(image.shape[1::-1], 2))
        if (box[2:] - box[:2] >= 1).all():
            return box
    return central_square(image)


def central_square(image: np.ndarray) -> np.ndarray:
    """Return the box (4,) of an image's central square."""
    size = np.array(image.shape[1::-1], np.float64)
    return np.concatenate([(size - size.min()) / 2, (size + size.min()) / 2])
