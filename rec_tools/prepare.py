"""Rows made ready: images read, faces found, cut and encoded. What the worker processes of `pack` do."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

import cv2
import numpy as np

from agedge.errors import UsageError
from agedge.faces.align import align, estimate_similarity, resize_square
from agedge.faces.crop import Crop
from agedge.image_header import JPEG, UPRIGHT, Header
from agedge.sources import MAX_PIXELS, check_image, decode_image
from rec_tools.copies import fingerprint
from rec_tools.folder import is_inside
from rec_tools.landmarks import find_landmarks
from rec_tools.rows import Dropped, Row

ALIGN = ("none", "set", "mtcnn", "essh")
BATCH_PIXELS = 16e6  # images that are decoded at a time: 48 MB
UNCHANGED, WHOLE, BOX, CORNERS = "unchanged", "whole image", "box of the set", "rotated square of the set"


@dataclass(frozen=True)
class Preparation:
    """How faces become records.

    `size`: side of the packed faces in pixels; 0 leaves images as they are. `align`: "none" takes the whole image,
    "set" what the set says of the face's place, else the detector that finds landmarks; `crop` says where those go, and
    `margin` how much more than the set's box or square is shown. `set_crop`: where landmarks lie in the set's own
    images, if it aligned them. `faces`: which one of several. `root`: no image outside of it is read. Raises
    `UsageError` where these do not go together.
    """

    size: int = 112
    align: str = "none"
    crop: Optional[Crop] = None
    margin: float = 0.0
    set_crop: Optional[Crop] = None
    quality: int = 95
    faces: str = "nearest"
    root: Optional[Path] = None
    max_pixels: float = MAX_PIXELS
    fingerprints: bool = False

    def __post_init__(self):
        if not self.size and self.align != "none":
            raise UsageError(f"size 0 leaves images as they are, align {self.align} cuts faces: give a size")


class Prepared(NamedTuple):
    """A face ready to be written.

    `digest`: 32 hexadecimal digits of the image file's bytes; `fingerprint` (4,) uint64 of its pixels, if asked for;
    `way`: how it was cut; `landmarks` (5, 2) in pixels of the packed face, where they are known.
    """

    row: Row
    jpeg: bytes
    digest: str
    way: str
    fingerprint: Optional[np.ndarray] = None
    landmarks: Optional[np.ndarray] = None


class Opened(NamedTuple):
    """An image that was read: its bytes, and its pixels (h, w, 3) BGR where they are to be cut."""

    row: Row
    content: bytes
    image: Optional[np.ndarray]


def prepare_all(rows, preparation: Preparation) -> list:
    """A chunk of rows, in order: each `Prepared`, or `Dropped` with the reason."""
    results, batch, pixels = {}, {}, 0
    for number, row in enumerate(rows):
        opened = row if isinstance(row, Dropped) else open_image(row, preparation)
        if isinstance(opened, Dropped):
            results[number] = opened
        elif opened.image is None:
            results[number] = keep(opened, preparation)
        else:
            batch[number] = opened
            pixels += opened.image.size / 3
            if pixels > BATCH_PIXELS:
                results.update(zip(batch, cut_all(list(batch.values()), preparation)))
                batch, pixels = {}, 0
    results.update(zip(batch, cut_all(list(batch.values()), preparation)))
    return [results[number] for number in sorted(results)]


def open_image(row: Row, preparation: Preparation):
    """`Opened`, or `Dropped`: whatever is wrong with an image is the reason why its row is dropped."""
    try:
        if isinstance(row.image, bytes):
            content = row.image
        elif preparation.root is not None and not is_inside(row.image, preparation.root):
            return Dropped(row.id, "path leaves the folder")
        else:
            content = Path(row.image).read_bytes()
        header = check_image(content, preparation.max_pixels)
        image = None if can_stay(header, preparation) else decode_image(content, preparation.max_pixels)
        if image is None and decode_small(content) is None:
            raise ValueError("damaged")
    except FileNotFoundError:
        return Dropped(row.id, "image missing")
    except (ValueError, OSError) as error:
        return Dropped(row.id, "image not readable", getattr(error, "strerror", None) or str(error))
    return Opened(row, content, image)


def can_stay(header: Optional[Header], preparation: Preparation) -> bool:
    """Whether a file is the JPEG that would be packed: encoding it again would only make it worse."""
    if header is None or header.kind != JPEG or header.orientation != UPRIGHT or header.channels not in (1, 3):
        return False
    return (
        preparation.align == "none"
        and preparation.size in (0, header.width)
        and (preparation.size == 0 or header.width == header.height)
    )


def decode_small(content: bytes) -> Optional[np.ndarray]:
    """(h / 2, w / 2) grey: a quick look at a JPEG, enough to see that it is one and what it shows."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_2)


def keep(opened: Opened, preparation: Preparation) -> Prepared:
    """A JPEG as it is."""
    marks = fingerprint(decode_small(opened.content)) if preparation.fingerprints else None
    return Prepared(opened.row, opened.content, digest(opened.content), UNCHANGED, marks, opened.row.landmarks)


def digest(content: bytes) -> str:
    """32 hexadecimal digits that tell whether two files hold the same bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def cut_all(batch: list, preparation: Preparation) -> Iterator:
    """`Prepared` or `Dropped` for every `Opened`."""
    rows, images = [opened.row for opened in batch], [opened.image for opened in batch]
    for (row, content, image), face in zip(batch, cut_faces(images, rows, preparation)):
        if face.image is None:
            yield Dropped(row.id, face.way)
            continue
        jpeg = cv2.imencode(".jpg", face.image, [cv2.IMWRITE_JPEG_QUALITY, preparation.quality])[1].tobytes()
        marks = fingerprint(image) if preparation.fingerprints else None
        yield Prepared(row, jpeg, digest(content), face.way, marks, face.landmarks)


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
    places = find_landmarks(images, rows, preparation.align, preparation.faces, preparation.set_crop)
    return [cut_by_landmarks(image, place, preparation.crop) for image, place in zip(images, places)]


def take_whole(image: np.ndarray, row: Row, size: int) -> Face:
    """The central square at (size, size), or the image as it is for size 0; the set's landmarks go along."""
    landmarks = row.landmarks
    if size and landmarks is not None:
        side = min(image.shape[:2])
        corner = (np.array(image.shape[1::-1]) - side) // 2
        landmarks = (np.array(landmarks) - corner + 0.5) * (size / side) - 0.5
    return Face(resize_square(image, size) if size else image, WHOLE, landmarks)


def cut_by_landmarks(image: np.ndarray, place, crop: Crop) -> Face:
    if place.landmarks is None:
        return Face(None, place.way)
    matrix = estimate_similarity(place.landmarks, crop.points)
    return Face(align(image, place.landmarks, crop), place.way, place.landmarks @ matrix[:, :2].T + matrix[:, 2])


def cut_by_set(image: np.ndarray, row: Row, preparation: Preparation) -> Face:
    """By the landmarks, the rotated square or the box of the set, else by how it aligned its images."""
    from rec_tools.landmarks import SET, Place, fall_back

    if row.landmarks is not None:
        return cut_by_landmarks(image, Place(np.array(row.landmarks), SET), preparation.crop)
    if row.corners is not None:
        return Face(cut_square(image, np.array(row.corners, np.float64), preparation), CORNERS)
    if row.box is not None:
        return Face(cut_square(image, square_about(row.box), preparation), BOX)
    place = fall_back(image, preparation.set_crop)
    if place.landmarks is None:
        return Face(None, "the set does not say where the face is")
    return cut_by_landmarks(image, place, preparation.crop)


def cut_square(image: np.ndarray, corners: np.ndarray, preparation: Preparation) -> np.ndarray:
    """What lies between the corners (4, 2) of a square, and the margin about it: (size, size, 3)."""
    centre, end = corners.mean(axis=0), preparation.size - 0.5  # pixels' centres lie at whole numbers
    square = np.array([(-0.5, -0.5), (end, -0.5), (end, end), (-0.5, end)])
    return align(image, centre + (corners - centre) * (1 + preparation.margin) - 0.5, Crop(preparation.size, square))


def square_about(box) -> np.ndarray:
    """The corners (4, 2) of the square about a box's centre, as large as its longer side."""
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1) / 2
    return np.array([(-half, -half), (half, -half), (half, half), (-half, half)]) + ((x1 + x2) / 2, (y1 + y2) / 2)
