"""Read and write photographs with annotated faces: RetinaFace's label.txt for WIDER FACE, and annotations.json.

label.txt (Deng et al., "RetinaFace", CVPR 2020): `# relative/path.jpg`, then one line per face: `x y w h`, five
landmarks `x y flag` with flag -1 if unknown, and the quality, which is not used. Lines of `x y w h` alone are faces
without landmarks. As an extension, words may follow: `ignore`, and what covers the face, such as `masked`.
"""

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, List, NamedTuple, Tuple, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.landmarks import LANDMARK_COUNT
from agedge.safe_write import write_text
from agedge.value_equality import compare_by_value

LENGTHS = (4, 4 + 3 * LANDMARK_COUNT, 5 + 3 * LANDMARK_COUNT)  # numbers of a face's line
IGNORE = "ignore"
WORD = re.compile(r"(?!(?:nan|inf|infinity)$)[a-z][a-z0-9_-]*", re.IGNORECASE)  # what follows the numbers
FARTHEST = 1e6  # pixels: larger coordinates are invalid
NAMED = 10  # faults that are logged one by one; the others are only counted

logger = logging.getLogger(__name__)
ABSENT: Any = None  # `Photo` fills in an array


@compare_by_value
@dataclass(frozen=True)
class Photo:
    """One image and its `n` annotated faces.

    `boxes` (n, 4) float32 x1, y1, x2, y2 in pixels; `landmarks` (n, 5, 2) float32, NaN where not known, in the order
    of `Faces`; `ignored` (n,) bool: faces that count neither as found nor as missed; `occlusion` (n,) str: what covers
    a face, such as "masked", "" for nothing. All but the boxes may be left out.
    """

    file: Path
    boxes: np.ndarray
    landmarks: np.ndarray = ABSENT
    ignored: np.ndarray = ABSENT
    occlusion: np.ndarray = ABSENT

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        count = len(boxes)
        landmarks = np.full((count, LANDMARK_COUNT, 2), np.nan) if self.landmarks is None else self.landmarks
        ignored = np.zeros(count) if self.ignored is None else self.ignored
        occlusion = [""] * count if self.occlusion is None else self.occlusion
        arrays = {
            "boxes": boxes,
            "landmarks": np.asarray(landmarks, np.float32).reshape(-1, LANDMARK_COUNT, 2),
            "ignored": np.asarray(ignored, bool).reshape(-1),
            "occlusion": np.asarray(occlusion, np.str_).reshape(-1),
        }
        for name, array in arrays.items():
            if len(array) != count:
                raise ValueError(f"{self.file}: {count} boxes, {len(array)} {name}")
            object.__setattr__(self, name, array)
        object.__setattr__(self, "file", Path(self.file))

    def __len__(self) -> int:
        return len(self.boxes)


class AnnotatedFace(NamedTuple):
    """One face of a file: `box` x1, y1, x2, y2, `landmarks` (5, 2), NaN where not known."""

    box: List[float]
    landmarks: np.ndarray
    ignored: bool
    occlusion: str


Rows = List[Tuple[str, List[AnnotatedFace]]]  # the name of an image, and its faces


def read_annotations(path: Union[str, Path]) -> List[Photo]:
    """Return the photographs of a label.txt or, by its suffix, of an annotations.json, in the file's order.

    Image paths are relative to `images/` beside the file, or to the file's folder, depending on where the images exist;
    not every image is checked. Faces with invalid numbers are left out, logged and counted. Raises `AgedgeError`, which
    names the line, if the file has neither format or names no image.
    """
    path, faults = Path(path), []
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise AgedgeError(f"{path}: {error.strerror or error}") from None
    rows = (_read_json if path.suffix.lower() == ".json" else _read_lines)(path, text, faults)
    if not rows:
        raise AgedgeError(f"{path}: it names no image; a label.txt names each as '# relative/path.jpg'")
    if faults and not any(faces for _, faces in rows):
        raise AgedgeError(f"{faults[0]}; and no other face in the file")
    for fault in faults[:NAMED]:
        logger.warning("%s: left out", fault)
    if len(faults) > NAMED:
        logger.warning("%s: %d faces left out in all", path, len(faults))
    root = _find_root(path.parent, [name for name, _ in rows])
    return [Photo(root / name, *_columns(faces)) for name, faces in rows]


def write_annotations(path: Union[str, Path], photos: Iterable[Photo]) -> None:
    """Write a label.txt from which `read_annotations` reads the same photographs again.

    Paths are relative to `images/` beside the file where all lie in it, else to the file's folder; absolute for
    images elsewhere. Raises `OSError` that names the file if it cannot be written.
    """
    path, photos = Path(path), list(photos)
    images = path.parent / "images"
    root = images if images.is_dir() and all(_is_within(photo.file, images) for photo in photos) else path.parent
    lines = []
    for photo in photos:
        name = os.path.relpath(photo.file, root) if _is_within(photo.file, root) else os.path.abspath(photo.file)
        lines.append(f"# {Path(name).as_posix()}")
        lines += map(_write_face, photo.boxes, photo.landmarks, photo.ignored, photo.occlusion)
    write_text(path, "".join(f"{line}\n" for line in lines), errors="surrogateescape")


def _read_lines(path: Path, text: str, faults: List[str]) -> Rows:
    """Return the images and faces of a label.txt; lines that are not valid are added to `faults`."""
    rows: Rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            rows.append((line[1:].strip(), []))
        elif line.strip():
            if not rows:
                raise AgedgeError(f"{path}:{number}: a face must follow the line of its image, '# path.jpg'")
            try:
                rows[-1][1].append(_read_face(line))
            except ValueError as error:
                faults.append(f"{path}:{number}: {error}")
    return rows


def _read_face(line: str) -> AnnotatedFace:
    words = line.split()
    count = next((index for index, word in enumerate(words) if WORD.fullmatch(word)), len(words))
    if count not in LENGTHS:
        raise ValueError(f"{count} numbers; must be {', '.join(map(str, LENGTHS))}")
    wrong = [word for word in words[count:] if not WORD.fullmatch(word)]
    if wrong:
        raise ValueError(f"'{wrong[0]}' after the numbers")
    numbers = np.array([_read_number(word) for word in words[:count]])
    x, y, width, height = numbers[:4]
    landmarks = numbers[4 : 4 + 3 * LANDMARK_COUNT].reshape(-1, 3) if count > 4 else np.full((LANDMARK_COUNT, 3), -1.0)
    landmarks = np.where(landmarks[:, 2:] < 0, np.nan, landmarks[:, :2])
    tags = words[count:]
    box = _check_box([x, y, x + width, y + height])
    return AnnotatedFace(box, landmarks, IGNORE in tags, " ".join(tag for tag in tags if tag != IGNORE))


def _read_json(path: Path, text: str, faults: List[str]) -> Rows:
    """Return what `_read_lines` does, of an annotations.json.

    That is [{"file", "faces": [{"box", "landmarks", "masked", "ignore"}]}].
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise AgedgeError(f"{path}:{getattr(error, 'lineno', 1)}: not JSON ({error})") from None
    if not isinstance(entries, list):
        raise AgedgeError(f"{path}:1: must be a list of images, and is {type(entries).__name__}")
    rows: Rows = []
    for number, entry in enumerate(entries, 1):
        if not (isinstance(entry, dict) and isinstance(entry.get("file"), str)):
            raise AgedgeError(f"{path}: image {number}: must be an object with a 'file'")
        rows.append((entry["file"], []))
        for place, face in enumerate(entry.get("faces") or (), 1):
            try:
                rows[-1][1].append(_read_entry(face))
            except (ValueError, TypeError, KeyError) as error:
                faults.append(f"{path}: image {number} ({entry['file']}), face {place}: {error}")
    return rows


def _read_entry(face: dict) -> AnnotatedFace:
    box = _check_box([_read_number(side) for side in face["box"]])
    landmarks = np.full((LANDMARK_COUNT, 2), np.nan)
    if face.get("landmarks"):
        landmarks = np.array([[_read_number(axis) for axis in point] for point in face["landmarks"]])
        if landmarks.shape != (LANDMARK_COUNT, 2):
            raise ValueError(f"landmarks of the shape {landmarks.shape}; must be five of x, y")
    return AnnotatedFace(box, landmarks, bool(face.get("ignore")), "masked" if face.get("masked") else "")


def _read_number(word: Any) -> float:
    try:
        number = float(word)
    except (TypeError, ValueError):
        raise ValueError(f"'{word}' is not a number") from None
    if not abs(number) <= FARTHEST:  # nor if it is NaN
        raise ValueError(f"{word} is no place in an image")
    return number


def _check_box(box: list) -> list:
    if len(box) != 4:
        raise ValueError(f"a box of {len(box)} numbers")
    width, height = np.float32(box[2]) - np.float32(box[0]), np.float32(box[3]) - np.float32(box[1])
    if not (width > 0 and height > 0):
        raise ValueError(f"an empty box, {width:g} wide and {height:g} high")
    return box


def _columns(faces: List[AnnotatedFace]) -> tuple:
    """Return boxes, landmarks, ignored and occlusion of faces, as `Photo` takes them."""
    return tuple(map(list, zip(*faces))) if faces else (np.empty((0, 4)),)


def _find_root(folder: Path, names: List[str]) -> Path:
    """Return the folder that image names are relative to."""
    roots = (folder / "images", folder)
    for root in roots:
        if any((root / name).is_file() for name in names):
            return root
    return roots[0] if roots[0].is_dir() else folder


def _is_within(file: Path, folder: Path) -> bool:
    return Path(os.path.abspath(folder)) in Path(os.path.abspath(file)).parents


def _write_face(box: np.ndarray, landmarks: np.ndarray, ignored: bool, occlusion: str) -> str:
    starts = [str(side) for side in box[:2]]
    sides = [_write_side(start, end) for start, end in zip(starts, box[2:])]
    points = [f"{x!s} {y!s} 0" if np.isfinite([x, y]).all() else "-1 -1 -1" for x, y in landmarks]
    for word in occlusion.split():
        if not WORD.fullmatch(word) or word == IGNORE:
            raise ValueError(f"occlusion '{occlusion}': '{word}' must be letters, digits, - and _")
    return " ".join([*starts, *sides, *points, *([IGNORE] if ignored else []), *occlusion.split()])


def _write_side(start: str, end: np.float32) -> str:
    """Return the length from a written start to exactly `end`, in as few digits as do."""
    exact = float(end) - float(start)
    short = str(np.float32(exact))
    return short if np.float32(float(start) + float(short)) == end else repr(exact)
