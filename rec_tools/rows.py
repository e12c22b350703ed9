"""What a reader yields: a row a face, or the reason why a row of the data set is none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional, Union

from agedge.labels import Label


@dataclass(frozen=True)
class Row:
    """One face of a data set.

    `id`: unique within the set, and the order of the output. `image`: path of the image file. `identity`: the person,
    who never stands on both sides of a split. `fold`: the part that the set itself puts the row in. `race`: as given.
    """

    id: str
    image: Path
    label: Label
    identity: Optional[str] = None
    fold: Optional[str] = None
    race: Optional[str] = None


@dataclass(frozen=True)
class Dropped:
    """A row that is not packed. `reason` is a short phrase that is counted; `detail` says it of this row."""

    id: str
    reason: str
    detail: str = ""


# A reader is a function (root: Path, **options) -> Rows, and yields in an order that depends on the set alone.
Rows = Iterator[Union[Row, Dropped]]
