"""ESSH: detect faces and five landmarks by one anchor-based network on the whole image, in any runtime.

After SSH (Najibi et al., ICCV 2017). The network is the checkpoint in the detector's folder, of any backbone.
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
from agedge.faces.essh.views import (
    DETECTABLE,
    MIN_INPUT_SIDE,
    OVERVIEW,
    SMALLEST_IN_TILES,
    View,
    lay_tiles,
    make_batches,
)
from agedge.faces.per_process import PerProcessNetworks
from agedge.landmarks import LANDMARK_COUNT
from agedge.shipped import find_shipped

MAX_SIDE = 1280  # pixels: the default of `max_side`
SQUAT = 3 / 4  # aspect ratio; a squarer image is shrunk to as many pixels as one of this ratio and `max_side`
OVERLAP = 0.3  # intersection over union of two boxes above which the one with the lower score is removed
PART = 0.75  # share of a box inside of a larger face's box above which it is a feature of that face
log = logging.getLogger(__name__)


class ESSHDetector(PerProcessNetworks):
    """The detector of `--det 1`.

    Args:
        options: see `DetectorOptions`; `min_face` is 0 by default. `max_side` is 1280 by default; an image squarer than
            4:3 is shrunk to as many pixels as a 4:3 image then has, and memory grows with its square. If a face of
            `min_face` then has fewer than 16 pixels, the network also runs on overlapping tiles, as large as the
            shrunk image.
        folder: the folder of the checkpoint or the exported files.
        threshold: the lowest score of a face; by default the card's, and 0.5 without a card.
        pyramid: scales of the shrunk image at which the network runs, and at no other. Without it the network runs at
            scale 1; if a face could be over 220 pixels tall, once more at a sixth of the size (at least 160 pixels),
            which finds such faces; and again on small and doubtful faces (`agedge.faces.essh.second_pass`).

    The network is loaded at the first `detect`, and again in a forked process; MXNet with several CPU threads raises an
    error there. Threads wait for each other. Raises `UsageError` on an invalid option and `AgedgeError` if a file is
    missing; the first `detect` raises `AgedgeError` if a file is damaged or not an ESSH network.
    """

    name = "ESSH"
    sure_score = 0.998  # reached by 3 of 676 faces found in turned images, and by 393 of 1,061 in upright ones

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
        side = f"a number of pixels, from {MIN_INPUT_SIDE} on"
        _require(_is_number(self.max_side, MIN_INPUT_SIDE), "max_side", self.max_side, side)
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
        """Return the faces of a BGR uint8 image (h, w, 3), or of an array that `check_image` accepts; best first."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray], min_face: Optional[float] = None) -> List[Faces]:
        """Return `Faces` for each of several images of any sizes. `min_face`: replaces the detector's for this call."""
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
        if limit >= 1 or min_face * limit >= DETECTABLE:
            return [whole]
        if min_face:
            return [whole, *lay_tiles(whole, min(1, SMALLEST_IN_TILES / min_face))]
        if not self._warned_of_shrinking:
            self._warned_of_shrinking = True
            shown = f"an image of {width}x{height} pixels is shrunk to {whole.size[1]}x{whole.size[0]}"
            log.warning(
                "%s: faces of under %.0f pixels are hardly found; set min_face to find them", shown, DETECTABLE / limit
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
            # One plane at a time, into reserved memory: blobFromImage allocates memory and takes many times as long.
            for target, plane, mean in zip(planes, cv2.split(view.render(image))[::-1], network.mean):
                np.subtract(plane, mean, out=target, dtype=np.float32)
        return find_candidates(network.run(shape), self.threshold * (DOUBTFUL if self.pyramid is None else 1))

    def detect_middle(self, views: np.ndarray, side: float) -> List[Faces]:
        """Return `Faces`, of any score, for each of square images (n, s, s, 3), s a multiple of 32.

        `side`: approximate size, in pixels, of the face that may be in the middle of each; this detector ignores it.
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

    The best of overlapping candidates is kept, clipped to the image. Candidates that are too small, or features of a
    larger face with a high score, are removed.
    """
    kept = nms(boxes, scores, OVERLAP)
    boxes = boxes[kept].clip(0, np.tile(shape[1::-1], 2)).astype(np.float32)
    scores, landmarks = scores[kept], landmarks[kept].astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    valid = (sides.min(axis=1) > 0) & np.isfinite(landmarks).all(axis=(1, 2))
    valid &= ~is_part(boxes, scores) & (sides.max(axis=1) >= min_face)
    return Faces(boxes, scores, landmarks).take(valid)


def is_part(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (n,) bool: which of the boxes (n, 4) lie within a high-scoring face of over twice the area.

    A view has such boxes on the features of a face that is too large for it.
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
