"""The image pyramid of MTCNN's P-net: its levels, and how those of any images are packed onto canvases of one size.

P-net runs on canvases only, so one input shape serves every photograph. The levels are cut into strips that overlap by
what two cells share, and the strips, the highest first, fill shelf after shelf; one that does not fit is cut once more.
Where two pieces meet, P-net's input is a mixture, and those cells are not read.
"""

import math
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from agedge.faces.patches import cut_patches

CELL, STRIDE = 12, 2  # a cell of P-net is 12x12 pixels, at every second pixel
OVERLAP = CELL - STRIDE
FACTOR = 0.709  # from one level of the pyramid to the next: half the area
CANVAS = 128  # side; larger ones cost the same a cell, and more of them stays empty
SHORTEST = 32  # a piece is not cut shorter than that


class Piece(NamedTuple):
    """A part of a level, `height` x `width` pixels from (`top`, `left`), that lies at (`y`, `x`) of a canvas."""

    level: int
    top: int
    left: int
    height: int
    width: int
    y: int
    x: int


def shrink_levels(image: np.ndarray, min_face: float) -> List[Tuple[float, np.ndarray]]:
    """Return (scale, level) of the pyramid from the one where `min_face` pixels are a cell to the last that holds one.

    A level is (3, rows, columns) float32, shrunk by area from the image. Its sides are made even, the last pixel
    repeated, so that cells reach its border.
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
    spaces: List[List[int]] = []  # the rows that are left, of canvases that have some: [number, rows]
    number = y = 0
    x = CANVAS  # of the shelf that is being filled
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
