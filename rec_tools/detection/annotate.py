"""Annotate images of faces: write a label.txt with the box and landmarks of each face, to train a detector.

Images of face data sets are tight crops: MTCNN finds nothing in many of them, and its boxes end at the border. So MTCNN
runs on the image padded by `PAD` on every side with its border replicated, and small images are enlarged. A box may
extend beyond its image: it covers the whole face.
"""

import itertools
import logging
import os
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

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
from rec_tools.worker_pool import WorkerDeathError, WorkerPool, set_time_limit

PAD = 0.35  # of an image's shorter side
SMALL, ZOOM = 120, 2  # images with a shorter side below SMALL pixels are enlarged ZOOM times
CHUNK = 64  # images per task
BATCH_PIXELS = 8e6  # of images that are detected in one batch
AGREE = 0.3  # of the eye distance: landmarks further from MTCNN's, on average, are wrong or of another face
FEWEST = 20  # faces needed to fit a `BoxModel`
FOUND, GIVEN = "landmarks of MTCNN", "landmarks of the table"
DISAGREE = f"landmarks of MTCNN, since the table's are over {AGREE} of the eye distance away"
DERIVED, CENTRE, NONE = "box from the table's landmarks", "median box of all images", "no face found"

log = logging.getLogger(__name__)

Names = Sequence[Union[str, Dropped]]  # paths relative to the folder, and entries of it that are not readable


class Detections(NamedTuple):
    """The faces found in an image of `size` (width, height), or the fault of an unreadable image."""

    name: str
    size: Tuple[int, int] = (0, 0)
    faces: Faces = Faces.empty()
    fault: str = ""


class BoxModel(NamedTuple):
    """The position of a face's box relative to its landmarks.

    `centre` (2,) and `size` (2,): medians over faces, in the coordinates of the crop template to which a similarity
    transform maps the landmarks. `agreement` (n,): overlaps of the boxes it predicts with those of MTCNN.
    """

    centre: np.ndarray
    size: np.ndarray
    agreement: np.ndarray = np.empty(0)


@dataclass
class AnnotationReport:
    """What was annotated, and how."""

    images: int = 0
    faces: int = 0
    methods: Counter = field(default_factory=Counter)  # main faces by how they were annotated
    left_out: Counter = field(default_factory=Counter)  # images and rows of the table by why they were left out
    box_model: Optional[BoxModel] = None  # fitted to the table's landmarks, if there are enough


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
) -> AnnotationReport:
    """Write `out`, a label.txt of the images in `root` and its subfolders, each image's main face first.

    `landmarks`: a table with the landmarks of the main faces. They replace MTCNN's where the two agree, and give the
    box of a face that MTCNN does not find. `min_score`: faces with a lower score are marked as ignored. `centre`:
    images with neither get the median box of all images; else they are left out. `hold_out`: one of every so many
    images, by the checksum of its name, goes to NAME_val.txt beside `out`; 0: none. `max_side`: larger images are
    shrunk to this side for detection. The output does not depend on `workers`.

    Raises `AgedgeError` if there is no image, or no face.
    """
    report = AnnotationReport()
    known = read_landmarks(landmarks, root, report) if landmarks else {}
    found: List[Detections] = []
    with tqdm(desc="annotate", unit=" images", disable=None if progress else True) as bar:
        for detections in detect_all(root, workers, max_side):
            bar.update()
            if detections.fault:
                log.warning("%s: %s", root / detections.name, detections.fault)
                report.left_out["not readable"] += 1
            else:
                found.append(detections)
    photos = annotate_images(found, root, known, min_score, centre, report)
    if not photos:
        raise AgedgeError(f"{root}: no face found in {len(found)} images")
    held_out = [hold_out > 0 and zlib.crc32(photo.file.name.encode()) % hold_out == 0 for photo in photos]
    write_annotations(out, [photo for photo, held in zip(photos, held_out) if not held])
    if hold_out:
        write_annotations(name_held_out(out), [photo for photo, held in zip(photos, held_out) if held])
    report.images, report.faces = len(photos), sum(map(len, photos))
    return report


def name_held_out(out: Path) -> Path:
    """Return the file of the images that are held out."""
    return out.with_name(f"{out.stem}_val{out.suffix}")


def detect_all(root: Path, workers: int, max_side: Optional[int] = None) -> Iterator[Detections]:
    """Detect the faces in every image of a folder, in the order of the names."""
    names = list_images(root)
    chunks = iter(lambda: list(itertools.islice(names, CHUNK)), [])
    tasks = [(root, chunk, max_side) for chunk in chunks]
    if not tasks:
        raise AgedgeError(f"{root}: no images in it")
    if workers == 0:
        yield from itertools.chain.from_iterable(itertools.starmap(detect_faces, tasks))
        return
    with WorkerPool(workers) as pool:
        for task in pool.submit_ahead(detect_faces, tasks):
            try:
                yield from pool.wait(task)
            except WorkerDeathError:
                yield from detect_one_by_one(pool, *task.arguments)


def detect_one_by_one(
    pool: WorkerPool, root: Path, names: Names, max_side: Optional[int] = None
) -> Iterator[Detections]:
    """Detect the faces of a chunk whose worker died; an image that crashes a worker on its own has a fault."""
    for name in names:
        try:
            yield from pool.run(detect_faces, root, [name], max_side)
        except WorkerDeathError as died:
            path = name.id if isinstance(name, Dropped) else name
            yield Detections(path, fault=f"crashes the decoder: {died}")


def detect_faces(root: Path, names: Names, max_side: Optional[int] = None) -> List[Detections]:
    """Detect the faces in some of the images, in order."""
    found: Dict[int, Detections] = {}
    waiting: List[Tuple[int, str, np.ndarray]] = []
    options = {} if max_side is None else {"max_side": max_side}
    for place, name in enumerate(names):
        set_time_limit(SECONDS)
        if isinstance(name, Dropped):
            found[place] = Detections(name.id, fault=f"{name.reason}: {name.detail}")
            continue
        try:
            image = read_image(root / name)
        except AgedgeError as error:
            found[place] = Detections(name, fault=str(error)[len(f"{root / name}: ") :])
            continue
        waiting.append((place, name, image))
        if sum(image.shape[0] * image.shape[1] for *_, image in waiting) > BATCH_PIXELS:
            found.update(detect_padded_images(waiting, options))
            waiting = []
    found.update(detect_padded_images(waiting, options))
    return [found[place] for place in range(len(names))]


def detect_padded_images(images: List[Tuple[int, str, np.ndarray]], options: Dict[str, Any]) -> Dict[int, Detections]:
    """Run MTCNN on a batch of (place, name, image), each padded; return {place: `Detections`}."""
    set_time_limit(SECONDS * (1 + len(images)))
    zooms = [ZOOM if min(image.shape[:2]) < SMALL else 1 for *_, image in images]
    padded, pads = [], []
    for (*_, image), zoom in zip(images, zooms):
        image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC) if zoom > 1 else image
        pads.append(int(round(PAD * min(image.shape[:2]))))
        padded.append(cv2.copyMakeBorder(image, pads[-1], pads[-1], pads[-1], pads[-1], cv2.BORDER_REPLICATE))
    found = {}
    for (place, name, image), zoom, pad, faces in zip(
        images, zooms, pads, get_detector("mtcnn", **options).detect_batch(padded)
    ):
        faces = faces.shifted(-pad, -pad)
        # The centre of a pixel is at whole numbers, its edges half a pixel away.
        faces = Faces(faces.boxes / zoom, faces.scores, (faces.landmarks + 0.5) / zoom - 0.5)
        found[place] = Detections(name, (image.shape[1], image.shape[0]), faces)
    return found


def annotate_images(
    found: List[Detections],
    root: Path,
    known: Dict[str, np.ndarray],
    min_score: float,
    centre: bool,
    report: AnnotationReport,
) -> List[Photo]:
    """Return a `Photo` for each image that has a face or can be given a box; count in `report` how.

    `known`: see `read_landmarks`.
    """
    photos: Dict[int, Photo] = {}
    agreeing, relative = [], []
    for place, detections in enumerate(found):
        faces, sure = detections.faces, np.flatnonzero(detections.faces.scores >= min_score)
        if not len(sure):
            continue
        points = known.get(os.path.abspath(root / detections.name))
        away = distance(points, faces.landmarks[sure]) if points is not None else np.full(len(sure), np.inf)
        agrees = away.min() <= AGREE
        main = sure[away.argmin() if agrees else choose_main(faces.boxes[sure], detections.size[::-1])]
        faces = faces.take([main, *(index for index in range(len(faces)) if index != main)])
        if points is not None and agrees:
            faces.landmarks[0] = points
            agreeing.append((points, faces.boxes[0]))
        report.methods[GIVEN if agrees else FOUND if points is None else DISAGREE] += 1
        relative.append(faces.boxes[0] / np.tile(detections.size, 2))
        photos[place] = Photo(root / detections.name, faces.boxes, faces.landmarks, faces.scores < min_score)
    report.box_model = fit_boxes(*zip(*agreeing)) if len(agreeing) >= FEWEST else None
    for place in sorted(set(range(len(found))) - set(photos)):
        detections = found[place]
        path = root / detections.name
        points = known.get(os.path.abspath(path))
        if points is not None and report.box_model is not None:
            photos[place] = Photo(path, predict_box(report.box_model, points), points)
            report.methods[DERIVED] += 1
        elif centre and relative:
            photos[place] = Photo(path, np.median(relative, axis=0) * np.tile(detections.size, 2))
            report.methods[CENTRE] += 1
        else:
            report.left_out[NONE] += 1
    return [photos[place] for place in sorted(photos)]


def read_landmarks(table: Path, root: Path, report: AnnotationReport) -> Dict[str, np.ndarray]:
    """Return {absolute path of an image: landmarks (5, 2)} of a table whose files are relative to it or to `root`."""
    known = {}
    for number, cells in read_table(table, LANDMARK_COLUMNS, ("file",)):
        try:
            if isinstance(cells, Dropped):
                raise ValueError(f"{cells.reason}: {cells.detail}")
            points = np.array([float(cells[name]) for name in LANDMARK_COLUMNS]).reshape(5, 2)
            if not np.isfinite(points).all() or not np.ptp(points, axis=0).any():
                raise ValueError("the landmarks are not those of a face")
        except ValueError as error:
            log.warning("%s: line %d: %s", table, number, error)
            report.left_out["rows of the table"] += 1
            continue
        beside = Path(table).parent / cells["file"]
        known[os.path.abspath(beside if beside.is_file() else Path(root) / cells["file"])] = points
    return known


def distance(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the mean distances (n,) of landmarks (5, 2) from others (n, 5, 2), in eye distances of the first."""
    eyes = max(np.linalg.norm(points[1] - points[0]), 1e-6)
    return np.linalg.norm(points - others, axis=-1).mean(axis=-1) / eyes


def fit_boxes(landmarks: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> BoxModel:
    """Fit a `BoxModel` to boxes (n, 4) and landmarks (n, 5, 2)."""
    centres, sizes = [], []
    for points, box in zip(landmarks, boxes):
        matrix = estimate_similarity(points, TEMPLATES["arcface"])
        centres.append(matrix @ [*(box[:2] + box[2:]) / 2, 1])
        sizes.append((box[2:] - box[:2]) * np.hypot(*matrix[:, 0]))
    model = BoxModel(np.median(centres, axis=0), np.median(sizes, axis=0))
    agreement = [overlaps(predict_box(model, p)[None], b[None])[0, 0] for p, b in zip(landmarks, boxes)]
    return model._replace(agreement=np.array(agreement))


def predict_box(model: BoxModel, landmarks: np.ndarray) -> np.ndarray:
    """Return the box (4,) of the face with these landmarks (5, 2)."""
    matrix = estimate_similarity(landmarks, TEMPLATES["arcface"])
    centre = np.linalg.solve(matrix[:, :2], model.centre - matrix[:, 2])
    half = model.size / np.hypot(*matrix[:, 0]) / 2
    return np.concatenate([centre - half, centre + half])
