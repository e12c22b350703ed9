"""AFAD, the Asian Face Age Dataset: `AGE/111/*.jpg` of men, `AGE/112/*.jpg` of women, ages 15 to 72.

Niu, Zhou, Wang, Gao, Hua: "Ordinal regression with multiple output CNN for age estimation", CVPR 2016. AFAD-Full and
AFAD-Lite are laid out alike. A file is named after the user whose page it was on and the number of the photo,
`638660-1.jpg`: the user is the identity.
"""

import re
from pathlib import Path
from typing import Union

from agedge.labels import FEMALE, MALE
from rec_tools.formats.file_names import exact_row, read_images
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "AFAD (Niu et al., CVPR 2016)"
TERMS = "AFAD: academic research only; the images belong to their owners"
GENDERS = {"111": MALE, "112": FEMALE}
AGES = (15, 72)
LAYOUT = "AFAD images in it (AGE/111/*.jpg, AGE/112/*.jpg)"

_USER = re.compile(r"(\d+)-\d+\.")


def read(root: Path) -> Rows:
    """Yield the images in the order of their folders; `root` holds the folders of ages, at any depth."""
    root = Path(root)
    return read_images(root, lambda path: read_path(root, path), LAYOUT)


def read_path(root: Path, path: str) -> Union[Row, Dropped]:
    """Return the row of an image, from the names of its two folders, or why it is dropped."""
    age, gender, name = ["", "", *path.split("/")][-3:]
    if gender not in GENDERS:
        return Dropped(path, "in no folder 111 or 112", gender)
    if not age.isdecimal():
        return Dropped(path, "in no folder of an age", age)
    if not AGES[0] <= int(age) <= AGES[1]:
        return Dropped(path, f"age outside {AGES[0]} to {AGES[1]}", f"age {age}")
    user = _USER.match(name)
    return exact_row(path, root / path, GENDERS[gender], int(age), identity=user[1] if user else None)
