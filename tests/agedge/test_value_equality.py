"""Records that hold arrays compare by value and can be pickled."""

import operator
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from agedge.crop import Crop
from agedge.evaluation import batches
from agedge.evaluation.evaluate import Predictions
from agedge.faces.annotations import Photo
from agedge.faces.detector import Faces
from agedge.predict import Person
from agedge.runtime.card import Card
from agedge.runtime.outputs import Prediction
from agedge.value_equality import same_values
from rec_tools.records.stored import StoredRecord

NAN = float("nan")


def make_records() -> dict:
    """Return a record of each kind, and the same record with one value changed."""
    person = Person(np.arange(4.0), 0.9, np.ones((5, 2)), 30.0, NAN, NAN, 0.7)
    faces = Faces(np.ones((2, 4)), np.ones(2), np.full((2, 5, 2), np.nan))
    crop = Crop.named("arcface", 112)
    batch = batches.EvaluationBatch(np.arange(2), np.ones((2, 3)), np.zeros((2, 4, 4, 3), np.uint8))
    prediction = Prediction(np.array([1.0, NAN]), np.array([0.2, 0.3]))
    predictions = Predictions(np.ones((2, 3)), np.ones(2), np.ones(2), {"a": [1]})
    stored = StoredRecord(3, np.ones(3, np.float32), b"jpeg", landmarks=np.ones((5, 2)))
    photo = Photo(Path("a.jpg"), np.ones((1, 4)))
    return {
        "Person": (person, replace(person, landmarks=np.zeros((5, 2)))),
        "Faces": (faces, faces.take([0])),
        "Crop": (crop, crop.resized(56)),
        "batch": (batch, batch._replace(index=np.array([0, 2]))),
        "Prediction": (prediction, replace(prediction, groups=np.ones((2, 3)))),
        "Predictions": (predictions, replace(predictions, bad={"a": [2]})),
        "StoredRecord": (stored, replace(stored, landmarks=None)),
        "Photo": (photo, replace(photo, ignored=np.array([True]))),
    }


@pytest.mark.parametrize("kind", make_records())
def test_records_compare_by_value_and_survive_pickling(kind):
    record, other = make_records()[kind]
    again = make_records()[kind][0]
    assert operator.eq(record, again) and not operator.ne(record, again)
    assert operator.ne(record, other) and not operator.eq(record, other)
    assert record != "a record" and record not in [other, None]
    assert pickle.loads(pickle.dumps(record)) == record
    with pytest.raises(TypeError, match="unhashable"):
        hash(record)


def test_records_that_differ_in_status_are_unequal():
    person = make_records()["Person"][0]
    assert person != replace(person, status="unreliable") and [field.name for field in fields(person)][-1] == "reason"


def test_a_card_compares_by_its_crop():
    def card(size):
        return Card("a", {}, {}, {}, crop=Crop.named("arcface", size))

    assert card(112) == card(112) and card(112) != card(64)


@pytest.mark.parametrize(
    "one, other, same",
    [
        (np.array([1, np.nan]), np.array([1, np.nan]), True),
        (np.array([1, 2]), np.array([1, 3]), False),
        (np.array([1, 2]), np.array([[1, 2]]), False),
        (np.array(["a"]), np.array(["a"]), True),
        (np.array([1]), None, False),
        (np.ones(1), 1.0, False),
        ([np.ones(2)], [np.ones(2)], True),
        ([np.ones(2)], [np.ones(2), np.ones(2)], False),
        ({"a": np.ones(2)}, {"a": np.ones(2)}, True),
        ({"a": np.ones(2)}, {"b": np.ones(2)}, False),
        (NAN, NAN, True),
        (1.0, 2.0, False),
    ],
)
def test_same_values(one, other, same):
    assert same_values(one, other) is same
