"""AgeDB: `N_Name_Age_Gender.jpg`, such as `4509_CarlosSantana_48_m.jpg`; the name is the identity.

Moschoglou, Papaioannou, Sagonas, Deng, Kotsia, Zafeiriou: "AgeDB: the first manually collected, in-the-wild age
database", CVPR Workshops 2017. Some names have stray spaces (`16079_WillSmith _45_m.jpg`).
"""

import re
import unicodedata
from pathlib import Path
from typing import Union

from agedge.labels import FEMALE, MALE, UNKNOWN
from rec_tools.formats.file_names import exact_row, read_images
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "AgeDB (Moschoglou et al., CVPR Workshops 2017)"
TERMS = "AgeDB: non-commercial research only, on request to its authors; the images belong to their owners"
GENDERS = {"f": FEMALE, "m": MALE}
LAYOUT = "AgeDB images in it (N_Name_Age_Gender.jpg)"

_NAME = re.compile(r"\d+_(?P<name>.+)_\s*(?P<age>\d+)\s*_\s*(?P<gender>[A-Za-z]*)\s*\.\w+$")


def read(root: Path) -> Rows:
    """Yield the images in the order of their names. One whose gender is neither m nor f keeps its age."""
    root = Path(root)
    return read_images(root, lambda path: read_path(root, path), LAYOUT)


def read_path(root: Path, path: str) -> Union[Row, Dropped]:
    """Return the row of an image, from its file name, or why it is dropped."""
    match = _NAME.match(path.rpartition("/")[2])
    if not match:
        return Dropped(path, "name is not N_Name_Age_Gender")
    # File systems differ in how they encode accents; a person must have one spelling.
    identity = unicodedata.normalize("NFC", match["name"].strip())
    gender = GENDERS.get(match["gender"].lower(), UNKNOWN)
    return exact_row(path, root / path, gender, int(match["age"]), identity=identity)
