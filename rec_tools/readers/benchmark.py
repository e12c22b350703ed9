"""The databases of a facial age benchmark: a JSON list of faces, each with a rotated square around it and a folder.

Paplham, Franc: "A call to reflect on evaluation practices for age estimation: comparative analysis of the
state-of-the-art and a unified benchmark", CVPR 2024; its repository's `facebase`. A face is `{"img_path":
"AFAD/AFAD-Full/15/111/638660-1.jpg", "id_num": 638660, "age": 15, "gender": "M", "database": "AFAD-Full", "folder": 0,
"aligned_bbox": [-57, -95, 372, -83, 360, 346, -69, 334], "alignment_source": "in the wild"}`. The square's corners A to
D, x before y, are those that belong at the top left, top right, bottom right and bottom left of the upright face; they
may lie outside the image. The list is empty where no face was found, and missing in the lists that are not yet aligned:
such a face is a row without a square. Some databases say `name` instead of `id_num`, some no gender or "U", age -1 or
no `database`.
"""

import math
from pathlib import Path
from typing import Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.labels import UNKNOWN
from rec_tools.formats.file_names import exact_row
from rec_tools.formats.json_list import read_items
from rec_tools.formats.table import check_numbers, parse_gender
from rec_tools.rows import Dropped, Rows

SOURCE = "a database of the facial age benchmark (Paplham and Franc, CVPR 2024)"
TERMS = "as the data set allows whose images the benchmark lists"
ALIGN = "set"
REQUIRED = ("age", "folder")
# Data sets with an official split, as the benchmark writes their names; in the others folders are numbered.
SPLIT_DATABASES = ("APPA-REAL", "CACD", "CACD2000", "CLAP2016", "ChaLearn2016", "IMDB-CLEAN")
PARTS = {0: "train", 1: "val", 2: "test"}
SLACK = (3, 0.02)  # how far a corner may be off the square: pixels (corners are whole numbers), and shares of the side


def read(root: Path, *, images: Optional[Path] = None) -> Rows:
    """The faces in the list's order; `root` is the JSON, or a folder with one. `images`: where `img_path` starts, by
    default the JSON's folder.

    An id is `img_path`, and `img_path#1` and so on for further faces of one image. Raises `AgedgeError` where the JSON
    is broken or no list of faces.
    """
    return read_faces(find_json(Path(root)), find_images(root, images=images))


def find_images(root: Path, *, images: Optional[Path] = None) -> Path:
    """The folder that `img_path` starts in."""
    return Path(images) if images else find_json(Path(root)).parent


def find_json(root: Path) -> Path:
    """`root` itself, or the one JSON in it."""
    if not root.is_dir():
        return root
    found = sorted(root.glob("*.json"))
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "no .json"
        raise AgedgeError(f"{root}: holds {listed}; give the JSON of one database")
    return found[0]


def read_faces(file: Path, images: Path) -> Rows:
    """The faces of a list whose `img_path` starts in `images`."""
    check_ages(file)
    seen = {}  # by image: its squares, so that the same face twice has the same id, and two faces have two
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


def read_face(face: dict, id: str, image: Path):
    """A row, or why an entry of the list is none."""
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


def read_gender(value) -> int:
    """Return the gender of a word, or of None. Raises `ValueError`: for numbers too, whose coding is not known."""
    if value is None:
        return UNKNOWN
    if not isinstance(value, str) or value.strip().isdigit():
        raise ValueError("not a word")
    return parse_gender(value)


def check_ages(file: Path) -> None:
    """Raise `AgedgeError` where the ages of a list are not in years."""
    ages = (face.get("age") for face in read_items(file) if isinstance(face, dict))
    ages = np.array([age for age in ages if _is_number(age)], np.float32)
    check_numbers(file, np.stack([np.full(len(ages), UNKNOWN), ages, ages], axis=1))


def read_square(values) -> Optional[tuple]:
    """The corners ((x, y), ...) from the top left clockwise; None where the eight numbers are no square, or the mirror
    image of one."""
    if not isinstance(values, list) or len(values) != 8 or not all(map(_is_number, values)):
        return None
    a, b, c, d = (complex(x, y) for x, y in zip(values[::2], values[1::2]))
    side = b - a
    slack = max(SLACK[0], SLACK[1] * abs(side))
    # y points down: a quarter turn clockwise, from the upper side to the right one, is a product with i
    if abs(side) < 1 or abs(d - a - side * 1j) > slack or abs(c - b - side * 1j) > slack:
        return None
    return tuple((point.real, point.imag) for point in (a, b, c, d))


def read_fold(database, folder) -> Optional[str]:
    """The fold: "train", "val" or "test" in a data set with an official split, else the folder's number."""
    if not _is_number(folder) or folder != int(folder) or folder < 0:
        return None
    return PARTS.get(int(folder)) if database in SPLIT_DATABASES else str(int(folder))


def read_identity(face: dict) -> Optional[str]:
    number, name = face.get("id_num"), face.get("name")
    if _is_number(number) and number == int(number):  # a column with gaps is written as 7.0
        return str(int(number))
    return next((str(one).strip() for one in (number, name) if isinstance(one, str) and one.strip()), None)


def _is_number(value) -> bool:
    """Whether a value is a finite number that fits a float; true and false are none."""
    try:
        return not isinstance(value, (bool, str)) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False
