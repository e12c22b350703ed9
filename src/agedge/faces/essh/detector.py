"""ESSH: faces and five landmarks by one network that looks once at the whole image, run by MXNet.

After SSH (Najibi et al., ICCV 2017). The network is whatever checkpoint of that family lies in the detector's folder.
"""

import logging
import math
from dataclasses import replace
from typing import List, Optional, Sequence

import cv2
import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.faces.boxes import nms
from agedge.faces.detector import Faces, check_image, check_max_faces, check_min_score
from agedge.faces.essh.anchors import find_candidates
from agedge.faces.essh.card import find_checkpoint, read_card
from agedge.faces.essh.second_pass import DOUBTFUL, FAINT, SURE, look_again
from agedge.faces.essh.views import ENOUGH, LARGE, LOWEST, PLAIN, SEEN, TALL, TALLER, Look, lay_tiles, share_batches
from agedge.faces.per_process import OwnNetworks
from agedge.shipped import find_shipped

SQUAT = 3 / 4  # A squarer image is shrunk to as many pixels as one of this shape and of `max_side`.
OVERLAP = 0.3  # of two boxes, over which the lower score goes
PART = 0.75  # share of a box within a larger face's, over which it is a part of that
log = logging.getLogger(__name__)


class ESSH(OwnNetworks):
    """The detector of `--det 1`.

    `folder`: where the checkpoint lies. `threshold`: the lowest score of a face, by default the card's, and 0.5 without
    a card. `min_face`: faces whose longer side has fewer pixels are left out. `max_faces`: so many, the largest.
    `max_side`: a larger image is shrunk to that longer side, and one squarer than 4:3 to as many pixels as one of 4:3
    then has; memory grows with its square. Where that leaves fewer than 16 pixels of a face of `min_face`, the image is
    looked at in overlapping tiles too, as large as the shrunk image.
    `pyramid`: scales at which the image, so shrunk, is looked at, and nothing else. Without it: once as it is; where a
    face could be over 220 pixels tall, once more at a sixth of the size, but 160 pixels at least, which finds such
    faces; and small and doubtful faces are cut out and looked at again, large (`agedge.faces.essh.second_pass`).
    `min_score`: faces with lower scores are left out in the end.

    The network is loaded at the first `detect`, and anew in a forked process, which with several CPU threads refuses;
    threads take turns. Raises `UsageError` on an impossible option, `AgedgeError` where a file is missing, and at the
    first `detect` where one is damaged or no detector's.
    """

    sure_score = 0.998  # 3 of 676 faces found in turned pictures had it, 393 of 1,061 in upright ones

    def __init__(
        self,
        folder="ssh_model",
        threshold: Optional[float] = None,
        min_face: float = 0,
        max_faces: Optional[int] = None,
        max_side: int = 1280,
        pyramid: Optional[Sequence[float]] = None,
        min_score: float = 0,
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
        self.min_score, self._said_shrunk = check_min_score(min_score), False
        super().__init__()
        for file in find_checkpoint(card):
            if not file.is_file():
                raise AgedgeError(f"{file}: missing: the detector of --det 1 (in pack: --align essh) lies there")

    def open_networks(self):
        from agedge.faces.essh.network import open_net

        return open_net(read_card(self.folder))

    def detect(self, image: np.ndarray) -> Faces:
        """The faces of a BGR uint8 image (h, w, 3), or of what else `check_image` takes; best score first."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray], min_face: Optional[float] = None) -> List[Faces]:
        """`Faces` for each of several images, of any sizes. `min_face`: another smallest face for this call."""
        min_face = self.min_face if min_face is None else _check_min_face(min_face)
        images = [check_image(image) for image in images]
        seen = [[(np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))] for _ in images]
        looks = [look for owner, image in enumerate(images) for look in self._plan(owner, image.shape, min_face)]
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
            size = image.shape[:2]
            faces = look_again(self.load(), image, faces, Look.at_scale(0, size, min(1, self._limit(size))).scale)
        faces = faces.take((faces.scores > self.threshold) & (faces.scores >= self.min_score))
        return keep_largest(faces, self.max_faces)

    def _plan(self, owner: int, shape: tuple, min_face: float) -> List[Look]:
        """How an image of `shape` (h, w, 3) is looked at."""
        size = shape[:2]
        if not min(size):
            return []
        limit = self._limit(size)
        if self.pyramid is not None:
            return [Look.at_scale(owner, size, min(scale * min(1, limit), limit)) for scale in self.pyramid]
        look = Look.at_scale(owner, size, min(1, limit))
        has_room = min(look.size[0], TALLER * look.size[1]) > TALL
        whole = replace(look, largest=max(TALL, ENOUGH * LARGE / look.share)) if has_room else look
        if limit >= 1 or min_face * limit >= SEEN:
            return [whole]
        if min_face:
            return [whole, *lay_tiles(whole, min(1, PLAIN / min_face))]
        if not self._said_shrunk:
            self._said_shrunk = True
            shown = f"{size[1]}x{size[0]} pixels are looked at as {whole.size[1]}x{whole.size[0]}"
            log.warning("%s: faces of under %.0f are hardly found; min_face has them looked for", shown, SEEN / limit)
        return [whole]

    def _limit(self, size: tuple) -> float:
        """The scale at which an image of `size` (h, w) is as large as `max_side` allows."""
        return self.max_side / max(*size, math.sqrt(math.prod(size) / SQUAT))

    def _look(self, images: list, looks: list) -> list:
        """Candidates, as of `find_candidates`, for each of the images, that are padded alike."""
        net = self.load()
        shape = len(looks), 3, *looks[0].padded
        for planes, image, look in zip(net.reserve(shape), images, looks):
            # A plane at a time, to memory in use: blobFromImage takes new memory, and many times as long.
            for target, plane, mean in zip(planes, cv2.split(look.cut(image))[::-1], net.mean):
                np.subtract(plane, mean, out=target, dtype=np.float32)
        return find_candidates(net.run(shape), self.threshold * (DOUBTFUL if self.pyramid is None else 1))

    def detect_middle(self, views: np.ndarray, side: float) -> List[Faces]:
        """`Faces` of each of the views (n, s, s, 3), s a multiple of 32, in whose middle one of about `side` pixels may
        be, whatever its score."""
        with self.own().lock:
            net = self.load()
            planes = net.reserve((len(views), 3, *views.shape[1:3]))
            np.subtract(views[..., ::-1].transpose(0, 3, 1, 2), net.mean.reshape(3, 1, 1), out=planes)
            return [choose_faces(views.shape[1:], *found, 0) for found in find_candidates(net.run(planes.shape), FAINT)]


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
