"""Pictures that lie on their side or stand on their head, and single turned faces, on a real photograph."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.errors import UsageError
from agedge.faces.detection import create_detector
from agedge.faces.detector import Faces
from agedge.faces.face_shape import find_faults
from agedge.faces.orientation import find_tilt, orient_faces, turn_back
from agedge.predict import Predictor
from agedge.runtime import load_model
from rec_tools.packing.landmarks import find_landmarks
from rec_tools.rows import Row
from tests.paths import ROOT


@pytest.fixture(scope="module")
def photograph():
    import matplotlib

    return cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))


@pytest.fixture(scope="module")
def model():
    return load_model(ROOT / "models" / "mobilenet025")


@pytest.fixture(scope="module", params=["mtcnn", "essh"])
def predictor(request, model):
    options = {"folder": ROOT / "ssh_model"} if request.param == "essh" else {}
    return Predictor(model, create_detector(request.param, **options))


def turn(image, turns):
    return np.ascontiguousarray(np.rot90(image, turns))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_image_gets_the_prediction_of_the_upright_one(predictor, photograph, turns):
    (expected,), (found,) = predictor.predict(photograph), predictor.predict(turn(photograph, turns))
    assert expected.status == found.status == "ok"
    assert (found.age, found.p_male, found.score) == (expected.age, expected.p_male, expected.score)
    upright = Faces(expected.box[None], [1], expected.landmarks[None])
    turned = Faces(found.box[None], [1], found.landmarks[None])
    back = turn_back(turned, turns, turn(photograph, turns).shape)
    np.testing.assert_allclose(back.boxes, upright.boxes, atol=1e-3)
    np.testing.assert_allclose(back.landmarks, upright.landmarks, atol=1e-3)


def test_points_go_back_to_where_their_pixels_were():
    image = np.zeros((20, 30, 3), np.uint8)
    image[5:9, 7:17] = 255
    for turns in range(4):
        ys, xs = np.nonzero(turn(image, turns)[..., 0])
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        corner = np.argwhere(turn(np.arange(600).reshape(20, 30), turns) == 5 * 30 + 7)[0][::-1]
        faces = turn_back(Faces([box], [1], [[corner] * 5]), turns, turn(image, turns).shape)
        assert faces.boxes.tolist() == [[7, 5, 17, 9]] and faces.landmarks[0, 0].tolist() == [7, 5]


def test_an_upright_image_is_searched_once(predictor, photograph, monkeypatch):
    calls, detect = [], predictor.detector.detect
    monkeypatch.setattr(predictor.detector, "detect", lambda image: calls.append(1) or detect(image))
    assert [person.status for person in predictor.predict(photograph)] == ["ok"]
    assert len(calls) == 1


@pytest.mark.parametrize("degrees", [-45, 45])
def test_a_head_tilted_by_45_degrees_is_answered(predictor, photograph, degrees):
    height, width = photograph.shape[:2]
    matrix = cv2.getRotationMatrix2D((256, 180), degrees, 1)
    tilted = cv2.warpAffine(photograph, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    assert "ok" in [person.status for person in predictor.predict(tilted)]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_face_beside_upright_ones_is_unreliable_or_not_found(predictor, photograph, turns):
    head = photograph[40:340, 100:400]
    both = np.concatenate([head, head, turn(head, turns)], axis=1)
    people = predictor.predict(both)
    upright = [person for person in people if person.box[0] < 600]
    assert len(upright) == 2 and all(person.status == "ok" for person in upright)
    for person in people:
        if person.box[0] >= 600:
            assert person.status == "unreliable" and "turned" in person.reason
            assert np.isnan([person.age, person.age_low, person.age_high, person.p_male]).all()
            assert person.gender is None and person.to_json()["age"] is None


def test_a_face_upside_down_is_recognised_as_turned(predictor, photograph):
    view, detector = turn(photograph, 2), predictor.detector
    x1, y1, x2, y2 = detector.detect(photograph).boxes[0]
    height, width = photograph.shape[:2]
    assert find_tilt(detector, view, np.array([width - x2, height - y2, width - x1, height - y1]), 0.9) > 150
    assert find_tilt(detector, photograph, np.array([x1, y1, x2, y2]), 0.9) == 0


def test_upright_detects_in_no_other_direction(model, photograph, predictor):
    alone = Predictor(model, predictor.detector, orientation="upright")
    assert alone.predict(turn(photograph, 1)) == [] or "essh" in type(predictor.detector).__name__.lower()
    assert alone.predict(photograph) == predictor.predict(photograph)
    with pytest.raises(UsageError, match="orientation.*auto, upright"):
        Predictor(model, predictor.detector, orientation="sideways")


def test_nothing_is_found_where_there_is_none(predictor):
    for shape in ((0, 0, 3), (1, 1, 3), (200, 300, 3)):
        assert predictor.predict(np.full(shape, 90, np.uint8)) == []


def test_several_images_in_one_call_get_their_own_predictions(predictor, photograph):
    pictures = [photograph, np.full((50, 60, 3), 90, np.uint8), turn(photograph, 2), photograph[:, ::-1]]
    together = predictor.predict_batch(pictures)
    assert [len(people) for people in together] == [1, 0, 1, 1]
    for people, picture in zip(together, pictures):
        for person, alone in zip(people, predictor.predict(picture)):
            np.testing.assert_allclose(
                [person.age, person.p_male, *person.box], [alone.age, alone.p_male, *alone.box], atol=1e-2
            )
    assert predictor.predict_batch([]) == []


class Directions:
    """A detector that answers with prepared faces, one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def detect(self, image):
        return self.answers.pop(0)


def faces_of(predictor, photograph, score=0.95) -> Faces:
    faces = predictor.detector.detect(photograph)
    return Faces(faces.boxes, [score], faces.landmarks)


def test_the_direction_with_most_good_faces_counts(predictor, photograph):
    good, none = faces_of(predictor, photograph), Faces.empty()
    bad = Faces(good.boxes, [0.99], np.full((1, 5, 2), np.nan))
    oriented = orient_faces(Directions(bad, good, none), photograph, bad)
    assert oriented.turns == 2 and oriented.faults == [""]
    oriented = orient_faces(Directions(none, none, faces_of(predictor, photograph, 0.6)), photograph, bad)
    assert oriented.turns == 0 and oriented.faults == ["its landmarks are not finite"]
    assert orient_faces(Directions(), photograph, good).turns == 0
    weak = faces_of(predictor, photograph, 0.5)
    assert orient_faces(Directions(none, none, good), photograph, weak).turns == 3
    assert orient_faces(Directions(none, none, none), photograph, weak).faults == [""]


@pytest.mark.parametrize("detector", ["mtcnn", "essh"])
def test_a_face_upside_down_is_not_packed(photograph, monkeypatch, detector):
    monkeypatch.chdir(ROOT)
    row = Row("a", Path("a.jpg"), None)
    upright, turned = find_landmarks([photograph, turn(photograph, 2)], [row] * 2, detector)
    assert upright.landmarks is not None and not find_faults(upright.landmarks[None], np.array([[0, 0, 600, 600]]))[0]
    assert turned.landmarks is None
