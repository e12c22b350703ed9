"""Options of a pack: how every face is found, cropped and encoded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional

from agedge.crop import Crop
from agedge.errors import UsageError
from agedge.sources import MAX_PIXELS

SMALLEST = 16
ALIGN = ("none", "set", "mtcnn", "essh")


@dataclass(frozen=True)
class Preparation:
    """How a face becomes a record. Raises `UsageError` for options that exclude each other."""

    size: int = 112  # side of the packed faces in pixels; 0 leaves images as they are
    align: str = "none"  # "none": the whole image; "set": the data set's landmarks or box; else the name of a detector
    crop: Optional[Crop] = None  # where the landmarks go in the packed face
    margin: float = 0.0  # how much more than the data set's box or square is shown, as a share of its side
    set_crop: Optional[Crop] = None  # where landmarks lie in the data set's own images, if these are aligned
    quality: int = 95  # of the JPEGs
    faces: str = "nearest"  # which of several faces: see `rec_tools.packing.landmarks.CHOICES`
    root: Optional[Path] = None  # no image outside of this folder is read
    max_pixels: float = MAX_PIXELS  # larger images are dropped before they are decoded
    fingerprints: bool = False  # compute perceptual hashes, to find copies
    min_score: Optional[float] = None  # option of the detector; None: its default
    max_side: Optional[int] = None  # likewise

    def __post_init__(self):
        if 0 < self.size < SMALLEST:
            raise UsageError(f"size {self.size}: must be at least {SMALLEST}, or 0, which leaves images as they are")
        if not self.size and self.align != "none":
            raise UsageError(f"size 0 leaves images as they are, but align {self.align} crops faces: give a size")

    @property
    def detector_options(self) -> Dict[str, float]:
        """Return the options of the detector that are set."""
        options = {"min_score": self.min_score, "max_side": self.max_side}
        return {name: value for name, value in options.items() if value is not None}
