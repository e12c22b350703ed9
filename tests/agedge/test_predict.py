"""From picture to answer, with a model and a detector whose answers are known."""

import json
import logging

import cv2
import numpy as np
import pytest

from agedge.crop import Crop
from agedge.draw import draw_people, save_image
from agedge.errors import UsageError
from agedge.faces.detector import Faces
from agedge.predict import COLUMNS, Person, Predictor, to_json
from agedge.runtime.card import Card
from agedge.runtime.outputs import AGE_AND_GENDER, YEARS, Prediction

INTERVAL = {"level": 0.8, "age": [0, 100], "low": [-5, -5], "high": [10, 10]}


def make_card(**changes) -> Card:
    value = {
        "name": "tiny",
        "network": {},
        "input": {"name": "data", "size": 56, "channels": "RGB", "range": [0, 255]},
        "outputs": AGE_AND_GENDER,
        "crop": Crop.named("arcface", 112),
        "interval": INTERVAL,
    }
    return Card(**{**value, **changes})


class FakeModel:
    """Age is the crop's mean blue, P(male) its mean red over 255; remembers the batches that it saw."""

    def __init__(self, **changes):
        self.card, self.seen = make_card(**changes), []

    def predict(self, images):
        self.seen.append(images)
        return Prediction(images[..., 0].mean((1, 2)), images[..., 2].mean((1, 2)) / 255)


class FakeDetector:
    def __init__(self, faces):
        self.faces = faces

    def detect(self, image):
        return self.faces


def two_faces() -> tuple:
    image = np.zeros((300, 600, 3), np.uint8)
    image[:, :300], image[:, 300:] = (30, 0, 255), (70, 0, 0)
    points = Crop.named("arcface", 100).points
    landmarks = np.stack([points + (100, 100), points + (400, 100)])
    return image, Faces([[100, 100, 200, 200], [400, 100, 500, 200]], [0.99, 0.9], landmarks)


def test_all_faces_are_one_batch_cropped_as_the_card_says():
    image, faces = two_faces()
    model = FakeModel()
    people = Predictor(model, FakeDetector(faces)).predict(image)
    assert [batch.shape for batch in model.seen] == [(2, 56, 56, 3)]
    assert [person.age for person in people] == [30, 70]
    assert [person.gender for person in people] == ["male", "female"]
    assert [(person.age_low, person.age_high) for person in people] == [(25, 40), (65, 80)]


def test_no_face_asks_no_model():
    model = FakeModel()
    assert Predictor(model, FakeDetector(Faces.empty())).predict(np.zeros((9, 9, 3), np.uint8)) == []
    assert model.seen == []


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image[..., 0],
        lambda image: image[..., :1],
        lambda image: np.dstack([image, image[..., 0]]),
        lambda image: image.astype(np.uint16) * 257,
        lambda image: image[:, ::-1].copy()[:, ::-1],
    ],
    ids=["grey", "grey with a channel", "BGRA", "uint16", "negative strides"],
)
def test_other_kinds_of_images_are_taken(change):
    image, faces = two_faces()
    image[:] = image[..., :1]
    model = FakeModel()
    people = Predictor(model, FakeDetector(faces)).predict(change(image))
    assert [person.age for person in people] == [30, 70]
    assert model.seen[0].dtype == np.uint8 and model.seen[0].shape == (2, 56, 56, 3)


def test_what_is_no_image_is_refused():
    with pytest.raises(UsageError, match="float64"):
        Predictor(FakeModel(), FakeDetector(Faces.empty())).predict(np.zeros((9, 9, 3)))


def test_a_card_without_a_crop_warns_and_uses_the_usual_one(caplog):
    image, faces = two_faces()
    with caplog.at_level(logging.WARNING):
        predictor = Predictor(FakeModel(crop=None), FakeDetector(faces))
    assert "no crop" in caplog.text
    assert predictor.crop.same_as(Crop.named("arcface", 56), 1e-9)


def test_json_holds_what_the_contract_names():
    image, faces = two_faces()
    people = Predictor(FakeModel(interval={}), FakeDetector(faces)).predict(image)
    line = json.loads(json.dumps(to_json("a.jpg", image.shape[:2], "ok", people), allow_nan=False))
    assert list(line) == ["file", "width", "height", "status", "faces"]
    assert (line["width"], line["height"]) == (600, 300)
    face = line["faces"][0]
    numbers = ["box", "score", "landmarks", "age", "age_low", "age_high", "gender", "p_male"]
    assert list(face) == [*numbers, "status", "reason"] and (face["status"], face["reason"]) == ("ok", "")
    assert face["box"] == [100, 100, 200, 200] and np.shape(face["landmarks"]) == (5, 2)
    assert face["age_low"] is None and face["age_high"] is None
    row = people[1].to_row("a.jpg", 2)
    assert COLUMNS[-1] == "status" and row[-1] == "ok"
    assert len(row) == len(COLUMNS) and row[COLUMNS.index("age")] == 70 and row[COLUMNS.index("age_low")] is None


def test_a_person_in_few_signs():
    def person(low, high):
        return Person(np.zeros(4), 1.0, np.zeros((5, 2)), 34.4, low, high, 0.9)

    assert person(28.2, 40.8).describe() == "M 34 (28-41)"
    assert person(np.nan, np.nan).describe() == "M 34"
    nothing = Person(np.zeros(4), 1.0, np.zeros((5, 2)), np.nan, np.nan, np.nan, 0.2)
    assert nothing.describe() == "F" and nothing.to_json()["age"] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1e30])
def test_a_face_that_cannot_be_aligned_costs_itself_only(bad):
    image, faces = two_faces()
    faces.landmarks[0] = bad
    model = FakeModel()
    predictor = Predictor(model, FakeDetector(faces))
    for people in predictor.predict_batch([image, image]):
        assert [person.status for person in people] == ["unreliable", "ok"] and people[1].age == 70
        assert people[0].reason.startswith("its landmarks") and np.isnan(people[0].age) and people[0].gender is None
    assert [batch.shape[0] for batch in model.seen] == [2]
    line = json.loads(json.dumps(to_json("a.jpg", image.shape[:2], "ok", people), allow_nan=False))["faces"]
    assert (line[0]["status"], line[0]["age"], line[0]["gender"]) == ("unreliable", None, None)
    row = dict(zip(COLUMNS, people[0].to_row("a.jpg", 1)))
    assert row["status"] == "unreliable" and row["age"] is None and people[0].describe() == "unreliable"
    assert (draw_people(image, people) != image).any()


def test_no_model_is_asked_where_every_face_is_unreliable():
    image, faces = two_faces()
    faces.landmarks[:] = faces.landmarks[:, [3, 4, 2, 0, 1]]  # mouths above eyes
    model = FakeModel()
    people = Predictor(model, FakeDetector(faces)).predict(image)
    assert [person.status for person in people] == ["unreliable"] * 2 and model.seen == []


class SilentModel(FakeModel):
    """Says an age and its group, and no gender."""

    def predict(self, images):
        groups = np.tile(np.float32([[0.1, 0.7, 0.2]]), (len(images), 1))
        return Prediction(np.full(len(images), 12, np.float32), np.full(len(images), np.nan, np.float32), groups)


def test_a_model_without_a_gender_says_none_and_groups_stand_for_an_interval():
    image, faces = two_faces()
    groups = {"kind": "age_groups", "bounds": [[0, 5], [6, 18], [19, 120]]}
    outputs = {"age": YEARS, "age_group": groups}
    people = Predictor(SilentModel(outputs=outputs, interval={}), FakeDetector(faces)).predict(image)
    assert people[0].gender is None and people[0].describe() == "12 (6-18)"
    face = to_json("a.jpg", image.shape[:2], "ok", people)["faces"][0]
    assert face["gender"] is None and face["p_male"] is None and (face["age_low"], face["age_high"]) == (6, 18)
    assert people[0].to_row("a.jpg", 1)[COLUMNS.index("gender")] is None
    assert (draw_people(image, people) != image).any()
    calibrated = Predictor(SilentModel(outputs=outputs), FakeDetector(faces)).predict(image)
    assert (calibrated[0].age_low, calibrated[0].age_high) != (6, 18)


@pytest.mark.parametrize("height, width", [(40, 40), (90, 30), (300, 600), (2000, 3000)])
def test_marks_and_text_are_inside_and_do_not_change_the_original(height, width):
    image = np.full((height, width, 3), 128, np.uint8)
    box = np.array([0.0, 0, width, height * 0.8])
    landmarks = Crop.named("arcface", 1).points * (width, height)
    people = [Person(box, 0.9, landmarks, 34.0, 28.0, 41.0, p) for p in (0.9, 0.1)]
    picture = draw_people(image, people)
    assert (image == 128).all()
    zoom = picture.shape[0] / height
    assert picture.shape[1] / width == zoom and max(picture.shape[:2]) >= 480
    white = (picture == 255).all(axis=2)
    ground = (picture == (214, 120, 20)).all(axis=2)
    assert white.any() and ground.sum() > 500


def test_pictures_of_the_same_name_do_not_overwrite_each_other(tmp_path):
    taken, image = set(), np.zeros((20, 20, 3), np.uint8)
    names = [
        save_image(image, tmp_path / "out", file, taken).name
        for file in ("a/x.jpg", "b/x.jpg", "c/X.jpg", "x.png", "y.tiff", "clip.mp4#000002")
    ]
    assert names == ["x.jpg", "x-2.jpg", "X-3.jpg", "x.png", "y.tiff.jpg", "clip.mp4_000002.jpg"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert cv2.imread(str(tmp_path / "out" / "x-2.jpg")).shape == (20, 20, 3)


def test_a_source_is_never_overwritten(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="choose another folder"):
        save_image(np.zeros((20, 20, 3), np.uint8), tmp_path, str(tmp_path / "x.jpg"), set())
    assert (tmp_path / "x.jpg").read_bytes() == b"mine"
