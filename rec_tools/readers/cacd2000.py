"""CACD2000, the Cross-Age Celebrity Dataset: `AGE_Name_0001.jpg`, such as `53_Robin_Williams_0001.jpg`; no gender.

Chen, Chen, Hsu: "Cross-age reference coding for age-invariant face recognition and retrieval", ECCV 2014: the 50 most
popular actors of each birth year from 1951 to 1990. `celebrity2000_meta.mat`, which is downloaded apart, gives each
one's rank within the birth year, and that is the split: the photos of ranks 1 to 5 were cleaned by hand, ranks 1 and 2
(80 celebrities) validate, 3 to 5 (120) test, and the other 1,800 train, as in the benchmark of Paplham and Franc (CVPR
2024), whose conversion of this set was read for it.
"""

import re
import unicodedata
from pathlib import Path
from typing import Optional

from agedge.labels import UNKNOWN
from rec_tools.formats.file_names import exact_row, read_images
from rec_tools.formats.matlab import load_columns
from rec_tools.rows import Dropped, Rows

SOURCE = "CACD2000 (Chen, Chen and Hsu, ECCV 2014)"
TERMS = "CACD: research only; the copyrights of the images belong to their owners"
META = "celebrity2000_meta.mat"
LAYOUT = "CACD2000 images in it (AGE_Name_0001.jpg)"
LAST_RANKS = (("val", 2), ("test", 5), ("train", float("inf")))

_NAME = re.compile(r"(?P<age>\d+)_(?P<name>.+)_\d+\.\w+$")


def read(root: Path, *, meta: Optional[Path] = None) -> Rows:
    """The images in the order of their names. `meta` is the .mat, by default the one in `root`, if it is there.

    Without it no row has a fold; nor has one of a celebrity whom it does not list. Raises `AgedgeError` where `meta` is
    missing or something else.
    """
    root = Path(root)
    mat = Path(meta) if meta else root / META
    folds = load_folds(mat) if meta or mat.is_file() else {}
    return read_images(root, lambda path: read_path(root, path, folds), LAYOUT)


def read_path(root: Path, path: str, folds: dict):
    """A row, from the file's name and the folds of the celebrities."""
    match = _NAME.match(path.rpartition("/")[2])
    if not match:
        return Dropped(path, "name is not AGE_Name_0001")
    name = unicodedata.normalize("NFC", match["name"])
    return exact_row(path, root / path, UNKNOWN, int(match["age"]), identity=name, fold=folds.get(key_of(name)))


def load_folds(mat: Path) -> dict:
    """{key of a celebrity: "train", "val" or "test"}. Namesakes are one identity: the best of their ranks counts."""
    table = load_columns(mat, ("celebrityImageData",), strings=("name",), numbers=("rank",))
    ranks = {}
    for name, rank in zip(table["name"], table["rank"]):
        match = _NAME.match(name)
        if match and rank >= 1:
            key = key_of(match["name"])
            ranks[key] = min(rank, ranks.get(key, rank))
    return {key: next(fold for fold, last in LAST_RANKS if rank <= last) for key, rank in ranks.items()}


def key_of(name: str) -> str:
    """A name as far as archives and Matlab agree on it: they write what is not ASCII in several ways."""
    return unicodedata.normalize("NFC", name).encode("ascii", "ignore").decode()
