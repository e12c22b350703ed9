"""The rows that a reader yields: one per face, or the reason why a row of the data set is dropped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Tuple, Union

from agedge.labels import Label

Point = Tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One face of a data set.

    `id`: unique within the data set. `image`: the path of the image file, or its bytes if the data set has no files.
    `identity`: the person; all faces of a person go to one split. `fold`: the data set's own split: "train", "val",
    "test", or the number of a fold. `race`: as given.

    The position of the face, if the data set has it, in pixels, x right and y down. `box`: x1, y1, x2, y2. `landmarks`:
    five (x, y), in the order of `agedge.landmarks.LANDMARK_NAMES`. `corners`: four (x, y) of a square that may be
    rotated: the top left, top right, bottom right and bottom left of the upright face.
    """

    id: str
    image: Union[Path, bytes]
    label: Label
    identity: Optional[str] = None
    fold: Optional[str] = None
    race: Optional[str] = None
    box: Optional[Tuple[float, float, float, float]] = None
    landmarks: Optional[Tuple[Point, ...]] = None
    corners: Optional[Tuple[Point, ...]] = None


@dataclass(frozen=True)
class Dropped:
    """A row that is not packed. `reason`: a short phrase, by which rows are counted; `detail`: more on this row."""

    id: str
    reason: str
    detail: str = ""


# A reader is a function (root: Path, **options) -> Rows. Its order depends on the data set alone.
Rows = Iterator[Union[Row, Dropped]]
