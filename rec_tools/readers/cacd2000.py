"""CACD2000, the Cross-Age Celebrity Dataset: `AGE_Name_0001.jpg`, such as `53_Robin_Williams_0001.jpg`; no gender.

Chen, Chen, Hsu: "Cross-age reference coding for age-invariant face recognition and retrieval", ECCV 2014: the 50 most
popular actors of each birth year from 1951 to 1990. `celebrity2000_meta.mat`, a separate download, gives each one's
rank within the birth year, which defines the split: the photos of ranks 1 to 5 were cleaned by hand; ranks 1 and 2 (80
celebrities) are val, 3 to 5 (120) test, and the other 1,800 train, as in the benchmark of Paplham and Franc (CVPR 2024)
and its conversion of this data set.
"""

import re
import unicodedata
from pathlib import Path
from typing import Dict, Optional, Union

from agedge.labels import UNKNOWN
from rec_tools.formats.file_names import exact_row, read_images
from rec_tools.formats.matlab import load_columns
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "CACD2000 (Chen, Chen and Hsu, ECCV 2014)"
TERMS = "CACD: research only; the copyrights of the images belong to their owners"
META = "celebrity2000_meta.mat"
LAYOUT = "CACD2000 images in it (AGE_Name_0001.jpg)"
LAST_RANKS = (("val", 2), ("test", 5), ("train", float("inf")))

_NAME = re.compile(r"(?P<age>\d+)_(?P<name>.+)_\d+\.\w+$")


def read(root: Path, *, meta: Optional[Path] = None) -> Rows:
    """Yield the images in the order of their names. `meta`: the .mat, by default the one in `root`, if present.

    Without it no row has a fold; a celebrity whom it does not list has none either. Raises `AgedgeError` if `meta` is
    missing or not that file.
    """
    root = Path(root)
    mat = Path(meta) if meta else root / META
    folds = load_folds(mat) if meta or mat.is_file() else {}
    return read_images(root, lambda path: read_path(root, path, folds), LAYOUT)


def read_path(root: Path, path: str, folds: Dict[str, str]) -> Union[Row, Dropped]:
    """Return the row of an image, from its file name and the folds of the celebrities, or why it is dropped."""
    match = _NAME.match(path.rpartition("/")[2])
    if not match:
        return Dropped(path, "name is not AGE_Name_0001")
    name = unicodedata.normalize("NFC", match["name"])
    return exact_row(path, root / path, UNKNOWN, int(match["age"]), identity=name, fold=folds.get(key_of(name)))


def load_folds(mat: Path) -> Dict[str, str]:
    """Return {key of a celebrity: "train", "val" or "test"}. Namesakes are one identity, with their best rank."""
    table = load_columns(mat, ("celebrityImageData",), strings=("name",), numbers=("rank",))
    ranks: Dict[str, float] = {}
    for name, rank in zip(table["name"], table["rank"]):
        match = _NAME.match(name)
        if match and rank >= 1:
            key = key_of(match["name"])
            ranks[key] = min(rank, ranks.get(key, rank))
    return {key: next(fold for fold, last in LAST_RANKS if rank <= last) for key, rank in ranks.items()}


def key_of(name: str) -> str:
    """Return the ASCII characters of a name; archives and Matlab encode others in different ways."""
    return unicodedata.normalize("NFC", name).encode("ascii", "ignore").decode()
