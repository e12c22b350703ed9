"""Write drawn faces as an IMDB-WIKI folder: `imdb.mat` or `wiki.mat` with its struct, JPEGs in NN/, and faults.

A few per cent of the rows have the faults of the real data set, so that its reader has rows to drop: no face, a low
score, a second face, an unknown gender, an impossible date of birth or age, one missing file and one that is not an
image. `drawn.json` records what was drawn and how many rows have each fault.
"""

import io
import logging
import os
import zlib
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError, choices
from agedge.labels import FEMALE, MALE
from agedge.safe_write import temporary_folder, write_json
from rec_tools.drawn.person import Person, make_person
from rec_tools.drawn.scene import apply_camera, draw_background, draw_photo, set_scene
from rec_tools.worker_pool import WorkerPool

NAMES = ("imdb", "wiki")
GREY_SHARE = {"imdb": 0.03, "wiki": 0.12}  # Wikipedia's photos are older
LAST_YEAR = 2015  # of the photos, as in the real set
NOTE = "drawn.json"
VERSION = 1  # of the drawing: increase it when the same seed gives other faces
# Faults of labels, with their share of the rows; from 50 rows on there is at least one of each.
FAULTS = {
    "no face": 0.01,
    "low score": 0.008,
    "second face": 0.012,
    "gender unknown": 0.01,
    "impossible age": 0.006,
    "impossible date": 0.004,  # the dates in the file name are still right
}
FAULTY_FROM = 50
HEADER = b"MATLAB 5.0 MAT-file, faces drawn by code"  # in place of SciPy's, which holds the time
MATLAB_EPOCH = 366  # Matlab's serial day minus Python's ordinal
CHUNK = 64  # faces per task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DrawnPhoto:
    """One row of the data set, and what is drawn for it."""

    index: int
    person: int
    birth: date
    taken: int  # year
    age: float  # as drawn
    path: str
    fault: str = ""


def write_folder(
    root: Path, faces: int = 3000, seed: int = 0, name: str = "imdb", workers: Optional[int] = None
) -> None:
    """Draw `faces` rows into `root`, which must not exist or be empty.

    The same seed gives the same bytes for any number of `workers` (None: one per core). The folder gets its name when
    it is complete. Raises `AgedgeError` if `root` is in use, `UsageError` for an unknown name or less than one face.
    """
    root = Path(root)
    if name not in NAMES:
        raise choices("name", name, NAMES)
    if faces < 1 or seed < 0:
        raise UsageError(f"faces {faces}, seed {seed}: there must be at least one face, and the seed must be 0 or more")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise AgedgeError(f"{root}: exists and is not empty; drawn faces need a folder of their own")
    photos, people = plan(faces, seed, name)
    with temporary_folder(root.parent) as stage:
        drawn = stage / root.name
        for folder in sorted({os.path.dirname(photo.path) for photo in photos}):
            (drawn / folder).mkdir(parents=True)
        chunks = [photos[start : start + CHUNK] for start in range(0, faces, CHUNK)]
        tasks = [(drawn, people, seed, name, chunk) for chunk in chunks]
        _draw_chunks(tasks, faces, workers or os.cpu_count() or 1)
        (drawn / f"{name}.mat").write_bytes(_mat(photos, people, seed, name))
        write_json(drawn / NOTE, describe(photos, seed, name))
        if root.exists():
            root.rmdir()
        os.replace(drawn, root)
    log.info("%s: %d faces of %d people drawn", root, faces, len(people))


def describe(photos: List[DrawnPhoto], seed: int, name: str) -> Dict[str, Any]:
    """Return the content of drawn.json."""
    faults = [photo.fault for photo in photos if photo.fault]
    counts = {fault: faults.count(fault) for fault in sorted(set(faults))}
    return {"version": VERSION, "name": name, "faces": len(photos), "seed": seed, "faults": counts}


def plan(faces: int, seed: int, name: str) -> Tuple[List[DrawnPhoto], List[Person]]:
    """Choose who is drawn at which age, and the faults of the rows. Each person is drawn 1 to 4 times."""
    rng = _make_rng(seed, name, "plan")
    people, photos = [], []
    while len(photos) < faces:
        person = len(people)
        people.append(make_person(_make_rng(seed, name, "person", person), MALE if rng.random() < 0.52 else FEMALE))
        ages = rng.choice(91, size=rng.integers(1, 5), replace=False)
        year = int(rng.integers(1900, LAST_YEAR - ages.max()))
        birth = date(year, 1, 1) + timedelta(days=int(rng.integers(365)))
        for age in ages[: faces - len(photos)]:
            taken = birth.year + int(age) + (birth.month > 6)  # the inverse of the data set's rule
            path = _path(name, person, len(photos), birth, taken)
            photos.append(DrawnPhoto(len(photos), person, birth, taken, float(age + rng.random()), path))
    order = rng.permutation(faces)
    faults = []
    for fault, share in FAULTS.items():
        faults += [fault] * max(round(share * faces), int(faces >= FAULTY_FROM))
    if faces >= FAULTY_FROM:
        faults += ["missing", "undecodable"]
    for index, fault in zip(order, faults):
        photos[index] = replace(photos[index], fault=fault)
    return photos, people


def _path(name: str, person: int, index: int, birth: date, taken: int) -> str:
    if name == "imdb":
        number = f"{person:07d}"
        return f"{number[-2:]}/nm{number}_rm{index:09d}_{birth.year}-{birth.month}-{birth.day}_{taken}.jpg"
    number = str(10000000 + 97 * index)
    return f"{number[-2:]}/{number}_{birth.isoformat()}_{taken}.jpg"


def _make_rng(seed: int, name: str, *what: object) -> np.random.Generator:
    """Return a random generator for one thing that is drawn, so that nothing depends on the order of drawing."""
    return np.random.default_rng([seed, *(zlib.crc32(str(one).encode()) for one in (name, *what))])


def _draw_chunks(tasks: Sequence[tuple], faces: int, workers: int) -> None:
    from tqdm import tqdm

    with tqdm(total=faces, desc="drawing", unit=" faces", disable=None) as bar:
        if workers <= 1 or len(tasks) == 1:
            for task in tasks:
                bar.update(_draw_chunk(*task))
            return
        with WorkerPool(min(workers, len(tasks))) as pool:
            for task in pool.submit_ahead(_draw_chunk, tasks):
                bar.update(pool.wait(task))


def _draw_chunk(root: Path, people: List[Person], seed: int, name: str, photos: List[DrawnPhoto]) -> int:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the work is already split by faces
    for photo in photos:
        if photo.fault == "missing":
            continue
        if photo.fault == "undecodable":
            (root / photo.path).write_bytes(b"This is a text and no picture.\n")
            continue
        rng = _make_rng(seed, name, "photo", photo.index)
        scene = set_scene(rng, GREY_SHARE[name])
        if photo.fault == "no face":
            image = apply_camera(draw_background(rng, scene.background), rng, scene)
        else:
            image = draw_photo(people[photo.person], photo.age, rng, scene)
        quality = int(rng.integers(70, 96))
        (root / photo.path).write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    cv2.setNumThreads(threads)
    return len(photos)


def _mat(photos: List[DrawnPhoto], people: List[Person], seed: int, name: str) -> bytes:
    """Return the bytes of the Matlab file, with the struct of the real data set."""
    from scipy.io import savemat

    rng, n = _make_rng(seed, name, "labels"), len(photos)
    faults = np.array([photo.fault for photo in photos])
    ids = np.array([photo.person for photo in photos])
    dob = np.array([photo.birth.toordinal() + MATLAB_EPOCH for photo in photos])
    dob[faults == "impossible date"] = 0
    taken = np.array([photo.taken for photo in photos])
    dob[faults == "impossible age"] = (taken[faults == "impossible age"] + 15) * 365.2425  # born after the photo
    gender = np.array([people[index].gender for index in ids], np.float64)
    gender[faults == "gender unknown"] = np.nan
    score = rng.uniform(1.2, 6.5, n)
    score[faults == "low score"] = rng.uniform(0, 0.95, n)[faults == "low score"]
    score[faults == "no face"] = -np.inf
    second = np.where(faults == "second face", rng.uniform(1, 4, n), np.nan)
    struct = {
        "dob": _row(dob, np.int32),
        "photo_taken": _row(taken, np.uint16),
        "full_path": _cell([photo.path for photo in photos]),
        "gender": _row(gender, np.float64),
        "name": _cell([f"Drawn Person {index + 1}" for index in ids]),
        "face_location": _cell([np.array([[1.0, 1.0, 160.0, 160.0]])] * n),
        "face_score": _row(score, np.float64),
        "second_face_score": _row(second, np.float64),
    }
    if name == "imdb":
        struct["celeb_names"] = _cell([f"Drawn Person {index + 1}" for index in range(len(people))])
        struct["celeb_id"] = _row(ids + 1, np.float64)
    stream = io.BytesIO()
    savemat(stream, {name: struct}, do_compression=True)
    return HEADER.ljust(116) + stream.getvalue()[116:]


def _row(values: Iterable, dtype: type) -> np.ndarray:
    return np.asarray(values, dtype)[None]


def _cell(values: list) -> np.ndarray:
    cell = np.empty((1, len(values)), object)
    for index, value in enumerate(values):
        cell[0, index] = value
    return cell
