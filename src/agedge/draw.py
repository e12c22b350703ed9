"""Draw annotated images: a box, five landmarks and a short text on every face."""

import os
import zlib
from pathlib import Path
from typing import List, Sequence, Set, Tuple, Union

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.predict import OK, Person
from agedge.results.kinds import is_marked, mark_image
from agedge.safe_write import write_bytes

# BGR; white text is legible on all. None: a model that does not predict gender.
COLOURS = {"male": (214, 120, 20), "female": (150, 40, 190), None: (90, 110, 60)}
UNRELIABLE = (0, 120, 230)  # a face without a prediction
WHITE = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX
SMALLEST = 480  # images with a shorter longer side are enlarged, so that a text is legible and fits
FARTHEST = 30000  # pixels: coordinates in OpenCV's drawing functions have 16 bits
SUFFIXES = (".jpg", ".jpeg", ".png")
LONGEST_NAME = 240  # bytes; file systems end at 255, and a number may follow


def draw_people(image: np.ndarray, people: List[Person]) -> np.ndarray:
    """Return a copy of a BGR uint8 image (h, w, 3) with every person marked; a small image is enlarged."""
    zoom = max(1, -(-SMALLEST // max(image.shape[:2])))
    canvas = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC) if zoom > 1 else image.copy()
    side = max(canvas.shape[:2])
    thick = max(2, round(side / 500))
    people = [person for person in people if np.isfinite(person.box).all()]
    for person in people:
        colour = choose_colour(person)
        (x1, y1), (x2, y2) = _to_pixels(person.box.reshape(2, 2) * zoom)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), WHITE, thick + 2)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thick)
        for point in _to_pixels(person.landmarks[np.isfinite(person.landmarks).all(axis=1)] * zoom):
            cv2.circle(canvas, point, thick + 1, WHITE, -1, cv2.LINE_AA)
            cv2.circle(canvas, point, thick, colour, -1, cv2.LINE_AA)
    taken = []
    for person in people:
        taken.append(_write(canvas, person.box * zoom, person.describe(), choose_colour(person), side, taken))
    return canvas


def choose_colour(person: Person) -> tuple:
    """Return the BGR colour of a person's marks."""
    return COLOURS[person.gender] if person.status == OK else UNRELIABLE


def _to_pixels(points: np.ndarray) -> list:
    """Return points (n, 2) as whole numbers within the range that OpenCV can draw."""
    return list(map(tuple, np.round(points).clip(-FARTHEST, FARTHEST).astype(int).tolist()))


def _write(canvas: np.ndarray, box: np.ndarray, text: str, colour: tuple, side: int, taken: Sequence) -> tuple:
    """Write a text on a coloured background beside a box, and return the background as x1, y1, x2, y2."""
    height, width = canvas.shape[:2]
    thick = max(1, round(side / 600))
    scale = cv2.getFontScaleFromHeight(FONT, max(12, round(side / 65)), thick)
    (text_width, text_height), under = cv2.getTextSize(text, FONT, scale, thick)
    if text_width + 8 > width:  # a very narrow image
        scale *= (width - 8) / text_width
        (text_width, text_height), under = cv2.getTextSize(text, FONT, scale, thick)
    pad = under // 2 + 2
    ground = (text_width + 2 * pad, text_height + under + 2 * pad)
    x1, y1 = _place(box, ground, (width, height), taken)
    cv2.rectangle(canvas, (x1, y1), (x1 + ground[0], y1 + ground[1]), colour, -1)
    cv2.putText(canvas, text, (x1 + pad, y1 + pad + text_height), FONT, scale, WHITE, thick, cv2.LINE_AA)
    return x1, y1, x1 + ground[0], y1 + ground[1]


def _place(box: np.ndarray, ground: Tuple[int, int], size: Tuple[int, int], taken: Sequence) -> Tuple[int, int]:
    """Return the corner (x, y) of a text's background: above its box, else below, else in its top.

    It lies within the image, and not on another text where there is room.
    """
    x = int(np.clip(box[0], 0, max(0, size[0] - ground[0] - 1)))
    lowest = max(0, size[1] - ground[1] - 1)
    places = [int(y) for y in (box[1] - ground[1], box[3], box[1]) if 0 <= y <= lowest]
    places.append(int(np.clip(box[1], 0, lowest)))

    def is_free(y: int) -> bool:
        return all(
            x >= right or x + ground[0] <= left or y >= bottom or y + ground[1] <= top
            for left, top, right, bottom in taken
        )

    return x, next((y for y in places if is_free(y)), places[0])


def save_image(image: np.ndarray, folder: Union[str, Path], file: str, taken: Set[str]) -> Path:
    """Write an annotated image under the name of its source `file`, whole or not at all, and return its path.

    Only an earlier annotated image is replaced: where another file has the name, or an image of this run (`taken`:
    their names, lower case), a number follows the name. A name too long for the file system is shortened. Raises
    `UsageError` where the source itself lies in `folder`, `AgedgeError` where the image is too large to be encoded,
    `OSError` that names the file where it cannot be written.
    """
    folder, source = Path(folder), Path(file)
    if folder.resolve() in (source.parent.resolve(), source.resolve().parent):
        raise UsageError(f"{folder}: {source.name} itself lies there; choose another folder for the annotated images")
    path = _find_name(folder, source.name.replace("#", "_"), taken)  # a frame of a video is named FILE#NUMBER
    taken.add(path.name.lower())
    try:
        encoded, content = cv2.imencode(path.suffix, image)
    except cv2.error:
        encoded = False
    if not encoded:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise AgedgeError(f"{path}: {size} pixels cannot be written as {path.suffix}")
    write_bytes(path, mark_image(content.tobytes()))
    return path


def _find_name(folder: Path, name: str, taken: Set[str]) -> Path:
    """Return a path for the annotated image of `name` that no other file has."""
    has_suffix = Path(name).suffix.lower() in SUFFIXES
    stem, suffix = (Path(name).stem, Path(name).suffix) if has_suffix else (name, ".jpg")
    content = os.fsencode(stem)
    if len(content) + len(suffix) > LONGEST_NAME:
        cut = content[: LONGEST_NAME - len(suffix) - 9].decode("utf-8", "ignore")
        stem = f"{cut}-{zlib.crc32(content):08x}"
    number = 1
    while True:
        path = folder / (f"{stem}-{number}{suffix}" if number > 1 else f"{stem}{suffix}")
        if path.name.lower() not in taken and not path.is_symlink() and (not path.exists() or is_marked(path)):
            return path
        number += 1


def show_image(image: np.ndarray) -> bool:
    """Show an image in a window; return False where the user ends the program (q or Escape).

    Raises `UsageError` where this OpenCV has no windows.
    """
    try:
        cv2.imshow("agedge", image)
    except cv2.error:
        raise UsageError("--show: this OpenCV has no windows (opencv-python-headless); use --save") from None
    return cv2.waitKey(1) not in (ord("q"), 27)
