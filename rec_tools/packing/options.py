"""How faces become records: what the user chose, for every row alike."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agedge.crop import Crop
from agedge.errors import UsageError
from agedge.sources import MAX_PIXELS

SMALLEST = 16
ALIGN = ("none", "set", "mtcnn", "essh")


@dataclass(frozen=True)
class Preparation:
    """`size`: side of the packed faces in pixels; 0 leaves images as they are. `align`: "none" takes the whole image,
    "set" what the set says of the face's place, else the detector that finds landmarks; `crop` says where those go, and
    `margin` how much more than the set's box or square is shown. `set_crop`: where landmarks lie in the set's own
    images, if it aligned them. `faces`: which one of several. `root`: no image outside of it is read. `min_score`,
    `max_side`: options of the detector, None for its own. Raises `UsageError` where these do not go together.
    """

    size: int = 112
    align: str = "none"
    crop: Optional[Crop] = None
    margin: float = 0.0
    set_crop: Optional[Crop] = None
    quality: int = 95
    faces: str = "nearest"
    root: Optional[Path] = None
    max_pixels: float = MAX_PIXELS
    fingerprints: bool = False
    min_score: Optional[float] = None
    max_side: Optional[int] = None

    def __post_init__(self):
        if 0 < self.size < SMALLEST:
            raise UsageError(f"size {self.size}: a face has {SMALLEST} pixels at least; 0 leaves images as they are")
        if not self.size and self.align != "none":
            raise UsageError(f"size 0 leaves images as they are, align {self.align} cuts faces: give a size")

    @property
    def detector_options(self) -> dict:
        """The options of the detector that were chosen."""
        options = {"min_score": self.min_score, "max_side": self.max_side}
        return {name: value for name, value in options.items() if value is not None}
