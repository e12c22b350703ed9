"""FG-NET ageing database: 1,002 photos of 82 persons, `images/001A02.JPG` with 68 landmarks in `points/001a02.pts`.

Lanitis, Taylor, Cootes: "Toward automatic simulation of aging effects on face images", TPAMI 2002; overview by Panis,
Lanitis, Tsapatsoulis, Cootes, IET Biometrics 2016. A name is the person, "A", the age, and a letter where there are
several photos of that age. Use is to leave one person out: the identity is the person. The gender is not given.

The landmarks follow the 68-point scheme of XM2VTS, from 0, left and right as the viewer sees them: 0-14 jaw, 15-26
brows, 27-30 and 32-35 around the eyes, 31 and 36 the eyes' centres, 37-47 nose, 48 and 54 the corners of the mouth,
67 the tip of the nose. (Stasm 3 lists them by name in landmarks.hpp.) x and y count from the image's top left.
"""

import logging
import re
from pathlib import Path
from typing import Optional

import numpy as np

from agedge.labels import UNKNOWN
from rec_tools.formats.file_names import exact_row, read_images
from rec_tools.rows import Dropped, Row, Rows

log = logging.getLogger(__name__)

SOURCE = "FG-NET ageing database (Lanitis, Taylor and Cootes)"
TERMS = "FG-NET: research only; the photos belong to the persons who gave them"
ALIGN = "set"
LAYOUT = "FG-NET images in it (images/001A02.JPG)"
SCHEME = 68
FIVE = (31, 36, 67, 48, 54)  # left eye, right eye, nose, left and right mouth corner, as seen in the image

_NAME = re.compile(r"(?P<person>\d{3})a(?P<age>\d{1,3})[a-z]?$", re.IGNORECASE)
_POINTS = re.compile(r"\s*version:\s*\d+\s*n_points:\s*(\d+)\s*\{([^{}]*)\}\s*$", re.IGNORECASE)


def read(root: Path) -> Rows:
    """The photos in the order of their names, from `root/images` or, where there is none, `root` itself.

    A photo without a good file in `root/points` is a row without landmarks; how many there are is logged at the end.
    """
    root = Path(root)
    points = find_points(root / "points")
    without = 0
    folder = "images" if (root / "images").is_dir() else ""
    for row in read_images(root, lambda path: read_path(root, path, points), LAYOUT, folder):
        without += isinstance(row, Row) and row.landmarks is None
        yield row
    if without:
        log.warning("%s: photos without landmarks: %d", root / "points", without)


def read_path(root: Path, path: str, points: dict):
    """A row, from the file's name and the landmarks that belong to it."""
    stem = path.rpartition("/")[2].rpartition(".")[0]
    match = _NAME.match(stem)
    if not match:
        return Dropped(path, "name is not PERSON A AGE")
    landmarks = read_points(points[stem.lower()]) if stem.lower() in points else None
    return exact_row(path, root / path, UNKNOWN, int(match["age"]), identity=match["person"], landmarks=landmarks)


def find_points(folder: Path) -> dict:
    """{name in small letters, without its end: path}: images are named with a capital A, points mostly with a small."""
    if not folder.is_dir():
        return {}
    return {path.stem.lower(): path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".pts"}


def read_points(file: Path) -> Optional[tuple]:
    """The five landmarks ((x, y), ...) of the crop contract, or None where the file holds no 68 points of a face."""
    try:
        match = _POINTS.match(file.read_text(encoding="ascii"))
        points = np.array(match[2].split(), np.float64).reshape(-1, 2) if match else np.empty((0, 2))
    except (OSError, ValueError):
        return None
    if not len(points) == SCHEME == int(match[1]) or not np.isfinite(points).all():
        return None
    five = points[list(FIVE)]
    eyes, mouth = five[1] - five[0], five[3:].mean(axis=0) - five[:2].mean(axis=0)
    # A face seen from the front: eyes and mouth are apart, and neither mirrored nor upside down.
    if not (eyes[0] > 0 and mouth[1] > 0 and eyes[0] * mouth[1] > eyes[1] * mouth[0]):
        return None
    return tuple(map(tuple, five.tolist()))
