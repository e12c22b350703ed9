"""The views in which ESSH sees an image: the whole, shrunk where it is large, an overview for large faces, and tiles
for small faces in a large image."""

import math
from dataclasses import dataclass
from typing import Iterator, List, Tuple

import cv2
import numpy as np

from agedge.faces.essh.anchors import Candidates

LOWEST = 64  # pixels: the smallest side of the network's input
BATCH_PIXELS = 320 * 320  # Views of one padded shape share a batch of at most so many pixels.
# Pixels of a face's longer side in a view: SEEN, from which on a face is found, and PLAIN, which tiles show of the
# smallest face to find.
SEEN, PLAIN = 16, 24

Size = Tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class OverviewRule:
    """When an image gets an overview, a second and smaller view, since faces too tall for the first are found badly.

    Attributes:
        tall: pixels of a view from which on a face is too tall for it.
        aspect: how many times as tall as wide a face may be: an image gets an overview where such a face has room.
        hint: the share of `tall` from which on a candidate's box suggests a face that is too tall.
        share: the size of the overview, in sizes of the first view.
        least: pixels of the overview's longer side, at least.
        large: pixels, in the overview, from which on faces are taken from it.
        kept: the first view keeps boxes of up to `tall`, or `kept` times the smallest that the overview gives.
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
        full: (height, width) of the image; of a tile, that of its part of the image.
        size: (height, width) at which it is shown.
        padded: (height, width) of the canvas on whose upper left it is shown.
        smallest, largest: pixels, as shown, of the longer side of the boxes that are kept.
        corner: (x, y) in the image where a tile begins.
        core: x1, y1, x2, y2 in the image, where the centres of a tile's boxes lie.
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
        """The size as shown, in sizes of the image."""
        return self.size[0] / self.full[0]

    @property
    def overview_share(self) -> float:
        """The size of this view's overview, in sizes of this view."""
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
        """Return this view of an image (h, w, 3), at the size of the canvas."""
        (x, y), (height, width), (rows, columns) = self.corner, self.full, self.size
        image = np.ascontiguousarray(image[y : y + height, x : x + width])
        if self.size != self.full:
            # An overview, for large faces only, is as good without averaging, and faster.
            averages = rows < image.shape[0] and not self.smallest
            image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if averages else cv2.INTER_LINEAR)
        if self.size != self.padded:
            # Black moved scores on 60 photographs by 0.0002 and added no face, a replicated border 0.0033 and three.
            sides = 0, self.padded[0] - rows, 0, self.padded[1] - columns
            image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        return image

    def to_image(self, boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray) -> Candidates:
        """Return candidates with inclusive corners in this view as candidates in the image, where a pixel is 1 wide."""
        scale = np.array([self.full[1] / self.size[1], self.full[0] / self.size[0]])
        boxes = boxes + (0, 0, 1, 1)
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        # Landmarks are at centres of pixels: that of the first is 0.
        landmarks = (landmarks + 0.5) * scale - 0.5 + self.corner
        boxes = boxes * np.tile(scale, 2) + np.tile(self.corner, 2)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        fit = (sides >= self.smallest) & (sides <= self.largest)
        fit &= ((centres >= self.core[:2]) & (centres < self.core[2:])).all(axis=1)
        return Candidates(boxes[fit], scores[fit], landmarks[fit])


def lay_tiles(whole: View, scale: float) -> List[View]:
    """Return tiles that show an image at `scale`, each at the size of the view of the `whole`.

    They are for the faces of less than twice SEEN pixels in the whole view, and overlap by that and a quarter, at most
    by half of a tile.
    """
    height, width = (min(side, int(shown / scale)) for side, shown in zip(whole.full, whole.size))
    overlap = 2.5 * SEEN / whole.scale
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
    """Return (start, low, high) of spans of one length `side` that cover 0..full and overlap by `overlap` or half a
    span; low..high, to the middles of the overlaps, belongs to that span alone."""
    count = math.ceil((full - side) / (side - min(overlap, side / 2))) + 1
    starts = [round(number * (full - side) / max(1, count - 1)) for number in range(count)]
    borders = [(start + side + following) / 2 for start, following in zip(starts, starts[1:])]
    return list(zip(starts, [-math.inf, *borders], [*borders, math.inf]))


def pad_side(side: int) -> int:
    """Return the next step of a ladder from 64: by 32 up to 512, and then by eighths of the power of two below."""
    step = max(32, 2 ** ((side - 1).bit_length() - 1) // 8) if side > 1 else 32
    return max(LOWEST, -(-side // step) * step)


def make_batches(views: List[View]) -> Iterator[List[View]]:
    """Yield views in batches of one padded shape; large shapes first, in whose memory the others then work."""
    shapes = {view.padded for view in views}
    for shape in sorted(shapes, key=lambda shape: (-shape[0] * shape[1], shape)):
        alike = [view for view in views if view.padded == shape]
        while alike:
            count = min(len(alike), max(1, BATCH_PIXELS // (shape[0] * shape[1])))
            count = 2 ** (count.bit_length() - 1)  # few different batches
            yield alike[:count]
            alike = alike[count:]
