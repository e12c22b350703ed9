"""What a detector is worth: matches, recall, precision, average precision, landmarks, by size and occlusion."""

import numpy as np
import pytest

from agedge.evaluation.detection import IGNORED, WRONG, average_precision, match_faces, measure_detection
from agedge.faces.annotations import Photo
from agedge.faces.detector import Faces

POINTS = np.array([(10, 10), (30, 10), (20, 20), (12, 30), (28, 30)], np.float32)


def square(x, y, side=40):
    return [x, y, x + side, y + side]


def found(*boxes, scores=None, landmarks=None) -> Faces:
    scores = np.linspace(1, 0.5, len(boxes)) if scores is None else scores
    return Faces(boxes, scores, np.zeros((len(boxes), 5, 2)) if landmarks is None else landmarks)


def test_each_annotated_face_is_found_once():
    photo = Photo("a.jpg", [square(0, 0), square(100, 0)])
    faces = found(square(102, 0), square(1, 0), square(3, 0), square(0, 200))
    assert match_faces(faces, photo).tolist() == [1, 0, WRONG, WRONG]


def test_the_better_score_has_the_first_choice_whatever_the_order():
    photo = Photo("a.jpg", [square(0, 0)])
    faces = found(square(4, 0), square(0, 0), scores=[0.6, 0.9])
    assert match_faces(faces, photo).tolist() == [WRONG, 0]


def test_two_near_faces_each_get_their_own():
    photo = Photo("a.jpg", [square(0, 0), square(12, 0)])
    assert match_faces(found(square(1, 0), square(2, 0)), photo).tolist() == [0, 1]


def test_overlap_decides_at_the_threshold():
    photo = Photo("a.jpg", [[0, 0, 10, 10]])
    face = found([0, 0, 10, 4])  # four tenths of it
    assert match_faces(face, photo, 0.4).tolist() == [0] and match_faces(face, photo, 0.41).tolist() == [WRONG]


def test_ignored_faces_are_neither_found_nor_wrong():
    photo = Photo("a.jpg", [square(0, 0), square(100, 0)], ignored=[True, False])
    faces = found(square(1, 0), square(2, 0), square(100, 0), square(300, 0))
    assert match_faces(faces, photo).tolist() == [IGNORED, IGNORED, 1, WRONG]
    measured = measure_detection([(faces, photo)])
    assert (measured["faces"], measured["detected"], measured["recall"], measured["precision"]) == (1, 2, 1.0, 0.5)
    assert sum(row["n"] for row in measured["sizes"]) == 1


def test_figures_over_several_photographs():
    near = POINTS + (1, 0)
    results = [
        (
            found(square(0, 0), landmarks=near[None]),
            Photo("a.jpg", [square(0, 0), square(100, 0, 200)], [POINTS, POINTS]),
        ),
        (found(square(0, 0), square(500, 0)), Photo("b.jpg", [square(0, 0)], occlusion=["masked hand"])),
        (Faces.empty(), Photo("c.jpg", [])),
    ]
    measured = measure_detection(iter(results))
    assert (measured["photos"], measured["faces"], measured["detected"]) == (3, 3, 3)
    assert measured["recall"] == measured["precision"] == pytest.approx(2 / 3)
    assert measured["landmarks_error"] == pytest.approx(1 / 20) and measured["landmarks_faces"] == 1
    sizes = {row["band"]: (row["n"], row["recall"]) for row in measured["sizes"]}
    assert sizes == {
        "<16": (0, None),
        "16-32": (0, None),
        "32-64": (2, 1.0),
        "64-128": (0, None),
        "128-256": (1, 0.0),
        ">=256": (0, None),
    }
    assert measured["occlusion"] == [
        {"tag": "none", "n": 2, "recall": 0.5},
        {"tag": "hand", "n": 1, "recall": 1.0},
        {"tag": "masked", "n": 1, "recall": 1.0},
    ]


@pytest.mark.parametrize("side, band", [(15.9, "<16"), (16, "16-32"), (63, "32-64"), (64, "64-128"), (256, ">=256")])
def test_bounds_of_size_bands(side, band):
    measured = measure_detection([(Faces.empty(), Photo("a.jpg", [square(0, 0, side)]))])
    assert [row["band"] for row in measured["sizes"] if row["n"]] == [band]


def test_landmarks_are_measured_where_the_eyes_are_known():
    half = np.where(np.arange(5)[:, None] < 2, POINTS, np.nan)  # the eyes alone
    blind = np.where(np.arange(5)[:, None] > 0, POINTS, np.nan)
    photo = Photo("a.jpg", [square(0, 0), square(100, 0), square(200, 0)], [half, blind, np.tile(POINTS[:1], (5, 1))])
    faces = found(*photo.boxes, landmarks=np.stack([POINTS + (0, 2), POINTS, POINTS]))
    measured = measure_detection([(faces, photo)])
    assert measured["landmarks_error"] == pytest.approx(0.1) and measured["landmarks_faces"] == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("results", [[], [(Faces.empty(), Photo("a.jpg", []))]])
def test_nothing_measured_is_none_not_a_number(results):
    measured = measure_detection(results)
    names = ("recall", "precision", "average_precision", "landmarks_error")
    assert [measured[name] for name in names] == [None] * 4 and measured["occlusion"] == []


@pytest.mark.filterwarnings("error")
def test_faces_where_none_is():
    measured = measure_detection([(found(square(0, 0)), Photo("a.jpg", []))])
    assert measured["precision"] == 0 and measured["recall"] is None


def test_average_precision():
    assert average_precision([True, True], [0.9, 0.8], 2) == 1
    assert average_precision([True, False, True], [0.9, 0.8, 0.7], 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision([True, False, True], [0.7, 0.8, 0.9], 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision([False, True], [0.9, 0.8], 1) == pytest.approx(0.5)
    assert average_precision([False, True, True], [0.9, 0.8, 0.7], 4) == pytest.approx(0.5 * 2 / 3)  # its envelope
    assert average_precision([], [], 3) == 0 and average_precision([False], [1], 0) is None
