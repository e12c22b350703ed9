"""How ESSH looks at an image: as a whole, shrunk where it is large, and in tiles for small faces in a large one."""

import math
from dataclasses import dataclass
from typing import Iterator, List

import cv2
import numpy as np

LOWEST = 64  # pixels: the smallest side that the network is shown
# Faces of over TALL pixels are seen badly. An image that has room for one, faces being up to TALLER times as tall as
# wide, and in which anything over HINT of that is seen, is also looked at at SHARE of that size, at least LEAST pixels
# long, for faces from LARGE pixels on there. What is larger than TALL, and ENOUGH times those, is left to that look.
TALL, TALLER, HINT, SHARE, LEAST, LARGE, ENOUGH = 220, 1.3, 0.7, 0.175, 160, 45, 1.1
TOGETHER = 320 * 320  # Images of one padded shape share a batch of at most so many pixels.
# Pixels of a face's longer side: SEEN as they are shown, from which on a face is found, and PLAIN, which tiles show of
# the smallest face asked for.
SEEN, PLAIN = 16, 24


@dataclass(frozen=True)
class Look:
    """One look at an image: `owner`, its number; `full` and `size`, (height, width) of the image and of what is shown;
    `padded`, that of the canvas on whose upper left it is shown; `smallest` and `largest`, of longer sides of boxes
    there. Of a tile `full` is that of its part of the image, `corner` (x, y) where this begins, and `core`, x1, y1, x2,
    y2 in the image, where the middles of its boxes lie."""

    owner: int
    full: tuple
    size: tuple
    padded: tuple
    smallest: float = 0
    largest: float = math.inf
    corner: tuple = (0, 0)
    core: tuple = (-math.inf, -math.inf, math.inf, math.inf)

    @classmethod
    def at_scale(cls, owner: int, full: tuple, scale: float, smallest: float = 0) -> "Look":
        size = tuple(max(1, round(side * scale)) for side in full)
        return cls(owner, tuple(full), size, tuple(map(pad_side, size)), smallest)

    @property
    def scale(self) -> float:
        """Of what is shown to the image."""
        return self.size[0] / self.full[0]

    @property
    def share(self) -> float:
        """Of this look's size in that of its overview."""
        return max(SHARE, LEAST / max(self.size))

    def overview(self) -> "Look":
        return self.at_scale(self.owner, self.full, self.share * max(self.size) / max(self.full), smallest=LARGE)

    def hints_at_large(self, boxes: np.ndarray) -> bool:
        """Whether there may be a face too large for this look, of which it gave candidates (n, 4)."""
        return self.largest < math.inf and bool((boxes[:, 2:] - boxes[:, :2] > HINT * TALL).any())

    def cut(self, image: np.ndarray) -> np.ndarray:
        """What is shown of an image (h, w, 3), at the size of the canvas."""
        (x, y), (height, width), (rows, columns) = self.corner, self.full, self.size
        image = np.ascontiguousarray(image[y : y + height, x : x + width])
        if self.size != self.full:
            # An overview, for large faces only, is as good without averaging, and faster.
            averages = rows < image.shape[0] and not self.smallest
            image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if averages else cv2.INTER_LINEAR)
        if self.size != self.padded:
            # Black moved scores on 60 photographs by 0.0002 and added no face, a replicated border 0.0033 and three.
            sides = 0, self.padded[0] - rows, 0, self.padded[1] - columns
            image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=0)
        return image

    def to_image(self, boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray) -> tuple:
        """Candidates at inclusive corners in what is shown as candidates in the image, where a pixel is 1 wide."""
        scale = np.array([self.full[1] / self.size[1], self.full[0] / self.size[0]])
        boxes = boxes + (0, 0, 1, 1)
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        # Landmarks are at centres of pixels: that of the first is 0.
        landmarks = (landmarks + 0.5) * scale - 0.5 + self.corner
        boxes = boxes * np.tile(scale, 2) + np.tile(self.corner, 2)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        fit = (sides >= self.smallest) & (sides <= self.largest)
        fit &= ((middles >= self.core[:2]) & (middles < self.core[2:])).all(axis=1)
        return boxes[fit], scores[fit], landmarks[fit]


def lay_tiles(whole: Look, scale: float) -> List[Look]:
    """Tiles that show an image at `scale`, each at the size of the look at the `whole`, for the faces that this shows
    with less than twice SEEN pixels: so much, and a quarter, they overlap, up to half of a tile."""
    sides = [min(side, int(shown / scale)) for side, shown in zip(whole.full, whole.size)]
    overlap = 2.5 * SEEN / whole.scale
    rows, columns = (lay_spans(full, side, overlap) for full, side in zip(whole.full, sides))
    size = tuple(max(1, round(side * scale)) for side in sides)
    return [
        Look(
            whole.owner, tuple(sides), size, tuple(map(pad_side, size)), largest=0.8 * overlap * scale,
            corner=(x, y), core=(x1, y1, x2, y2),
        )
        for y, y1, y2 in rows
        for x, x1, x2 in columns
    ]  # fmt: skip


def lay_spans(full: int, side: int, overlap: float) -> List[tuple]:
    """(start, low, high) of spans of one length `side` that cover 0..full and overlap by `overlap` or half a span;
    low..high, to the middles of the overlaps, belongs to that span alone."""
    count = math.ceil((full - side) / (side - min(overlap, side / 2))) + 1
    starts = [round(number * (full - side) / max(1, count - 1)) for number in range(count)]
    borders = [(start + side + following) / 2 for start, following in zip(starts, starts[1:])]
    return list(zip(starts, [-math.inf, *borders], [*borders, math.inf]))


def pad_side(side: int) -> int:
    """The next step of a ladder from 64: by 32 up to 512, and then by eighths of the power of two below."""
    step = max(32, 2 ** ((side - 1).bit_length() - 1) // 8) if side > 1 else 32
    return max(LOWEST, -(-side // step) * step)


def share_batches(looks: List[Look]) -> Iterator[List[Look]]:
    """Looks in batches of one padded shape; large shapes first, in whose memory the others then work."""
    shapes = {look.padded for look in looks}
    for shape in sorted(shapes, key=lambda shape: (-shape[0] * shape[1], shape)):
        alike = [look for look in looks if look.padded == shape]
        while alike:
            count = min(len(alike), max(1, TOGETHER // (shape[0] * shape[1])))
            count = 2 ** (count.bit_length() - 1)  # few different batches
            yield alike[:count]
            alike = alike[count:]
