"""ESSH: faces and five landmarks by one network with anchors that sees the whole image, in any runtime.

After SSH (Najibi et al., ICCV 2017). The network is whatever checkpoint of that family lies in the detector's folder.
"""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from agedge.errors import UsageError
from agedge.faces.boxes import nms
from agedge.faces.detector import DetectorOptions, Faces, check_image
from agedge.faces.essh.anchors import Candidates, find_candidates
from agedge.faces.essh.card import read_card
from agedge.faces.essh.network import ESSHNetwork, open_network, require_files
from agedge.faces.essh.second_pass import DOUBTFUL, FAINT, SURE, refine_faces
from agedge.faces.essh.views import LOWEST, OVERVIEW, PLAIN, SEEN, View, lay_tiles, make_batches
from agedge.faces.per_process import PerProcessNetworks
from agedge.landmarks import LANDMARK_COUNT
from agedge.shipped import find_shipped

MAX_SIDE = 1280  # pixels: the default of `max_side`
SQUAT = 3 / 4  # A squarer image is shrunk to as many pixels as one of this shape and of `max_side`.
OVERLAP = 0.3  # of two boxes, over which the lower score goes
PART = 0.75  # share of a box within a larger face's, over which it is a part of that
log = logging.getLogger(__name__)


class ESSHDetector(PerProcessNetworks):
    """The detector of `--det 1`.

    `options`: see `DetectorOptions`. `min_face`: by default 0. `max_side`: by default 1280; an image squarer than 4:3
    is shrunk to as many pixels as one of 4:3 then has; memory grows with its square. Where that leaves fewer than 16
    pixels of a face of `min_face`, the network also runs on overlapping tiles, as large as the shrunk image.
    `folder`: where the checkpoint or the exported files lie. `threshold`: the lowest score of a face, by default the
    card's, and 0.5 without a card. `pyramid`: scales of the shrunk image at which the network runs, and at no other.
    Without it: once at 1; where a face could be over 220 pixels tall, once more at a sixth of the size, but 160 pixels
    at least, which finds such faces; and again on small and doubtful faces (`agedge.faces.essh.second_pass`).

    The network is loaded at the first `detect`, and anew in a forked process, which MXNet refuses with several CPU
    threads; threads take turns. Raises `UsageError` on an impossible option, `AgedgeError` if a file is missing, and
    at the first `detect` where one is damaged or not an ESSH network.
    """

    name = "ESSH"
    sure_score = 0.998  # 3 of 676 faces found in turned images had it, 393 of 1,061 in upright ones

    def __init__(
        self,
        options: DetectorOptions = DetectorOptions(),
        folder: Union[str, Path] = "ssh_model",
        threshold: Optional[float] = None,
        pyramid: Optional[Sequence[float]] = None,
    ):
        super().__init__(options.runtime)
        self.folder = find_shipped(folder)
        card = read_card(self.folder)
        self.threshold = card.threshold if threshold is None else threshold
        _require(_is_number(self.threshold) and self.threshold < 1, "threshold", threshold, "a score between 0 and 1")
        self.max_side = MAX_SIDE if options.max_side is None else options.max_side
        side = f"a number of pixels, from {LOWEST} on"
        _require(_is_number(self.max_side, LOWEST), "max_side", self.max_side, side)
        self.pyramid = pyramid
        scales = pyramid is None or np.ndim(pyramid) == 1 and len(pyramid) > 0 and all(map(_is_number, pyramid))
        _require(scales, "pyramid", pyramid, "a list of scales above 0")
        self.min_face = _check_min_face(0 if options.min_face is None else options.min_face)
        self.max_faces, self.min_score = options.max_faces, options.min_score
        self._warned_of_shrinking = False
        require_files(card, self.runtime)

    def open_networks(self) -> ESSHNetwork:
        """Open the network of the folder."""
        return open_network(read_card(self.folder), self.runtime)

    def detect(self, image: np.ndarray) -> Faces:
        """Return the faces of a BGR uint8 image (h, w, 3), or of what else `check_image` takes; best score first."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray], min_face: Optional[float] = None) -> List[Faces]:
        """Return `Faces` for each of several images of any sizes. `min_face`: another smallest face for this call."""
        min_face = self.min_face if min_face is None else _check_min_face(min_face)
        images = [check_image(image) for image in images]
        nothing = Candidates(np.empty((0, 4)), np.empty(0), np.empty((0, LANDMARK_COUNT, 2)))
        found: List[List[Candidates]] = [[nothing] for _ in images]
        views = [view for owner, image in enumerate(images) for view in self._plan_views(owner, image.shape, min_face)]
        with self.in_this_process().lock:
            while views:
                overviews = []
                for batch in make_batches(views):
                    for view, candidates in zip(batch, self._run_views([images[view.owner] for view in batch], batch)):
                        found[view.owner].append(view.to_image(*candidates))
                        if view.suggests_large_face(candidates[0]):
                            overviews.append(view.overview())
                views = overviews
            return [self._decide(image, its, min_face) for image, its in zip(images, found)]

    def _decide(self, image: np.ndarray, candidates: List[Candidates], min_face: float) -> Faces:
        """Return the faces of an image from the candidates of its views."""
        boxes, scores, landmarks = map(np.concatenate, zip(*candidates))
        faces = choose_faces(image.shape, boxes, scores, landmarks, min_face)
        if self.pyramid is None and len(faces):
            height, width = image.shape[:2]
            whole = View.at_scale(0, (height, width), min(1, self._limit(height, width)))
            faces = refine_faces(self.load(), image, faces, whole.scale)
        faces = faces.take((faces.scores > self.threshold) & (faces.scores >= self.min_score))
        return keep_largest(faces, self.max_faces)

    def _plan_views(self, owner: int, shape: Tuple[int, ...], min_face: float) -> List[View]:
        """Return the first views of image number `owner` of `shape` (h, w, 3); overviews may follow."""
        height, width = size = shape[0], shape[1]
        if not min(size):
            return []
        limit = self._limit(height, width)
        if self.pyramid is not None:
            return [View.at_scale(owner, size, min(scale * min(1, limit), limit)) for scale in self.pyramid]
        whole = View.at_scale(owner, size, min(1, limit))
        if min(whole.size[0], OVERVIEW.aspect * whole.size[1]) > OVERVIEW.tall:
            smallest_of_overview = OVERVIEW.large / whole.overview_share
            whole = replace(whole, largest=max(OVERVIEW.tall, OVERVIEW.kept * smallest_of_overview))
        if limit >= 1 or min_face * limit >= SEEN:
            return [whole]
        if min_face:
            return [whole, *lay_tiles(whole, min(1, PLAIN / min_face))]
        if not self._warned_of_shrinking:
            self._warned_of_shrinking = True
            shown = f"an image of {width}x{height} pixels is shrunk to {whole.size[1]}x{whole.size[0]}"
            log.warning(
                "%s: faces of under %.0f pixels are hardly found; set min_face to find them", shown, SEEN / limit
            )
        return [whole]

    def _limit(self, height: int, width: int) -> float:
        """Return the scale at which an image of that size is as large as `max_side` allows."""
        return self.max_side / max(height, width, math.sqrt(height * width / SQUAT))

    def _run_views(self, images: List[np.ndarray], views: List[View]) -> List[Candidates]:
        """Return the candidates of views of one padded shape, each of its image."""
        network = self.load()
        shape = len(views), 3, *views[0].padded
        for planes, image, view in zip(network.reserve(shape), images, views):
            # A plane at a time, to memory in use: blobFromImage takes new memory, and many times as long.
            for target, plane, mean in zip(planes, cv2.split(view.render(image))[::-1], network.mean):
                np.subtract(plane, mean, out=target, dtype=np.float32)
        return find_candidates(network.run(shape), self.threshold * (DOUBTFUL if self.pyramid is None else 1))

    def detect_middle(self, views: np.ndarray, side: float) -> List[Faces]:
        """Return `Faces`, of any score, for each of square images (n, s, s, 3), s a multiple of 32.

        `side`: about the pixels of the face that may be in the middle of each; this detector does without it.
        """
        with self.in_this_process().lock:
            network = self.load()
            planes = network.reserve((len(views), 3, *views.shape[1:3]))
            np.subtract(views[..., ::-1].transpose(0, 3, 1, 2), network.mean.reshape(3, 1, 1), out=planes)
            found = find_candidates(network.run(planes.shape), FAINT)
            return [choose_faces(views.shape[1:], *candidates, min_face=0) for candidates in found]


def choose_faces(
    shape: Tuple[int, ...], boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray, min_face: float
) -> Faces:
    """Return the faces among the candidates of an image of `shape` (h, w, 3).

    Of those that overlap the best is taken, cut off at the image's border; without those that are too small or a part
    of a sure face.
    """
    kept = nms(boxes, scores, OVERLAP)
    boxes = boxes[kept].clip(0, np.tile(shape[1::-1], 2)).astype(np.float32)
    scores, landmarks = scores[kept], landmarks[kept].astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    valid = (sides.min(axis=1) > 0) & np.isfinite(landmarks).all(axis=(1, 2))
    valid &= ~is_part(boxes, scores) & (sides.max(axis=1) >= min_face)
    return Faces(boxes, scores, landmarks).take(valid)


def is_part(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (n,) bool: which of the boxes (n, 4) lie within a sure face of over twice the area.

    A view gives such boxes for features of a face that is too large for it.
    """
    areas, parts = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), np.zeros(len(boxes), bool)
    for sure in np.flatnonzero(scores > SURE):
        sides = np.minimum(boxes[:, 2:], boxes[sure, 2:]) - np.maximum(boxes[:, :2], boxes[sure, :2])
        parts |= (sides.clip(0).prod(axis=1) > PART * areas) & (areas[sure] > 2 * areas)
    return parts


def keep_largest(faces: Faces, max_faces: Optional[int]) -> Faces:
    """Return the `max_faces` largest faces, in order of their scores; all for None."""
    areas = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1)
    return faces.take(np.sort(np.argsort(-areas, kind="stable")[:max_faces]))


def _check_min_face(min_face: Any) -> float:
    is_size = min_face == 0 or _is_number(min_face) and min_face < math.inf
    _require(is_size, "min_face", min_face, "a number of pixels, from 0 on")
    return float(min_face)


def _is_number(value: Any, least: float = float(np.nextafter(0, 1))) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(value >= least)


def _require(fulfilled: Any, name: str, value: Any, kind: str) -> None:
    if not fulfilled:
        raise UsageError(f"{name} {value}: must be {kind}")
