"""The databases of a facial age benchmark: a JSON list of faces, each with a rotated square around it and a folder.

Paplham, Franc: "A call to reflect on evaluation practices for age estimation: comparative analysis of the
state-of-the-art and a unified benchmark", CVPR 2024; its repository's `facebase`. A face is `{"img_path":
"AFAD/AFAD-Full/15/111/638660-1.jpg", "id_num": 638660, "age": 15, "gender": "M", "database": "AFAD-Full", "folder": 0,
"aligned_bbox": [-57, -95, 372, -83, 360, 346, -69, 334], "alignment_source": "in the wild"}`. The square's corners,
x before y, are the top left, top right, bottom right and bottom left of the upright face; they may lie outside the
image. `aligned_bbox` is empty if no face was found, and missing in lists that are not yet aligned: such a face is a row
without a square. Some databases have `name` instead of `id_num`, no gender or "U", age -1, or no `database`.
"""

import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.labels import UNKNOWN
from rec_tools.formats.file_names import exact_row
from rec_tools.formats.json_list import read_items
from rec_tools.formats.table import check_numbers, parse_gender
from rec_tools.rows import Dropped, Point, Row, Rows

SOURCE = "a database of the facial age benchmark (Paplham and Franc, CVPR 2024)"
TERMS = "as the data set allows whose images the benchmark lists"
ALIGN = "set"
REQUIRED = ("age", "folder")
# Data sets with an official split, as the benchmark writes their names; in the others folders are numbered.
SPLIT_DATABASES = ("APPA-REAL", "CACD", "CACD2000", "CLAP2016", "ChaLearn2016", "IMDB-CLEAN")
PARTS = {0: "train", 1: "val", 2: "test"}
SLACK = (3, 0.02)  # how far a corner may be off the square: pixels (corners are whole numbers), and shares of the side


def read(root: Path, *, images: Optional[Path] = None) -> Rows:
    """Yield the faces in the list's order. `root` is the JSON, or a folder with one. `images`: the folder in which
    `img_path` starts, by default the JSON's.

    An id is `img_path`, and `img_path#1` and so on for further faces of one image. Raises `AgedgeError` if the JSON is
    damaged or not a list.
    """
    return read_faces(find_json(Path(root)), find_images(root, images=images))


def find_images(root: Path, *, images: Optional[Path] = None) -> Path:
    """Return the folder in which `img_path` starts."""
    return Path(images) if images else find_json(Path(root)).parent


def find_json(root: Path) -> Path:
    """Return `root` itself, or the only JSON in it."""
    if not root.is_dir():
        return root
    found = sorted(root.glob("*.json"))
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "no .json"
        raise AgedgeError(f"{root}: holds {listed}; give the JSON of one database")
    return found[0]


def read_faces(file: Path, images: Path) -> Rows:
    """Yield the faces of a list whose `img_path` starts in `images`."""
    check_ages(file)
    seen: Dict[str, List[int]] = {}  # {image: hashes of its squares}, so that each square of an image has its own id
    for number, face in enumerate(read_items(file), 1):
        path = face.get("img_path") if isinstance(face, dict) else None
        if not isinstance(path, str) or not path:
            yield Dropped(f"(face {number})", "no img_path")
            continue
        square = hash(str(face.get("aligned_bbox")))
        squares = seen.setdefault(path, [])
        if square not in squares:
            squares.append(square)
        index = squares.index(square)
        yield read_face(face, f"{path}#{index}" if index else path, images / path)


def read_face(face: Dict[str, Any], id: str, image: Path) -> Union[Row, Dropped]:
    """Return the row of an entry of the list, or why it is dropped."""
    for key in REQUIRED:
        if face.get(key) is None:
            return Dropped(id, f"no {key}")
    square = face.get("aligned_bbox")
    corners = read_square(square)
    if corners is None and square not in (None, []):
        return Dropped(id, "aligned_bbox is no square", str(square)[:100])
    fold = read_fold(face.get("database"), face["folder"])
    if fold is None:
        return Dropped(id, "folder not understood", str(face["folder"])[:100])
    if not _is_number(face["age"]):
        return Dropped(id, "age not understood", str(face["age"])[:100])
    try:
        gender = read_gender(face.get("gender"))
    except ValueError:
        return Dropped(id, "gender not understood", str(face["gender"])[:100])
    return exact_row(id, image, gender, float(face["age"]), identity=read_identity(face), fold=fold, corners=corners)


def read_gender(value: Any) -> int:
    """Return the gender of a word, or of None. Raises `ValueError`, also for numbers, whose coding is unknown."""
    if value is None:
        return UNKNOWN
    if not isinstance(value, str) or value.strip().isdigit():
        raise ValueError("not a word")
    return parse_gender(value)


def check_ages(file: Path) -> None:
    """Check that the ages of a list are in years. Raises `AgedgeError`."""
    ages = (face.get("age") for face in read_items(file) if isinstance(face, dict))
    ages = np.array([age for age in ages if _is_number(age)], np.float32)
    check_numbers(file, np.stack([np.full(len(ages), UNKNOWN), ages, ages], axis=1))


def read_square(values: Any) -> Optional[Tuple[Point, ...]]:
    """Return the corners ((x, y), ...) clockwise from the top left; None if the eight numbers are not a square, or are
    a
    mirrored one."""
    if not isinstance(values, list) or len(values) != 8 or not all(map(_is_number, values)):
        return None
    a, b, c, d = (complex(x, y) for x, y in zip(values[::2], values[1::2]))
    side = b - a
    slack = max(SLACK[0], SLACK[1] * abs(side))
    # y points down: a quarter turn clockwise, from the upper side to the right one, is a multiplication by i
    if abs(side) < 1 or abs(d - a - side * 1j) > slack or abs(c - b - side * 1j) > slack:
        return None
    return tuple((point.real, point.imag) for point in (a, b, c, d))


def read_fold(database: Any, folder: Any) -> Optional[str]:
    """Return "train", "val" or "test" in a data set with an official split, else the folder's number."""
    if not _is_number(folder) or folder != int(folder) or folder < 0:
        return None
    return PARTS.get(int(folder)) if database in SPLIT_DATABASES else str(int(folder))


def read_identity(face: Dict[str, Any]) -> Optional[str]:
    """Return the `id_num` or else the `name` of a face."""
    number, name = face.get("id_num"), face.get("name")
    if number is not None and _is_number(number) and number == int(number):  # a column with gaps is written as 7.0
        return str(int(number))
    return next((str(one).strip() for one in (number, name) if isinstance(one, str) and one.strip()), None)


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number that fits a float; true and false are not numbers."""
    try:
        return not isinstance(value, (bool, str)) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False
