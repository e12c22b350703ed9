"""UTKFace: aligned chips `[age]_[gender]_[race]_[time].jpg.chip.jpg`, or in the wild without `.chip.jpg`.

Zhang, Song, Qi: "Age progression/regression by conditional adversarial autoencoder", CVPR 2017. The chips come in one
folder, the images in the wild in `part1/`, `part2/`, `part3/`. Gender is 0 male, 1 female. A few names lack a field,
`61_1_20170109142408075` or `53__0_20170116184028385`: the fields that are certain are kept.
"""

import re
from pathlib import Path
from typing import Optional, Tuple, Union

import numpy as np

from agedge.labels import FEMALE, MALE, UNKNOWN
from rec_tools.formats.file_names import exact_row, read_images
from rec_tools.formats.image_folder import list_images
from rec_tools.formats.table import check_numbers
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "UTKFace (Zhang, Song and Qi, CVPR 2017)"
TERMS = "UTKFace: non-commercial research only; the images belong to their owners"
RACES = ("White", "Black", "Asian", "Indian", "Others")
GENDERS = {"0": MALE, "1": FEMALE}
CHIP = ".chip.jpg"
LAYOUT = "UTKFace images in it ([age]_[gender]_[race]_[time].jpg.chip.jpg)"

_WHOLE_NAME = re.compile(r"(?P<age>\d+)_(?P<gender>[01]?)_(?P<race>[0-4])_\d+")
_NUMBERS = re.compile(r"(-?\d+)_(-?\d+)_\d_\d+")
_AGE_ONLY = re.compile(r"(?P<age>\d+)_")


def find_crop(root: Path) -> Optional[Tuple[str, float]]:
    """Return the (template, margin) of the aligned chips, or None for photographs."""
    return ("utkface", 0.0) if Path(root).is_dir() and has_chips(root) else None


def has_chips(root: Path) -> bool:
    """Return whether a folder holds aligned chips."""
    return any(path.endswith(CHIP) for path in list_images(root) if not isinstance(path, Dropped))


def read(root: Path) -> Rows:
    """Yield the chips of a folder if it has any, else its images in the wild, in the order of their names."""
    root = Path(root)
    chips = has_chips(root)
    check_names(root)

    def read_path(path: str) -> Union[Row, Dropped]:
        if chips and not path.endswith(CHIP):
            return Dropped(path, "no aligned chip among chips")
        return read_name(root / path, path)

    return read_images(root, read_path, LAYOUT)


def check_names(root: Path) -> None:
    """Check that the genders in the names are 0 and 1, and the ages years. Raises `AgedgeError`."""
    names = (path.rpartition("/")[2] for path in list_images(root) if not isinstance(path, Dropped))
    found = [list(map(int, match.group(2, 1, 1))) for match in map(_NUMBERS.match, names) if match]
    if found:
        check_numbers(root, np.array(found, np.float64))


def read_name(image: Path, id: str = "") -> Union[Row, Dropped]:
    """Return the row of an image, from its file name, or why it is dropped; the default id is the name."""
    name, id = image.name, id or image.name
    whole, age_only = _WHOLE_NAME.match(name), _AGE_ONLY.match(name)
    if not age_only:
        return Dropped(id, "name without an age")
    gender = GENDERS.get(whole["gender"], UNKNOWN) if whole else UNKNOWN
    return exact_row(id, image, gender, int(age_only["age"]), race=RACES[int(whole["race"])] if whole else None)
