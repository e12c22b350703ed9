"""Crop faces from images: the whole image, by landmarks, or by the box or rotated square that the data set gives."""

from dataclasses import replace
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.faces.align import align, estimate_similarity, resize_square
from rec_tools.packing.landmarks import SET, Place, fall_back, find_landmarks
from rec_tools.packing.options import Preparation
from rec_tools.rows import Point, Row

OUTSIDE = "face outside the image"
IN_SHARES = "{} not in pixels (shares?)"
SMALLEST = 8  # pixels of a box's longer side: a smaller face shows nothing
MOST_OUTSIDE = 0.5  # of a box's area: a box with more outside belongs to another image, or to another size of it
LARGEST = 3  # times the image's longer side
WHOLE, BOX, CORNERS = "whole image", "box of the set", "rotated square of the set"


class CroppedFace(NamedTuple):
    """A cropped face.

    `image` (size, size, 3) BGR, or None if there is none. `method`: how it was cropped, or why it was not.
    `landmarks` (5, 2) in pixels of the crop, if known.
    """

    image: Optional[np.ndarray]
    method: str
    landmarks: Optional[np.ndarray] = None


def crop_faces(images: Sequence[np.ndarray], rows: Sequence[Row], preparation: Preparation) -> List[CroppedFace]:
    """Crop the face of every image (h, w, 3) BGR."""
    if preparation.align == "none":
        return [take_whole_image(image, to_array(row.landmarks), preparation.size) for image, row in zip(images, rows)]
    if preparation.align == "set":
        return [crop_by_set(image, row, preparation) for image, row in zip(images, rows)]
    options = preparation.detector_options
    places = find_landmarks(images, rows, preparation.align, preparation.faces, preparation.set_crop, **options)
    faults = [find_position_fault(image, replace(row, landmarks=None)) for image, row in zip(images, rows)]
    return [
        CroppedFace(None, fault) if fault else crop_by_landmarks(image, place, preparation.crop)
        for image, place, fault in zip(images, places, faults)
    ]


def take_whole_image(image: np.ndarray, landmarks: Optional[np.ndarray], size: int) -> CroppedFace:
    """Return the central square at (size, size), or for size 0 the image; landmarks (5, 2) are moved along."""
    if size and landmarks is not None:
        side = min(image.shape[:2])
        corner = (np.array(image.shape[1::-1]) - side) // 2
        landmarks = (landmarks - corner + 0.5) * (size / side) - 0.5
    return CroppedFace(resize_square(image, size) if size else image, WHOLE, landmarks)


def to_array(landmarks: Optional[Sequence[Point]]) -> Optional[np.ndarray]:
    """Return the landmarks of a row as an array (5, 2), or None."""
    return None if landmarks is None else np.array(landmarks, np.float64)


def crop_by_landmarks(image: np.ndarray, place: Place, crop: Optional[Crop]) -> CroppedFace:
    """Crop a face so that its landmarks lie on those of the crop."""
    if place.landmarks is None:
        return CroppedFace(None, place.method)
    if lies_outside(image, place.landmarks):
        return CroppedFace(None, OUTSIDE)
    assert crop is not None, "landmarks need a crop to go to"
    try:
        matrix = estimate_similarity(place.landmarks, crop.points)
    except AgedgeError:
        return CroppedFace(None, "landmarks that make no face")
    return CroppedFace(
        align(image, place.landmarks, crop), place.method, place.landmarks @ matrix[:, :2].T + matrix[:, 2]
    )


def crop_by_set(image: np.ndarray, row: Row, preparation: Preparation) -> CroppedFace:
    """Crop by the data set's landmarks, rotated square or box, else by the alignment of its images."""
    if fault := find_position_fault(image, row):
        return CroppedFace(None, fault)
    if row.landmarks is not None:
        return crop_by_landmarks(image, Place(np.array(row.landmarks), SET), preparation.crop)
    if row.corners is not None:
        return crop_square(image, np.array(row.corners, np.float64), CORNERS, preparation)
    if row.box is not None:
        return crop_square(image, square_about(row.box), BOX, preparation)
    place = fall_back(image, preparation.set_crop)
    if place.landmarks is None:
        return CroppedFace(None, "the set does not say where the face is")
    return crop_by_landmarks(image, place, preparation.crop)


def crop_square(image: np.ndarray, corners: np.ndarray, method: str, preparation: Preparation) -> CroppedFace:
    """Crop the square with these corners (4, 2), and the margin around it."""
    if lies_outside(image, corners):
        return CroppedFace(None, OUTSIDE)
    centre, end = corners.mean(axis=0), preparation.size - 0.5  # pixel centres are at whole numbers
    corners = centre + (corners - centre) * (1 + preparation.margin) - 0.5
    whole = Crop(preparation.size, np.array([(-0.5, -0.5), (end, -0.5), (end, end), (-0.5, end)]))
    try:
        return CroppedFace(align(image, corners, whole), method)
    except AgedgeError:
        return CroppedFace(None, "box without any size")


def lies_outside(image: np.ndarray, points: np.ndarray) -> bool:
    """Return whether the box around points (n, 2) contains no pixel of the image."""
    return not ((points.max(axis=0) > 0).all() and (points.min(axis=0) < image.shape[1::-1]).all())


def find_position_fault(image: np.ndarray, row: Row) -> str:
    """Return why the landmarks, the square or the box of a row cannot belong to a face in this image, or ""."""
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


def square_about(box: Sequence[float]) -> np.ndarray:
    """Return the corners (4, 2) of the square around a box's centre, with the box's longer side."""
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1) / 2
    return np.array([(-half, -half), (half, -half), (half, half), (-half, half)]) + ((x1 + x2) / 2, (y1 + y2) / 2)
