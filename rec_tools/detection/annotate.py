"""Pictures of faces -> label.txt: where each face is, so that a set without boxes can serve the training of a detector.

Data sets of faces are cut tightly: a detector sees nothing in many of them, and its boxes end where the picture does.
So MTCNN looks at the picture widened by `PAD` on every side, the border replicated, and a small one enlarged. A box may
leave its picture: that is how far the face goes.
"""

import itertools
import logging
import os
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from agedge.crop import TEMPLATES
from agedge.errors import AgedgeError
from agedge.faces.align import estimate_similarity
from agedge.faces.annotations import Photo, write_annotations
from agedge.faces.boxes import overlaps
from agedge.faces.detection import choose_main
from agedge.faces.detector import Faces
from agedge.landmarks import LANDMARK_COLUMNS
from agedge.sources import read_image
from rec_tools.formats.image_folder import list_images
from rec_tools.formats.table import read_table
from rec_tools.packing.landmarks import get_detector
from rec_tools.packing.prepare import SECONDS
from rec_tools.rows import Dropped
from rec_tools.worker_pool import WorkerDeathError, WorkerPool, allow

PAD = 0.35  # of a picture's shorter side
SMALL, ZOOM = 120, 2  # pictures with a shorter side below SMALL pixels are enlarged ZOOM times
CHUNK = 64  # pictures a task
AT_ONCE = 8e6  # pixels of pictures that are looked at together
AGREE = 0.3  # of the eye distance: landmarks further from MTCNN's, on average, are of another face or wrong
FEWEST = 20  # faces from which the relation of boxes to landmarks is taken
FOUND, GIVEN = "landmarks of MTCNN", "landmarks of the table"
DISAGREE = f"landmarks of MTCNN, for the table's are over {AGREE} of the eye distance away"
DERIVED, CENTRE, NONE = "box from the table's landmarks", "the set's median box", "no face found"

log = logging.getLogger(__name__)


class Finding(NamedTuple):
    """What MTCNN saw in a picture of `size` (width, height), or why it could not be read."""

    name: str
    size: Tuple[int, int] = (0, 0)
    faces: Faces = Faces.empty()
    fault: str = ""


class Frame(NamedTuple):
    """Where boxes lie about landmarks: `centre` (2,) and `size` (2,), medians over faces, in the units of the crop
    template that a similarity takes the landmarks to. `agreement`: overlaps (n,) of such boxes with those measured."""

    centre: np.ndarray
    size: np.ndarray
    agreement: np.ndarray = np.empty(0)


@dataclass
class Report:
    """`pictures` and `faces` written; `ways`: how many main faces were annotated how; `left_out`: how many were not,
    and why; `frame`: where boxes lie about the table's landmarks, if that was measured."""

    pictures: int = 0
    faces: int = 0
    ways: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)
    frame: Optional[Frame] = None


def annotate(
    root: Path,
    out: Path,
    landmarks: Optional[Path] = None,
    min_score: float = 0.9,
    centre: bool = False,
    hold_out: int = 0,
    workers: int = 0,
    progress: bool = False,
    max_side: Optional[int] = None,
) -> Report:
    """Write `out`, a label.txt of the pictures in `root` and its folders, each picture's main face first.

    `hold_out`: one picture of so many, by the checksum of its name, goes to NAME_val.txt beside `out`; 0: none.

    Faces that MTCNN is less sure of than `min_score` are marked to be ignored. `landmarks`: a table with the points of
    the main faces, which stand in the place of MTCNN's where the two agree, and say where the face is where MTCNN sees
    none. `max_side`: larger pictures are shrunk to this side to find faces. `centre`: pictures without either get the
    median box of the set; else they are left out. The output does not depend on `workers`. Raises `AgedgeError` where
    there is no picture, or no face in any.
    """
    report = Report()
    known = read_landmarks(landmarks, root, report) if landmarks else {}
    findings = []
    with tqdm(desc="annotate", unit=" pictures", disable=None if progress else True) as bar:
        for finding in find_all(root, workers, max_side):
            bar.update()
            if finding.fault:
                log.warning("%s: %s", root / finding.name, finding.fault)
                report.left_out["not readable"] += 1
            else:
                findings.append(finding)
    photos = describe(findings, root, known, min_score, centre, report)
    if not photos:
        raise AgedgeError(f"{root}: no face found in {len(findings)} pictures")
    held_out = [hold_out > 0 and zlib.crc32(photo.file.name.encode()) % hold_out == 0 for photo in photos]
    write_annotations(out, [photo for photo, held in zip(photos, held_out) if not held])
    if hold_out:
        write_annotations(name_held_out(out), [photo for photo, held in zip(photos, held_out) if held])
    report.pictures, report.faces = len(photos), sum(map(len, photos))
    return report


def name_held_out(out: Path) -> Path:
    """Where the pictures go that are held out."""
    return out.with_name(f"{out.stem}_val{out.suffix}")


def find_all(root: Path, workers: int, max_side: Optional[int] = None) -> Iterator[Finding]:
    """A `Finding` for every picture of a folder, in the order of their names."""
    names = list_images(root)
    chunks = iter(lambda: list(itertools.islice(names, CHUNK)), [])
    tasks = [(root, chunk, max_side) for chunk in chunks]
    if not tasks:
        raise AgedgeError(f"{root}: no images in it")
    if workers == 0:
        yield from itertools.chain.from_iterable(itertools.starmap(find_faces, tasks))
        return
    with WorkerPool(workers) as pool:
        for task in pool.submit_ahead(find_faces, tasks):
            try:
                yield from pool.wait(task)
            except WorkerDeathError:
                yield from find_one_by_one(pool, *task.arguments)


def find_one_by_one(pool: WorkerPool, root: Path, names: list) -> Iterator[Finding]:
    """Findings for pictures that a worker does not survive together: which of them end it on their own is a fault."""
    for name in names:
        try:
            yield from pool.run(find_faces, root, [name])
        except WorkerDeathError as died:
            yield Finding(name, fault=f"ends the decoder: {died}")


def find_faces(root: Path, names: list, max_side: Optional[int] = None) -> List[Finding]:
    """Findings for some of the pictures, in their order."""
    found, waiting = {}, []
    options = {} if max_side is None else {"max_side": max_side}
    for place, name in enumerate(names):
        allow(SECONDS)
        if isinstance(name, Dropped):
            found[place] = Finding(name.id, fault=f"{name.reason}: {name.detail}")
            continue
        try:
            image = read_image(root / name)
        except AgedgeError as error:
            found[place] = Finding(name, fault=str(error)[len(f"{root / name}: ") :])
            continue
        waiting.append((place, name, image))
        if sum(image.shape[0] * image.shape[1] for *_, image in waiting) > AT_ONCE:
            found.update(look(waiting, options))
            waiting = []
    found.update(look(waiting, options))
    return [found[place] for place in range(len(names))]


def look(pictures: list, options: dict) -> dict:
    """{place: `Finding`} of (place, name, image): MTCNN on the padded pictures, all at once."""
    allow(SECONDS * (1 + len(pictures)))
    zooms = [ZOOM if min(image.shape[:2]) < SMALL else 1 for *_, image in pictures]
    padded, pads = [], []
    for (*_, image), zoom in zip(pictures, zooms):
        image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC) if zoom > 1 else image
        pads.append(int(round(PAD * min(image.shape[:2]))))
        padded.append(cv2.copyMakeBorder(image, *[pads[-1]] * 4, cv2.BORDER_REPLICATE))
    found = {}
    for (place, name, image), zoom, pad, faces in zip(
        pictures, zooms, pads, get_detector("mtcnn", **options).detect_batch(padded)
    ):
        faces = faces.shifted(-pad, -pad)
        # A pixel's centre is at its whole numbers, its edges half a pixel away.
        faces = Faces(faces.boxes / zoom, faces.scores, (faces.landmarks + 0.5) / zoom - 0.5)
        found[place] = Finding(name, image.shape[1::-1], faces)
    return found


def describe(findings: list, root: Path, known: dict, min_score: float, centre: bool, report: Report) -> list:
    """A `Photo` for each finding that has a face or can be given one, and in `report` how."""
    photos, agreeing, relative = {}, [], []
    for place, finding in enumerate(findings):
        faces, sure = finding.faces, np.flatnonzero(finding.faces.scores >= min_score)
        if not len(sure):
            continue
        points = known.get(os.path.abspath(root / finding.name))
        away = distance(points, faces.landmarks[sure]) if points is not None else np.full(len(sure), np.inf)
        agrees = away.min() <= AGREE
        main = sure[away.argmin() if agrees else choose_main(faces.boxes[sure], finding.size[::-1])]
        faces = faces.take([main, *(index for index in range(len(faces)) if index != main)])
        if agrees:
            faces.landmarks[0] = points
            agreeing.append((points, faces.boxes[0]))
        report.ways[GIVEN if agrees else FOUND if points is None else DISAGREE] += 1
        relative.append(faces.boxes[0] / np.tile(finding.size, 2))
        photos[place] = Photo(root / finding.name, faces.boxes, faces.landmarks, faces.scores < min_score)
    report.frame = fit_frame(*zip(*agreeing)) if len(agreeing) >= FEWEST else None
    for place in sorted(set(range(len(findings))) - set(photos)):
        finding = findings[place]
        points = known.get(os.path.abspath(root / finding.name))
        if points is not None and report.frame is not None:
            photos[place] = Photo(root / finding.name, derive_box(report.frame, points), points)
            report.ways[DERIVED] += 1
        elif centre and relative:
            photos[place] = Photo(root / finding.name, np.median(relative, axis=0) * np.tile(finding.size, 2))
            report.ways[CENTRE] += 1
        else:
            report.left_out[NONE] += 1
    return [photos[place] for place in sorted(photos)]


def read_landmarks(table: Path, root: Path, report: Report) -> dict:
    """{absolute path of a picture: landmarks (5, 2)} of a table whose files are relative to it or to `root`."""
    known = {}
    for number, cells in read_table(table, LANDMARK_COLUMNS, ("file",)):
        try:
            if isinstance(cells, Dropped):
                raise ValueError(f"{cells.reason}: {cells.detail}")
            points = np.array([float(cells[name]) for name in LANDMARK_COLUMNS]).reshape(5, 2)
            if not np.isfinite(points).all() or not np.ptp(points, axis=0).any():
                raise ValueError("landmarks that are no places of a face")
        except ValueError as error:
            log.warning("%s: line %d: %s", table, number, error)
            report.left_out["rows of the table"] += 1
            continue
        beside = Path(table).parent / cells["file"]
        known[os.path.abspath(beside if beside.is_file() else Path(root) / cells["file"])] = points
    return known


def distance(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) mean distances of landmarks (5, 2) from others (n, 5, 2), in distances of the first one's eyes."""
    eyes = max(np.linalg.norm(points[1] - points[0]), 1e-6)
    return np.linalg.norm(points - others, axis=-1).mean(axis=-1) / eyes


def fit_frame(landmarks: Sequence, boxes: Sequence) -> Frame:
    """Where boxes (n, 4) lie about landmarks (n, 5, 2), and how well what follows from that agrees with them."""
    centres, sizes = [], []
    for points, box in zip(landmarks, boxes):
        matrix = estimate_similarity(points, TEMPLATES["arcface"])
        centres.append(matrix @ [*(box[:2] + box[2:]) / 2, 1])
        sizes.append((box[2:] - box[:2]) * np.hypot(*matrix[:, 0]))
    frame = Frame(np.median(centres, axis=0), np.median(sizes, axis=0))
    agreement = [overlaps(derive_box(frame, p)[None], b[None])[0, 0] for p, b in zip(landmarks, boxes)]
    return frame._replace(agreement=np.array(agreement))


def derive_box(frame: Frame, landmarks: np.ndarray) -> np.ndarray:
    """The box (4,) that belongs to landmarks (5, 2)."""
    matrix = estimate_similarity(landmarks, TEMPLATES["arcface"])
    centre = np.linalg.solve(matrix[:, :2], frame.centre - matrix[:, 2])
    half = frame.size / np.hypot(*matrix[:, 0]) / 2
    return np.concatenate([centre - half, centre + half])
