"""ESSH: faces and five landmarks by one network that looks once at the whole image, run by MXNet.

After SSH (Najibi et al., ICCV 2017). The network is whatever checkpoint of that family lies in the detector's folder.
"""

import math
from dataclasses import dataclass, replace
from typing import Iterator, List, Optional, Sequence

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.faces.anchors import find_candidates
from agedge.faces.boxes import nms
from agedge.faces.detection import Faces, check_image, check_max_faces
from agedge.faces.essh_card import find_checkpoint, read_card
from agedge.faces.own_networks import OwnNetworks
from agedge.faces.second_look import DOUBTFUL, SURE, look_again
from agedge.shipped import find_shipped

SQUAT = 3 / 4  # A squarer image is shrunk to as many pixels as one of this shape and of `max_side`.
OVERLAP = 0.3  # of two boxes, over which the lower score goes
PART = 0.75  # share of a box within a larger face's, over which it is a part of that
LOWEST = 64  # pixels: the smallest side that the network is shown
# Faces of over TALL pixels are seen badly. An image that has room for one, faces being up to TALLER times as tall as
# wide, and in which anything over HINT of that is seen, is also looked at at SHARE of that size, at least LEAST pixels
# long, for faces from LARGE pixels on there. What is larger than TALL, and ENOUGH times those, is left to that look.
TALL, TALLER, HINT, SHARE, LEAST, LARGE, ENOUGH = 220, 1.3, 0.7, 0.175, 160, 45, 1.1
TOGETHER = 320 * 320  # Images of one padded shape share a batch of at most so many pixels.


class ESSH(OwnNetworks):
    """The detector of `--det 1`.

    `folder`: where the checkpoint lies. `threshold`: the lowest score of a face, by default the card's, and 0.5 without
    a card. `min_face`: faces whose longer side has fewer pixels are left out. `max_faces`: so many, the largest.
    `max_side`: a larger image is shrunk to that longer side, and one squarer than 4:3 to as many pixels as one of 4:3
    then has; memory grows with its square.
    `pyramid`: scales at which the image, so shrunk, is looked at, and nothing else. Without it: once as it is; where a
    face could be over 220 pixels tall, once more at a sixth of the size, but 160 pixels at least, which finds such
    faces; and small and doubtful faces are cut out and looked at again, large (`agedge.faces.second_look`).

    The network is loaded at the first `detect`, and anew in a forked process, which with several CPU threads refuses;
    threads take turns. Raises `UsageError` on an impossible option, `AgedgeError` where a file is missing, and at the
    first `detect` where one is damaged or no detector's.
    """

    def __init__(
        self,
        folder="ssh_model",
        threshold: Optional[float] = None,
        min_face: float = 0,
        max_faces: Optional[int] = None,
        max_side: int = 1280,
        pyramid: Optional[Sequence[float]] = None,
    ):
        folder = find_shipped(folder)
        card = read_card(folder)
        threshold = card.threshold if threshold is None else threshold
        _require(_is_number(threshold) and threshold < 1, "threshold", threshold, "a score between 0 and 1")
        _require(_is_number(max_side, LOWEST), "max_side", max_side, f"a number of pixels, from {LOWEST} on,")
        scales = np.ndim(pyramid) == 1 and len(pyramid) and all(map(_is_number, pyramid))
        _require(pyramid is None or scales, "pyramid", pyramid, "a list of scales above 0")
        self.folder, self.threshold, self.max_side, self.pyramid = folder, threshold, max_side, pyramid
        self.min_face, self.max_faces = _check_min_face(min_face), check_max_faces(max_faces)
        super().__init__()
        for file in find_checkpoint(card):
            if not file.is_file():
                raise AgedgeError(f"{file}: missing: the detector of --det 1 (in pack: --align essh) lies there")

    def open_networks(self):
        from agedge.faces.essh_net import open_net

        return open_net(read_card(self.folder))

    def detect(self, image: np.ndarray) -> Faces:
        """The faces of a BGR uint8 image (h, w, 3), or of what else `check_image` takes; best score first."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray], min_face: Optional[float] = None) -> List[Faces]:
        """`Faces` for each of several images, of any sizes. `min_face`: another smallest face for this call."""
        min_face = self.min_face if min_face is None else _check_min_face(min_face)
        images = [check_image(image) for image in images]
        seen = [[(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))] for _ in images]
        looks = [look for owner, image in enumerate(images) for look in self._plan(owner, image.shape)]
        with self.own().lock:
            while looks:
                overviews = []
                for batch in share_batches(looks):
                    for look, candidates in zip(batch, self._look([images[look.owner] for look in batch], batch)):
                        seen[look.owner].append(look.to_image(*candidates))
                        overviews += [look.overview()] if look.hints_at_large(candidates[0]) else []
                looks = overviews
            return [self._decide(image, its, min_face) for image, its in zip(images, seen)]

    def _decide(self, image: np.ndarray, candidates: list, min_face: float) -> Faces:
        """The faces of an image, of what its looks gave."""
        faces = choose_faces(image.shape, *map(np.concatenate, zip(*candidates)), min_face)
        if self.pyramid is None and len(faces):
            look = self._plan(0, image.shape)[0]
            faces = look_again(self.load(), image, faces, look.size[0] / look.full[0])
        return keep_largest(faces.take(faces.scores > self.threshold), self.max_faces)

    def _plan(self, owner: int, shape: tuple) -> List["Look"]:
        """How an image of `shape` (h, w, 3) is looked at."""
        size = shape[:2]
        if not min(size):
            return []
        limit = self.max_side / max(*size, math.sqrt(math.prod(size) / SQUAT))
        if self.pyramid is not None:
            return [Look.at_scale(owner, size, min(scale * min(1, limit), limit)) for scale in self.pyramid]
        look = Look.at_scale(owner, size, min(1, limit))
        has_room = min(look.size[0], TALLER * look.size[1]) > TALL
        return [replace(look, largest=max(TALL, ENOUGH * LARGE / look.share))] if has_room else [look]

    def _look(self, images: list, looks: list) -> list:
        """Candidates, as of `find_candidates`, for each of the images, that are padded alike."""
        net = self.load()
        shape = len(looks), 3, *looks[0].padded
        for planes, image, look in zip(net.reserve(shape), images, looks):
            # A plane at a time, to memory in use: blobFromImage takes new memory, and many times as long.
            for target, plane, mean in zip(planes, cv2.split(look.cut(image))[::-1], net.mean):
                np.subtract(plane, mean, out=target, dtype=np.float32)
        return find_candidates(net.run(shape), self.threshold * (DOUBTFUL if self.pyramid is None else 1))


@dataclass(frozen=True)
class Look:
    """One look at an image: `owner`, its number; `full` and `size`, (height, width) of the image and of what is shown;
    `padded`, that of the canvas on whose upper left it is shown; `smallest` and `largest`, of longer sides of boxes
    there."""

    owner: int
    full: tuple
    size: tuple
    padded: tuple
    smallest: float = 0
    largest: float = math.inf

    @classmethod
    def at_scale(cls, owner: int, full: tuple, scale: float, smallest: float = 0) -> "Look":
        size = tuple(max(1, round(side * scale)) for side in full)
        return cls(owner, tuple(full), size, tuple(map(pad_side, size)), smallest)

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
        image, (rows, columns) = np.ascontiguousarray(image), self.size
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
        fit = (sides >= self.smallest) & (sides <= self.largest)
        # Landmarks are at centres of pixels: that of the first is 0.
        return boxes[fit] * np.tile(scale, 2), scores[fit], (landmarks[fit] + 0.5) * scale - 0.5


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


def choose_faces(shape: tuple, boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray, min_face: float) -> Faces:
    """What is left of an image's candidates: of those that overlap the best, within the image, not too small, and no
    part of a sure face."""
    kept = nms(boxes, scores, OVERLAP)
    boxes = boxes[kept].clip(0, np.tile(shape[1::-1], 2)).astype(np.float32)
    scores, landmarks = scores[kept], landmarks[kept].astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    there = (sides.min(axis=1) > 0) & np.isfinite(landmarks).all(axis=(1, 2))
    there &= ~is_part(boxes, scores) & (sides.max(axis=1) >= min_face)
    return Faces(boxes, scores, landmarks).take(there)


def is_part(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(n,) bool: which of the boxes (n, 4) lie within a sure face of over twice the area: what a look takes for a face
    in one that is too large for it."""
    areas, parts = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), np.zeros(len(boxes), bool)
    for sure in np.flatnonzero(scores > SURE):
        sides = np.minimum(boxes[:, 2:], boxes[sure, 2:]) - np.maximum(boxes[:, :2], boxes[sure, :2])
        parts |= (sides.clip(0).prod(axis=1) > PART * areas) & (areas[sure] > 2 * areas)
    return parts


def keep_largest(faces: Faces, max_faces: Optional[int]) -> Faces:
    """At most `max_faces`, the largest, in order of their scores."""
    areas = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1)
    return faces.take(np.sort(np.argsort(-areas, kind="stable")[:max_faces]))


def _check_min_face(min_face) -> float:
    wanted = "a number of pixels, from 0 on,"
    _require(min_face == 0 or _is_number(min_face) and min_face < math.inf, "min_face", min_face, wanted)
    return float(min_face)


def _is_number(value, least: float = np.nextafter(0, 1)) -> bool:
    return isinstance(value, (int, float, np.number)) and value >= least


def _require(fulfilled, name: str, value, wanted: str) -> None:
    if not fulfilled:
        raise UsageError(f"{name} {value}: {wanted} is wanted")
