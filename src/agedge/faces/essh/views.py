"""Plan the views of an image on which ESSH runs.

The first view is the whole image, shrunk if it is large. An overview, a smaller view, is for large faces; tiles are for
small faces in a large image.
"""

import math
from dataclasses import dataclass
from typing import Iterator, List, Tuple

import cv2
import numpy as np

from agedge.faces.essh.anchors import Candidates

MIN_INPUT_SIDE = 64  # pixels
BATCH_PIXELS = 320 * 320  # per batch of views of one padded shape
# The longer side of a face in a view, in pixels: the smallest that is found, and the scale of tiles, at which the
# smallest face to find has this size.
DETECTABLE, SMALLEST_IN_TILES = 16, 24

Size = Tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class OverviewRule:
    """When an image gets an overview: a second, smaller view for faces that are too tall to be found in the first.

    Attributes:
        tall: height in pixels, in a view, from which on a face is too tall for it.
        aspect: height of a face over its width, at most: an image gets an overview if a too tall face fits into it.
        hint: the share of `tall` from which on a candidate's box suggests a face that is too tall.
        share: size of the overview as a share of the first view's.
        least: minimum of the overview's longer side in pixels.
        large: longer side in pixels, in the overview, from which on faces are taken from it.
        kept: the first view keeps boxes of up to `tall`, or of up to `kept` times the smallest face of the overview.
    """

    tall: float = 220
    aspect: float = 1.3
    hint: float = 0.7
    share: float = 0.175
    least: float = 160
    large: float = 45
    kept: float = 1.1


OVERVIEW = OverviewRule()


@dataclass(frozen=True)
class View:
    """One view of an image.

    Attributes:
        owner: the number of the image.
        full: (height, width) of the image, or of a tile's region in the image.
        size: (height, width) to which it is resized.
        padded: (height, width) of the network's input: the resized view, padded at the right and the bottom.
        smallest, largest: range of the longer side of the boxes that are kept, in pixels of the resized view.
        corner: (x, y) of a tile's upper left corner in the image.
        core: x1, y1, x2, y2 in the image: boxes of a tile are kept if their centres lie in it.
    """

    owner: int
    full: Size
    size: Size
    padded: Size
    smallest: float = 0
    largest: float = math.inf
    corner: Tuple[int, int] = (0, 0)
    core: Tuple[float, float, float, float] = (-math.inf, -math.inf, math.inf, math.inf)

    @classmethod
    def at_scale(cls, owner: int, full: Size, scale: float, smallest: float = 0) -> "View":
        """Return the view of a whole image of size `full` at `scale`."""
        height, width = (max(1, round(side * scale)) for side in full)
        return cls(owner, (full[0], full[1]), (height, width), (pad_side(height), pad_side(width)), smallest)

    @property
    def scale(self) -> float:
        """The size of the resized view as a share of the image's."""
        return self.size[0] / self.full[0]

    @property
    def overview_share(self) -> float:
        """The size of this view's overview as a share of this view's."""
        return max(OVERVIEW.share, OVERVIEW.least / max(self.size))

    def overview(self) -> "View":
        """Return the overview of the same image."""
        scale = self.overview_share * max(self.size) / max(self.full)
        return self.at_scale(self.owner, self.full, scale, smallest=OVERVIEW.large)

    def suggests_large_face(self, boxes: np.ndarray) -> bool:
        """Return whether candidates (n, 4) of this view suggest a face that is too tall for it."""
        long = (boxes[:, 2:] - boxes[:, :2] > OVERVIEW.hint * OVERVIEW.tall).any()
        return self.largest < math.inf and bool(long)

    def render(self, image: np.ndarray) -> np.ndarray:
        """Crop, resize and pad an image (h, w, 3) to this view."""
        (x, y), (height, width), (rows, columns) = self.corner, self.full, self.size
        image = np.ascontiguousarray(image[y : y + height, x : x + width])
        if self.size != self.full:
            # Area averaging is slower and does not improve overviews, which are for large faces only.
            averages = rows < image.shape[0] and not self.smallest
            image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if averages else cv2.INTER_LINEAR)
        if self.size != self.padded:
            # Measured on 60 photographs: black padding changes scores by 0.0002 and adds no face; a replicated border
            # changes them by 0.0033 and adds three.
            sides = 0, self.padded[0] - rows, 0, self.padded[1] - columns
            image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        return image

    def to_image(self, boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray) -> Candidates:
        """Convert candidates from this view, with inclusive corners, to the image, with exclusive corners."""
        scale = np.array([self.full[1] / self.size[1], self.full[0] / self.size[0]])
        boxes = boxes + (0, 0, 1, 1)
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        # Landmarks are at pixel centres: the centre of the first pixel is 0.
        landmarks = (landmarks + 0.5) * scale - 0.5 + self.corner
        boxes = boxes * np.tile(scale, 2) + np.tile(self.corner, 2)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        fit = (sides >= self.smallest) & (sides <= self.largest)
        fit &= ((centres >= self.core[:2]) & (centres < self.core[2:])).all(axis=1)
        return Candidates(boxes[fit], scores[fit], landmarks[fit])


def lay_tiles(whole: View, scale: float) -> List[View]:
    """Return tiles that show an image at `scale`, each at the size of the view of the `whole`.

    Tiles are for faces of less than 2 * DETECTABLE pixels in the whole view. They overlap by 1.25 times that, at most
    by half a tile.
    """
    height, width = (min(side, int(shown / scale)) for side, shown in zip(whole.full, whole.size))
    overlap = 2.5 * DETECTABLE / whole.scale
    rows, columns = (lay_spans(full, side, overlap) for full, side in zip(whole.full, (height, width)))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return [
        View(
            whole.owner, (height, width), size, (pad_side(size[0]), pad_side(size[1])),
            largest=0.8 * overlap * scale, corner=(x, y), core=(x1, y1, x2, y2),
        )
        for y, y1, y2 in rows
        for x, x1, x2 in columns
    ]  # fmt: skip


def lay_spans(full: int, side: int, overlap: float) -> List[Tuple[int, float, float]]:
    """Return (start, low, high) of spans of length `side` that cover 0..full.

    They overlap by `overlap`, at most by half a span. low..high, up to the middles of the overlaps, is the core of a
    span: cores do not overlap.
    """
    count = math.ceil((full - side) / (side - min(overlap, side / 2))) + 1
    starts = [round(number * (full - side) / max(1, count - 1)) for number in range(count)]
    borders = [(start + side + following) / 2 for start, following in zip(starts, starts[1:])]
    return list(zip(starts, [-math.inf, *borders], [*borders, math.inf]))


def pad_side(side: int) -> int:
    """Round a side up: to multiples of 32, at least 64; above 512, to eighths of the power of two below it."""
    step = max(32, 2 ** ((side - 1).bit_length() - 1) // 8) if side > 1 else 32
    return max(MIN_INPUT_SIDE, -(-side // step) * step)


def make_batches(views: List[View]) -> Iterator[List[View]]:
    """Yield batches of views of one padded shape, large shapes first: smaller ones then reuse their memory."""
    shapes = {view.padded for view in views}
    for shape in sorted(shapes, key=lambda shape: (-shape[0] * shape[1], shape)):
        alike = [view for view in views if view.padded == shape]
        while alike:
            count = min(len(alike), max(1, BATCH_PIXELS // (shape[0] * shape[1])))
            count = 2 ** (count.bit_length() - 1)  # few different batch sizes
            yield alike[:count]
            alike = alike[count:]
