"""UTKFace: aligned chips `[age]_[gender]_[race]_[time].jpg.chip.jpg`, or in the wild without `.chip.jpg`.

Gender is 0 male, 1 female there. Three names lack a field; of those only the age is sure.
"""

import re
from pathlib import Path

from agedge.errors import AgedgeError
from agedge.labels import FEMALE, MALE, UNKNOWN, exact
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "UTKFace (Zhang, Song and Qi, CVPR 2017)"
TERMS = "UTKFace: non-commercial research only; the images belong to their owners"
RACES = ("White", "Black", "Asian", "Indian", "Others")
GENDERS = {"0": MALE, "1": FEMALE}

_WHOLE_NAME = re.compile(r"(?P<age>\d+)_(?P<gender>[01])_(?P<race>[0-4])_\d+")
_AGE_ONLY = re.compile(r"(?P<age>\d+)_")


def find_crop(root: Path):
    return ("utkface", 0.0) if any(Path(root).glob("*.chip.jpg")) else None


def read(root: Path) -> Rows:
    """The chips of a folder where it has any, else its pictures in the wild; in the order of their names."""
    chips = sorted(Path(root).glob("*.chip.jpg"))
    images = chips or sorted(Path(root).glob("*.jpg"))
    if not images:
        raise AgedgeError(f"{root}: no UTKFace images in it ([age]_[gender]_[race]_[time].jpg.chip.jpg)")
    for image in images:
        yield read_name(image)


def read_name(image: Path):
    """A row, from the file's name alone."""
    name = image.name
    whole, age_only = _WHOLE_NAME.match(name), _AGE_ONLY.match(name)
    if not age_only:
        return Dropped(name, "name without an age")
    try:
        label = exact(GENDERS[whole["gender"]] if whole else UNKNOWN, int(age_only["age"]))
    except ValueError as error:
        return Dropped(name, "age outside 0 to 120", str(error))
    return Row(name, image, label, race=RACES[int(whole["race"])] if whole else None)
