"""IMDB-WIKI: half a million faces whose age follows from a date of birth and the year of the photo.

Rothe, Timofte, Van Gool: "Deep expectation of real and apparent age from a single image without facial landmarks", IJCV
2018. The folder is `imdb_crop/` or `wiki_crop/`; its `imdb.mat` or `wiki.mat` lists every image. The faces were found
by a detector and the dates by the person's name, so ages from -31 to 2014 occur. Rows are filtered by the data set's
own columns (face scores, second faces, gender), and every dropped row is counted by its reason. `face_location` is a
box in the uncropped photo and is not used.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.labels import MAX_AGE, UNKNOWN, exact
from rec_tools.formats.matlab import load_columns
from rec_tools.formats.table import check_numbers
from rec_tools.rows import Dropped, Row, Rows

SOURCE = "IMDB-WIKI"
TERMS = "IMDB-WIKI is for academic research only; the copyrights of the images belong to their owners."

STRUCTS = ("imdb", "wiki")
NUMBERS = ("dob", "photo_taken", "gender", "face_score", "second_face_score")
MATLAB_EPOCH = 366  # Matlab's serial day of 0001-01-01 is 367, Python's ordinal 1
UNIX_EPOCH = 719163  # Python's ordinal of 1970-01-01, from which NumPy counts days
LAST_ORDINAL = 3652059  # 9999-12-31
MID_YEAR = 6  # a photo counts as taken at the end of June, before the birthday of a person born later in the year
DATES_IN_NAME = re.compile(r"_(\d{1,4})-(\d{1,2})-(\d{1,2})_(\d{4})\.[^./]+$")


def read(
    root: Path,
    *,
    min_face_score: float = 1.0,
    allow_second_face: bool = False,
    min_age: float = 0,
    max_age: float = 100,
    allow_unknown_gender: bool = False,
) -> Rows:
    """Yield the faces in the order of the .mat; a row's id is its `full_path`, its identity `celeb_id` or `name`.

    `root` is the folder of `imdb.mat` or `wiki.mat`, or its parent. A face needs a detector score of at least
    `min_face_score`, an age in [min_age, max_age] years, and, unless allowed, no second face and a known gender.
    Raises `AgedgeError` if there is no such file or it has other content, `UsageError` for impossible ages.
    """
    if not 0 <= min_age <= max_age <= MAX_AGE:
        raise UsageError(f"ages {min_age:g} to {max_age:g}: must rise, within 0 to {MAX_AGE}")
    mat = find_mat(Path(root))
    table = load_table(mat)
    paths = table["full_path"]
    age = ages(table["dob"], table["photo_taken"], paths)
    nothing = np.full(len(paths), UNKNOWN)
    check_numbers(mat, np.stack([table["gender"], nothing, nothing], axis=1))
    gender = np.where(np.isin(table["gender"], (0, 1)), table["gender"], UNKNOWN).astype(int)  # 0 female, 1 male: ours
    score = np.nan_to_num(table["face_score"], nan=-np.inf, neginf=-np.inf, posinf=np.inf)

    # From the last check to the first, so that the first fault of a row is its reason.
    reason = np.full(len(paths), "", dtype=object)
    if not allow_unknown_gender:
        reason[gender == UNKNOWN] = "gender unknown"
    with np.errstate(invalid="ignore"):
        reason[~((age >= min_age) & (age <= max_age))] = f"age outside {min_age:g} to {max_age:g}"
    reason[np.isnan(age)] = "date of birth impossible"
    if not allow_second_face:
        reason[np.isfinite(table["second_face_score"])] = "second face"
    reason[score < min_face_score] = f"face score below {min_face_score:g}"
    reason[(score == -np.inf) & (score < min_face_score)] = "no face"
    return _rows(mat.parent, table, age, gender, reason)


def _rows(folder: Path, table: dict, age: np.ndarray, gender: np.ndarray, reason: np.ndarray) -> Rows:
    for index, path in enumerate(table["full_path"]):
        why = reason[index]
        if not path:
            yield Dropped(f"(row {index + 1})", "row without a file")
        elif why:
            yield Dropped(path, why, f"age {age[index]:g}" if why.startswith("age outside") else "")
        else:
            yield Row(path, folder / path, exact(int(gender[index]), float(age[index])), table["identity"][index])


def find_images(root: Path, **_: Any) -> Path:
    """Return the folder of the .mat; no image outside of it is read."""
    return find_mat(Path(root)).parent


def find_mat(root: Path) -> Path:
    """Return the only imdb.mat or wiki.mat in `root` or, if it holds none, in one of its folders."""
    names = [f"{struct}.mat" for struct in STRUCTS]
    if not root.is_dir():
        raise AgedgeError(f"{root}: no such folder")
    found = [root / name for name in names if (root / name).is_file()]
    found = found or sorted(path for name in names for path in root.glob(f"*/{name}") if path.is_file())
    if not found:
        raise AgedgeError(f"{root}: neither imdb.mat nor wiki.mat in it or in a folder of it")
    if len(found) > 1:
        listed = ", ".join(str(path.relative_to(root)) for path in found)
        raise AgedgeError(f"{root}: holds {listed}; give the folder of one of them")
    return found[0]


def load_table(mat: Path) -> Dict[str, Any]:
    """Return the struct as columns of equal length: numbers as float64 arrays, `full_path` and `identity` as lists.

    Raises `AgedgeError` if the file does not hold the struct of IMDB-WIKI.
    """
    table = load_columns(mat, STRUCTS, strings=("full_path", "name"), numbers=NUMBERS, optional=("celeb_id",))
    table["identity"] = [name or None for name in table["name"]]
    if "celeb_id" in table:
        known = np.isfinite(table["celeb_id"]) & (table["celeb_id"] > 0)
        ids = np.where(known, table["celeb_id"], 0).astype(np.int64).tolist()
        table["identity"] = [f"celeb {one}" if one else name for one, name in zip(ids, table["identity"])]
    return table


def ages(dob: np.ndarray, photo_taken: np.ndarray, paths: List[str]) -> np.ndarray:
    """Return ages (n,) in whole years: the year of the photo minus that of birth, minus 1 for a birth after June.

    `dob` are Matlab's serial days. If one is not a date of the years 1 to 9999, or the year of the photo is unknown,
    the dates in the file name are used (`17/10000217_1981-05-05_2009.jpg`); NaN if these are not valid either.
    """
    with np.errstate(invalid="ignore"):
        ordinal = np.floor(dob) - MATLAB_EPOCH
        sure = (ordinal >= 1) & (ordinal <= LAST_ORDINAL) & (photo_taken > 0) & np.isfinite(photo_taken)
    days = (np.where(sure, ordinal, UNIX_EPOCH).astype(np.int64) - UNIX_EPOCH).astype("datetime64[D]")
    months = days.astype("datetime64[M]").astype(np.int64)  # since January 1970; floor division holds before it too
    age = np.where(sure, photo_taken - (1970 + months // 12) - (months % 12 + 1 > MID_YEAR), np.nan)
    for index in np.flatnonzero(~sure):
        years = age_in_name(paths[index])
        if years is not None:
            age[index] = years
    return age


def age_in_name(path: str) -> Optional[int]:
    """Return the age by the dates in a file name `..._YEAR-MONTH-DAY_YEAR.jpg`, or None if they are invalid."""
    match = DATES_IN_NAME.search(path)
    if not match:
        return None
    year, month, day, taken = map(int, match.groups())
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= 31):
        return None
    return taken - year - (month > MID_YEAR)
