"""What a reader yields: a row a face, or the reason why a row of the data set is none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Tuple, Union

from agedge.labels import Label

Point = Tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One face of a data set.

    `id`: unique within the set, and the order of the output. `image`: path of the image file, or the bytes of one where
    the set keeps no files. `identity`: the person, who never stands on both sides of a split. `fold`: the part that the
    set itself puts the row in: "train", "val", "test", or the number of a fold. `race`: as given.

    Where in the image the face is, if the set says so, in pixels, x right and y down: `box` x1, y1, x2, y2;
    `landmarks`, five (x, y) in the order of the crop contract (left eye, right eye, nose, left and right mouth corner
    as seen in the image); `corners`, four (x, y) of its square, which may be rotated: those that belong at the top
    left, top right, bottom right and bottom left of the upright face.
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
    """A row that is not packed. `reason` is a short phrase that is counted; `detail` says it of this row."""

    id: str
    reason: str
    detail: str = ""


# A reader is a function (root: Path, **options) -> Rows, and yields in an order that depends on the set alone.
Rows = Iterator[Union[Row, Dropped]]
