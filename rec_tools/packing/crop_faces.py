"""A face cut out of its image: as a whole, by landmarks, or by the box or rotated square that the set gives."""

from dataclasses import replace
from typing import NamedTuple, Optional

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.faces.align import align, estimate_similarity, resize_square
from rec_tools.packing.landmarks import SET, Place, fall_back, find_landmarks
from rec_tools.packing.options import Preparation
from rec_tools.rows import Row

OUTSIDE = "face outside the image"
IN_SHARES = "{} not in pixels (shares?)"
SMALLEST = 8  # pixels of a box's longer side: nothing can be seen of a smaller face
MOST_OUTSIDE = 0.5  # of a box's area: then it is of another image, or of another size of it
LARGEST = 3  # times the image's longer side
WHOLE, BOX, CORNERS = "whole image", "box of the set", "rotated square of the set"


class Face(NamedTuple):
    """A face cut out: `image` (size, size, 3), None where there is none; `way`: how, or the reason."""

    image: Optional[np.ndarray]
    way: str
    landmarks: Optional[np.ndarray] = None


def cut_faces(images: list, rows: list, preparation: Preparation) -> list:
    """A `Face` for every image (h, w, 3)."""
    if preparation.align == "none":
        return [take_whole(image, row, preparation.size) for image, row in zip(images, rows)]
    if preparation.align == "set":
        return [cut_by_set(image, row, preparation) for image, row in zip(images, rows)]
    options = preparation.detector_options
    places = find_landmarks(images, rows, preparation.align, preparation.faces, preparation.set_crop, **options)
    boxes = [find_place_fault(image, replace(row, landmarks=None)) for image, row in zip(images, rows)]
    return [
        Face(None, fault) if fault else cut_by_landmarks(image, place, preparation.crop)
        for image, place, fault in zip(images, places, boxes)
    ]


def take_whole(image: np.ndarray, row: Row, size: int) -> Face:
    """The central square at (size, size), or the image as it is for size 0; the set's landmarks go along."""
    landmarks = row.landmarks
    if size and landmarks is not None:
        side = min(image.shape[:2])
        corner = (np.array(image.shape[1::-1]) - side) // 2
        landmarks = (np.array(landmarks) - corner + 0.5) * (size / side) - 0.5
    return Face(resize_square(image, size) if size else image, WHOLE, landmarks)


def cut_by_landmarks(image: np.ndarray, place: Place, crop: Crop) -> Face:
    if place.landmarks is None:
        return Face(None, place.way)
    if lies_outside(image, place.landmarks):
        return Face(None, OUTSIDE)
    try:
        matrix = estimate_similarity(place.landmarks, crop.points)
    except AgedgeError:
        return Face(None, "landmarks that make no face")
    return Face(align(image, place.landmarks, crop), place.way, place.landmarks @ matrix[:, :2].T + matrix[:, 2])


def cut_by_set(image: np.ndarray, row: Row, preparation: Preparation) -> Face:
    """By the landmarks, the rotated square or the box of the set, else by how it aligned its images."""
    if fault := find_place_fault(image, row):
        return Face(None, fault)
    if row.landmarks is not None:
        return cut_by_landmarks(image, Place(np.array(row.landmarks), SET), preparation.crop)
    if row.corners is not None:
        return cut_square(image, np.array(row.corners, np.float64), CORNERS, preparation)
    if row.box is not None:
        return cut_square(image, square_about(row.box), BOX, preparation)
    place = fall_back(image, preparation.set_crop)
    if place.landmarks is None:
        return Face(None, "the set does not say where the face is")
    return cut_by_landmarks(image, place, preparation.crop)


def cut_square(image: np.ndarray, corners: np.ndarray, way: str, preparation: Preparation) -> Face:
    """What lies between the corners (4, 2) of a square, and the margin about it."""
    if lies_outside(image, corners):
        return Face(None, OUTSIDE)
    centre, end = corners.mean(axis=0), preparation.size - 0.5  # pixels' centres lie at whole numbers
    corners = centre + (corners - centre) * (1 + preparation.margin) - 0.5
    whole = Crop(preparation.size, np.array([(-0.5, -0.5), (end, -0.5), (end, end), (-0.5, end)]))
    try:
        return Face(align(image, corners, whole), way)
    except AgedgeError:
        return Face(None, "box without any size")


def lies_outside(image: np.ndarray, points: np.ndarray) -> bool:
    """Whether the box about points (n, 2) has no pixel of the image: what could be cut out is its border."""
    return not ((points.max(axis=0) > 0).all() and (points.min(axis=0) < image.shape[1::-1]).all())


def find_place_fault(image: np.ndarray, row: Row) -> str:
    """Return why the landmarks, the square or the box of a row cannot be those of a face in this image, or ""."""
    for name, points in (("landmarks", row.landmarks), ("square", row.corners), ("box", row.box)):
        if points is None:
            continue
        points = np.array(points, np.float64).reshape(-1, 2)
        size, sides = np.array(image.shape[1::-1]), np.ptp(points, axis=0)
        if not np.isfinite(points).all():
            return f"{name} not finite"
        if (points >= 0).all() and (points <= 1).all() and size.min() > 1:
            return IN_SHARES.format(name)
        if lies_outside(image, points):
            return OUTSIDE
        if name == "landmarks":
            outside = ((points < 0) | (points > size)).any(axis=1)
            return "landmarks outside the image" if outside.sum() > len(points) / 2 else ""
        if sides.max() < SMALLEST:
            return f"{name} of less than {SMALLEST} pixels"
        inside = np.clip(points, 0, size)
        share = np.prod(np.ptp(inside, axis=0)) / np.prod(sides) if name == "box" else 1
        if share < 1 - MOST_OUTSIDE or sides.max() > LARGEST * size.max():
            return f"{name} mostly outside the image"
        return ""
    return ""


def square_about(box) -> np.ndarray:
    """The corners (4, 2) of the square about a box's centre, as large as its longer side."""
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1) / 2
    return np.array([(-half, -half), (half, -half), (half, half), (-half, half)]) + ((x1 + x2) / 2, (y1 + y2) / 2)
