"""Landmarks that are no face for a model, and those that are."""

import numpy as np
import pytest

from agedge.crop import TEMPLATES
from agedge.faces.face_shape import find_faults, fit_template

FACE = TEMPLATES["arcface"] * 100 + 20
BOX = np.array([20.0, 20, 120, 120])


def fault(landmarks, box=BOX) -> str:
    return find_faults(np.asarray(landmarks, float)[None], box[None])[0]


def turned(degrees: float) -> np.ndarray:
    """The face turned clockwise about the middle of its box."""
    turn = np.exp(1j * np.deg2rad(degrees))
    points = ((FACE - 70) @ (1, 1j) * turn)[:, None]
    return np.hstack([points.real, points.imag]) + 70


@pytest.mark.parametrize("degrees", [0, 30, -45, 45, 59, -59])
def test_a_tilted_head_is_a_face(degrees):
    assert fault(turned(degrees)) == ""
    np.testing.assert_allclose(fit_template(turned(degrees)[None]).tilt, degrees, atol=1e-9)


@pytest.mark.parametrize("degrees", [61, -61, 75, 90, -90, 135, 180, 270])
def test_a_face_turned_by_more_than_60_degrees_is_none(degrees):
    assert fault(turned(degrees)).startswith("it is turned by ")


def moved(index: int, x: float, y: float) -> np.ndarray:
    points = FACE.copy()
    points[index] += (x, y)
    return points


SHAPELESS = {
    "eyes crossed": FACE[[1, 0, 2, 3, 4]],
    "mouth crossed": FACE[[0, 1, 2, 4, 3]],
    "mirrored": FACE[[1, 0, 2, 4, 3]],
    "mouth above the eyes": FACE[[3, 4, 2, 0, 1]],
    "eyes in one place": np.vstack([FACE[:2].mean(axis=0, keepdims=True)] * 2 + [FACE[2:]]),
    "eyes at the mouth": np.vstack([FACE[3:], FACE[2:]]),
    "one eye at the mouth": np.vstack([FACE[:1], FACE[4:], FACE[2:]]),
    "left eye and left mouth corner swapped": FACE[[3, 1, 2, 0, 4]],
    "nose beside the face": moved(2, 45, 0),
    "nose above the eyes": moved(2, 0, -45),
    "nose under the chin": moved(2, 0, 45),
    "a line": np.linspace((40, 40), (90, 90), 5),
    "an upright line": np.linspace((70, 30), (70, 110), 5),
}


@pytest.mark.parametrize("landmarks", SHAPELESS.values(), ids=SHAPELESS)
def test_what_is_not_shaped_like_a_face_is_none(landmarks):
    assert "shape of a face" in fault(landmarks)


@pytest.mark.parametrize(
    "landmarks, reason",
    [
        (np.full((5, 2), np.nan), "not finite"),
        (np.where(FACE > 90, np.inf, FACE), "not finite"),
        (np.full((5, 2), 70.0), "at one point"),
        (70 + (FACE - 70) / 100, "at one point"),
        (70 + (FACE - 70) / 12, "at one point"),
        (FACE * 1e30, "in its box"),
        (FACE + 300, "in its box"),
        (70 + (FACE - 70) * 6, "in its box"),
    ],
)
def test_degenerate_landmarks_are_named(landmarks, reason):
    assert reason in fault(landmarks)


def test_a_profile_is_a_face():
    profile = FACE.copy()
    profile[[0, 1], 0] = 65, 80  # the eyes half as far apart, the nose beyond them
    profile[2, 0] = 90
    profile[[3, 4], 0] = 70, 85
    assert fault(profile) == ""


def test_nobody_is_no_fault():
    assert find_faults(np.empty((0, 5, 2)), np.empty((0, 4))) == []
