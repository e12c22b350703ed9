"""Check that a written model is the network that was trained, by comparing their outputs for the same images."""

import shutil
from pathlib import Path
from typing import List, NoReturn

import cv2
import numpy as np

from agedge.errors import AgedgeError
from agedge.runtime.outputs import Prediction

EXAMPLES = 16  # faces of the validation data
DRAWN = 8  # drawn faces beside them: the validation data may be few or alike
# Rounding weights to halves moves the ages of drawn faces by 0.05 years, their probabilities by 0.0023 at most
# (models/mobilenet025, its weights moved by a thousandth, five times). Twenty times that means another network.
MOST_YEARS = 1.0
MOST_SHARE = 0.05


def draw_faces(count: int, size: int) -> np.ndarray:
    """Return (count, size, size, 3) BGR uint8: ovals with eyes and a mouth, each in other colours, always the same."""
    rng, faces = np.random.default_rng(0), []
    for _ in range(count):
        background, skin, dark = (tuple(map(int, rng.integers(*ends, 3))) for ends in ((0, 256), (90, 256), (0, 90)))
        face = np.full((112, 112, 3), background, np.uint8)
        cv2.ellipse(face, (56, 58), (38, 50), 0, 0, 360, skin, -1)
        for at in (40, 72):
            cv2.ellipse(face, (at, 48), (7, 4), 0, 0, 360, dark, -1)
        cv2.ellipse(face, (56, 84), (16, int(rng.integers(3, 9))), 0, 0, 180, dark, -1)
        faces.append(cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA))
    return np.stack(faces)


def compare_faces(trained: Prediction, written: Prediction) -> str:
    """Return which prediction of a written model differs from the trained network's for the same faces; "" for none."""
    outputs = [("age", MOST_YEARS), ("p_male", MOST_SHARE), ("groups", MOST_SHARE)]
    for name, most in outputs:
        before, after = getattr(trained, name), getattr(written, name)
        if before is not None and (reason := compare(name, before, after, most)):
            return reason
    return ""


def compare_maps(trained: List[np.ndarray], written: List[np.ndarray]) -> str:
    """Return which score map of a written detector differs from the trained network's; "" for none.

    Of every three outputs (scores, boxes, landmarks) the first is compared.
    """
    for number in range(0, len(trained), 3):
        if reason := compare(f"score map {number // 3}", trained[number], written[number], MOST_SHARE):
            return reason
    return ""


def compare(name: str, before: np.ndarray, after: np.ndarray, most: float) -> str:
    """Return how much an output differs if by more than `most`, else ""."""
    known = ~np.isnan(before)  # an output that the network does not have is NaN
    difference = np.abs(after[known].astype(np.float64) - before[known]).max(initial=0)
    # `not <=`: it may be NaN.
    return "" if difference <= most else f"{name} differs by {difference:.3g}, where {most:g} is allowed"


def refuse_model(model: Path, run: Path, reason: str) -> NoReturn:
    """Remove a model that differs from the trained network, and raise `AgedgeError`, which names the run."""
    shutil.rmtree(model, ignore_errors=True)
    raise AgedgeError(
        f"{run}: trained, but the written model is not the trained network: {reason} (weights beyond half precision?); "
        "best.ckpt holds the trained weights"
    )
