"""FG-NET ageing database: 1,002 photos of 82 persons, `images/001A02.JPG` with 68 landmarks in `points/001a02.pts`.

Lanitis, Taylor, Cootes: "Toward automatic simulation of aging effects on face images", TPAMI 2002; overview by Panis,
Lanitis, Tsapatsoulis, Cootes, IET Biometrics 2016. A file name is the person, "A", the age, and a letter if there
are several photos of that age. The usual protocol leaves one person out. The gender is not given.

The landmarks follow the 68-point scheme of XM2VTS, counted from 0, left and right as seen in the image: 0-14 jaw, 15-26
brows, 27-30 and 32-35 around the eyes, 31 and 36 the eyes' centres, 37-47 nose, 48 and 54 the corners of the mouth,
67 the tip of the nose. (Stasm 3 lists them by name in landmarks.hpp.) x and y count from the image's top left.
"""

import logging
import re
from pathlib import Path
from typing import Dict, Optional, Tuple, Union

import numpy as np

from agedge.labels import UNKNOWN
from rec_tools.formats.file_names import exact_row, read_images
from rec_tools.rows import Dropped, Point, Row, Rows

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
    """Yield the photos in the order of their names, from `root/images` or, if there is none, `root` itself.

    A photo without a valid file in `root/points` is a row without landmarks; their number is logged at the end.
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


def read_path(root: Path, path: str, points: Dict[str, Path]) -> Union[Row, Dropped]:
    """Return the row of an image, from its file name and its landmarks, or why it is dropped."""
    stem = path.rpartition("/")[2].rpartition(".")[0]
    match = _NAME.match(stem)
    if not match:
        return Dropped(path, "name is not PERSON A AGE")
    landmarks = read_points(points[stem.lower()]) if stem.lower() in points else None
    return exact_row(path, root / path, UNKNOWN, int(match["age"]), identity=match["person"], landmarks=landmarks)


def find_points(folder: Path) -> Dict[str, Path]:
    """Return {stem in lower case: path} of the .pts files: images are named with "A", most points with "a"."""
    if not folder.is_dir():
        return {}
    return {path.stem.lower(): path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".pts"}


def read_points(file: Path) -> Optional[Tuple[Point, ...]]:
    """Return the five landmarks ((x, y), ...), or None if the file does not hold the 68 points of a face."""
    try:
        match = _POINTS.match(file.read_text(encoding="ascii"))
        if not match:
            return None
        points = np.array(match[2].split(), np.float64).reshape(-1, 2)
    except (OSError, ValueError):
        return None
    if not len(points) == SCHEME == int(match[1]) or not np.isfinite(points).all():
        return None
    five = points[list(FIVE)]
    eyes, mouth = five[1] - five[0], five[3:].mean(axis=0) - five[:2].mean(axis=0)
    # Of a frontal face: eyes and mouth have a distance, and the face is neither mirrored nor upside down.
    if not (eyes[0] > 0 and mouth[1] > 0 and eyes[0] * mouth[1] > eyes[1] * mouth[0]):
        return None
    return tuple((x, y) for x, y in five.tolist())
