"""A contact sheet of drawn faces by age and gender, to look at."""

from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from agedge.errors import AgedgeError
from agedge.labels import FEMALE, MALE
from agedge.results.kinds import mark_image
from agedge.safe_write import write_bytes
from rec_tools.drawn.pen import SIZE
from rec_tools.drawn.person import make_person
from rec_tools.drawn.scene import draw_photo, set_scene

AGES = (0, 3, 8, 14, 20, 30, 40, 50, 60, 70, 80, 90)
LEFT, TOP, LINE = 60, 24, (235, 235, 235)
INK = (40, 40, 40)


def draw_sheet(ages: Sequence[float] = AGES, each: int = 2, seed: int = 0) -> np.ndarray:
    """BGR uint8: a column an age, `each` rows a gender, every row one person growing old."""
    genders = [("women", FEMALE)] * each + [("men", MALE)] * each
    sheet = np.full((TOP + len(genders) * SIZE, LEFT + len(ages) * SIZE, 3), LINE, np.uint8)
    for column, age in enumerate(ages):
        _write(sheet, f"{age:g} years" if column else f"{age:g}", (LEFT + column * SIZE + 8, TOP - 8))
    for row, (word, gender) in enumerate(genders):
        person = make_person(np.random.default_rng((seed, row)), gender)
        if row % each == 0:
            _write(sheet, word, (6, TOP + row * SIZE + SIZE // 2))
        for column, age in enumerate(ages):
            rng = np.random.default_rng((seed, row, column))
            y, x = TOP + row * SIZE, LEFT + column * SIZE
            sheet[y : y + SIZE, x : x + SIZE] = draw_photo(person, age, rng, set_scene(rng))
    return sheet


def write_sheet(path: Path, ages: Sequence[float] = AGES, each: int = 2, seed: int = 0) -> None:
    """Write `draw_sheet` as a PNG. Raises `AgedgeError` if it cannot be written."""
    path = Path(path)
    encoded, png = cv2.imencode(".png", draw_sheet(ages, each, seed))
    if not encoded:
        raise AgedgeError(f"{path}: the sheet could not be encoded")
    write_bytes(path, mark_image(png.tobytes()))


def _write(image: np.ndarray, text: str, at) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
