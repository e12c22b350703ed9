"""APPA-REAL: 7,591 photographs with the real age and, from about 38 votes each, the apparent one; no gender.

Agustsson, Timofte, Escalera, Baró, Guyon, Rothe: "Apparent and real age estimation in still images with deep residual
regressors on APPA-REAL database", FG 2017. It holds the images of the ChaLearn LAP challenge of 2016 (CLAP2016).
"""

from pathlib import Path
from typing import Literal

from rec_tools.formats.table import find_tables, read_label, read_table
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "APPA-REAL (Agustsson et al., FG 2017)"
TERMS = "APPA-REAL, of ChaLearn Looking at People: research and education; the images belong to their owners"

FOLDERS = {"train": "train", "val": "valid", "test": "test"}
TABLES = {fold: f"gt_avg_{folder}.csv" for fold, folder in FOLDERS.items()}
PLACES = ("", "appa-real-release")  # the folder in its archive
AGES = {"real": "real_age", "apparent": "apparent_age_avg"}


def read(
    root: Path,
    *,
    age: Literal["real", "apparent"] = "real",
    images: Literal["auto", "face", "photo"] = "auto",
) -> Rows:
    """Yield the rows of the official splits that are present, train first; a row's id is "train/000000.jpg".

    `age`: the real one, or the mean of the votes. `images`: the data set's own upright crop of the face with a margin
    of 40 % (`N.jpg_face.jpg`), or the whole photograph; auto: the crop if present. Raises `AgedgeError` if `root` holds
    none of the tables.
    """
    for fold, table in find_tables(root, TABLES, PLACES).items():
        for _, cells in read_table(table, (AGES[age],), ("file_name",)):
            if isinstance(cells, Dropped):
                yield cells
                continue
            name = f"{FOLDERS[fold]}/{cells['file_name']}"
            label = read_label(name, "", cells[AGES[age]])
            known = not isinstance(label, Dropped)
            yield Row(name, find_image(table.parent / name, images), label, fold=fold) if known else label


def find_image(photo: Path, images: str) -> Path:
    """Return the path of the photograph, or of the crop beside it."""
    face = photo.with_name(f"{photo.name}_face.jpg")
    return face if images == "face" or (images == "auto" and face.is_file()) else photo
