"""Build the image pyramid of MTCNN's P-net, and pack the levels of several images onto canvases of one size.

P-net runs on canvases only, so all photographs share one input shape. The levels are cut into strips that overlap by
the pixels that two neighbouring cells share. The strips, highest first, are placed on shelves; a strip that does not
fit is cut again. Cells that cover two pieces are ignored.
"""

import math
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from agedge.faces.patches import cut_patches

CELL, STRIDE = 12, 2  # pixels: an output cell of P-net sees 12x12 pixels, at every second position
OVERLAP = CELL - STRIDE
FACTOR = 0.709  # from one level of the pyramid to the next: half the area
CANVAS = 128  # side in pixels; on larger ones a cell costs the same, and more space stays empty
SHORTEST = 32  # pixels: minimum width of a piece that is cut off


class Piece(NamedTuple):
    """A region of a level, `height` x `width` pixels at (`top`, `left`), placed at (`y`, `x`) on a canvas."""

    level: int
    top: int
    left: int
    height: int
    width: int
    y: int
    x: int


def shrink_levels(image: np.ndarray, min_face: float) -> List[Tuple[float, np.ndarray]]:
    """Return (scale, level) for the levels of the pyramid.

    The first level shrinks `min_face` to the size of a cell; the last is the smallest that contains a cell. A level is
    (3, rows, columns) float32, area-averaged from the image. Its sides are padded to even numbers by repeating the last
    pixel, so that cells reach the border.
    """
    height, width = image.shape[:2]
    levels, scale = [], CELL / min_face
    while min(height, width) * scale >= CELL:
        rows, columns = (math.ceil(side * scale) for side in (height, width))
        level = np.empty((3, rows + rows % STRIDE, columns + columns % STRIDE), np.float32)
        cut_patches(image, np.array([[0, 0, width, height]]), level[None, :, :rows, :columns])
        level[:, :, columns:] = level[:, :, columns - 1 : columns]
        level[:, rows:] = level[:, rows - 1 : rows]
        levels.append((scale, level))
        scale *= FACTOR
    return levels


def pack(shapes: Sequence[Tuple[int, int]]) -> List[List[Piece]]:
    """Return the pieces of each canvas, for levels of these (height, width), all even."""
    strips = []
    for level, (height, width) in enumerate(shapes):
        strips += [
            (min(CANVAS, height - top), width, level, top) for top in range(0, height - OVERLAP, CANVAS - OVERLAP)
        ]
    canvases: List[List[Piece]] = []
    spaces: List[List[int]] = []  # [number of a canvas, free rows], of canvases with free rows
    number = y = 0
    x = CANVAS  # on the current shelf
    for height, width, level, top in sorted(strips, reverse=True):
        if height < CELL:
            continue
        left = 0
        while width - left >= CELL:
            if CANVAS - x < min(width - left, SHORTEST):
                space = next((space for space in spaces if space[1] >= height), None)
                if space is None:
                    space = [len(canvases), CANVAS]
                    canvases.append([])
                    spaces.append(space)
                number, y, x = space[0], CANVAS - space[1], 0
                space[1] -= height
                if space[1] < CELL:
                    spaces.remove(space)
            taken = min(width - left, CANVAS - x)
            canvases[number].append(Piece(level, top, left, height, taken, y, x))
            x += taken
            left += taken - OVERLAP
    return canvases
