"""Adience: 26,580 faces of 2,284 persons from Flickr, ages in eight groups with gaps, in five folds.

Eidinger, Enbar, Hassner: "Age and gender estimation of unfiltered faces", IEEE TIFS 2014. The identity is the album
(`user_id`), which is never in two folds: its persons may be relatives. Beside the eight groups stand a few single ages
and odd groups, "(38, 48)" or "(8, 23)": they are kept as given. The boxes of the tables refer to the uncropped
photographs and are not used.
"""

from pathlib import Path
from typing import Dict, Literal, Optional, Union

from agedge.errors import AgedgeError
from rec_tools.formats.table import FieldFaults, check_columns, find_tables, read_label, read_table, whole_rows
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "Adience (Eidinger, Enbar and Hassner, IEEE TIFS 2014)"
TERMS = (
    "Adience: for research; the photographs are from Flickr, under the Creative Commons licences that their "
    "photographers chose"
)

ALL = {fold: f"fold_{fold}_data.txt" for fold in "01234"}
FRONTAL = {fold: f"fold_frontal_{fold}_data.txt" for fold in "01234"}
PLACES = ("", "folds")
FILE = ("user_id", "face_id", "original_image")
PREFIX = {"aligned": "landmark_aligned_face", "faces": "coarse_tilt_aligned_face"}


def read(root: Path, *, images: Literal["auto", "aligned", "faces"] = "auto", frontal: Optional[bool] = None) -> Rows:
    """Yield the rows of the folds that are present, in order; a row's id is its image's path in `root`.

    `images`: the data set's aligned faces, or its crops that are only turned upright; auto: aligned if present.
    `frontal`: the faces that the authors count as frontal, or all; default: all if their tables are present.
    Raises `AgedgeError` if `root` holds no table, or no images.
    """
    root = Path(root)
    if frontal is None:
        frontal = not _any_of(ALL, root) and _any_of(FRONTAL, root)
    tables = find_tables(root, FRONTAL if frontal else ALL, PLACES)
    kind: str = images
    if images == "auto":
        kind = next((kind for kind in PREFIX if (root / kind).is_dir()), "")
        if not kind:
            raise AgedgeError(f"{root}: no images: neither aligned nor faces in it")
    faults = FieldFaults()
    for fold, table in tables.items():
        check_columns(table, ((cells["gender"], cells["age"]) for cells in whole_rows(table, ("age", "gender"))))
        for _, cells in read_table(table, ("age", "gender"), FILE):
            yield cells if isinstance(cells, Dropped) else read_row(cells, root, kind, fold, faults)
    faults.log(root)


def read_row(cells: Dict[str, str], root: Path, images: str, fold: str, faults: FieldFaults) -> Union[Row, Dropped]:
    """Return the row of a line of the table, or why it is dropped."""
    user, face, photo = (cells[key] for key in FILE)
    name = f"{images}/{user}/{PREFIX[images]}.{face}.{photo}"
    label = read_label(name, cells["gender"], cells["age"], faults)
    return label if isinstance(label, Dropped) else Row(name, root / name, label, identity=user, fold=fold)


def _any_of(tables: dict, root: Path) -> bool:
    return any((root / place / name).is_file() for place in PLACES for name in tables.values())
