"""Predict ages and genders from an image: find the faces, crop each by the model's card, run the model once."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from agedge.crop import Crop
from agedge.errors import choices
from agedge.faces.align import align_faces
from agedge.faces.detection import create_detector
from agedge.faces.detector import Detector, Faces, check_image
from agedge.faces.orientation import ORIENTATIONS, OrientedFaces, orient_faces
from agedge.labels import is_male
from agedge.landmarks import LANDMARK_COLUMNS
from agedge.runtime import Card, Model, Prediction, load_model
from agedge.runtime.outputs import group_bounds
from agedge.value_equality import compare_by_value

COLUMNS = ("file", "face", "x1", "y1", "x2", "y2", "score", "age", "age_low", "age_high", "gender", "p_male")
COLUMNS += (*LANDMARK_COLUMNS, "status")
OK, UNRELIABLE = "ok", "unreliable"
log = logging.getLogger(__name__)


@compare_by_value
@dataclass(frozen=True)
class Person:
    """A face and the model's predictions for it.

    Attributes:
        box: (4,) x1, y1, x2, y2 in pixels.
        score: the detector's score, 0 to 1.
        landmarks: (5, 2) in pixels.
        age: years; NaN where the model does not predict age.
        age_low, age_high: interval of the age; NaN where the model is not calibrated.
        p_male: probability of being male; NaN where the model does not predict gender.
        status: "ok"; "unreliable" for a face on which the model was not run, whose predictions are NaN.
        reason: why a face is unreliable, else "".
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray
    age: float
    age_low: float
    age_high: float
    p_male: float
    status: str = OK
    reason: str = ""

    @property
    def gender(self) -> Optional[str]:
        """Return "male", "female", or None where the model does not predict gender."""
        if np.isnan(self.p_male):
            return None
        return "male" if is_male(self.p_male) else "female"

    def to_json(self) -> Dict[str, Any]:
        """Return the face as an object of `test.py --json`; None for an unknown number."""
        return {
            "box": [_number(value, 2) for value in self.box],
            "score": _number(self.score, 4),
            "landmarks": [[_number(x, 2), _number(y, 2)] for x, y in self.landmarks],
            "age": _number(self.age, 2),
            "age_low": _number(self.age_low, 2),
            "age_high": _number(self.age_high, 2),
            "gender": self.gender,
            "p_male": _number(self.p_male, 4),
            "status": self.status,
            "reason": self.reason,
        }

    def to_row(self, file: str, number: int) -> List[Any]:
        """Return the face as a row of `test.py --csv`, with the columns `COLUMNS`; None for an unknown number."""
        value = self.to_json()
        predicted = [value[name] for name in ("score", "age", "age_low", "age_high", "gender", "p_male")]
        return [file, number, *value["box"], *predicted, *sum(value["landmarks"], []), self.status]

    def describe(self) -> str:
        """Return gender and age, as far as they are known, as a short text: "M 34 (28-41)"; "unreliable"."""
        if self.status != OK:
            return self.status
        known = [self.gender[0].upper()] if self.gender else []
        if np.isfinite(self.age):
            known.append(f"{self.age:.0f}")
        if np.isfinite([self.age_low, self.age_high]).all():
            known.append(f"({self.age_low:.0f}-{self.age_high:.0f})")
        return " ".join(known)


class Predictor:
    """Predict everyone's age and gender in an image by one call.

    `model`: a loaded `Model`, or the folder, run or "PREFIX,EPOCH" that `agedge.runtime.load_model` opens with
    `runtime`. `detector`: a `Detector`, or the number or name of one. `form`, `trust`: see `load_model`. `orientation`:
    "auto" turns an image by 90, 180 and 270 degrees where few good faces are found in it, and detects faces of a low
    score again to find out whether they are upright; "upright" does neither. Raises `AgedgeError` where model or
    detector cannot be loaded.
    """

    def __init__(
        self,
        model: Union[Model, str, Path],
        detector: Union[Detector, int, str] = "mtcnn",
        runtime: str = "mxnet",
        form: str = "",
        orientation: str = "auto",
        trust: bool = False,
    ):
        if orientation not in ORIENTATIONS:
            raise choices("orientation", orientation, ORIENTATIONS)
        self.orientation = orientation
        self.detector: Detector = create_detector(detector) if isinstance(detector, (int, str)) else detector
        self.model = load_model(model, runtime, form=form, trust=trust) if isinstance(model, (str, Path)) else model
        self.crop = choose_crop(self.model.card)

    def predict(self, image: np.ndarray) -> List[Person]:
        """Return the people in a BGR uint8 image (h, w, 3), best score first; [] where no face is found.

        See `check_image` for other images that it takes.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[np.ndarray]) -> List[List[Person]]:
        """Return the people in each of several images, of any sizes. The model runs once on all faces."""
        images = [check_image(image) for image in images]
        oriented = [
            orient_faces(self.detector, image, faces, self.orientation)
            for image, faces in zip(images, self._detect(images))
        ]
        crops = [align_faces(found.image, found.faces.landmarks[found.good], self.crop) for found in oriented]
        predictions = self._predict_faces(np.concatenate(crops)) if sum(map(len, crops)) else iter(())
        return [list(make_people(found, predictions)) for found in oriented]

    def _detect(self, images: Sequence[np.ndarray]) -> List[Faces]:
        detect_batch = getattr(self.detector, "detect_batch", None)  # not every detector has it
        if detect_batch and len(images) > 1:
            return detect_batch(images)
        return [self.detector.detect(image) for image in images]

    def _predict_faces(self, crops: np.ndarray) -> Iterator[Tuple[float, float, float, float]]:
        """Return age, the two ends of its interval and P(male) for each crop of (n, size, size, 3)."""
        prediction = self.model.predict(crops)
        low, high = age_interval(prediction, self.model.card)
        return zip(*(column.tolist() for column in (prediction.age, low, high, prediction.p_male)))


def make_people(oriented: OrientedFaces, predictions: Iterator[Tuple[float, float, float, float]]) -> Iterator[Person]:
    """Yield a `Person` for each face of an image; each good face takes the next of the `predictions`."""
    faces = oriented.faces_as_given()
    for box, score, landmarks, fault in zip(faces.boxes, faces.scores, faces.landmarks, oriented.faults):
        if fault:
            yield Person(box, float(score), landmarks, np.nan, np.nan, np.nan, np.nan, UNRELIABLE, fault)
        else:
            yield Person(box, float(score), landmarks, *next(predictions))


def age_interval(prediction: Prediction, card: Card) -> Tuple[np.ndarray, np.ndarray]:
    """Return (low, high) (n,) in years: the calibrated interval, else the likeliest age group, else NaN."""
    bounds = group_bounds(card.outputs)
    if card.interval or not bounds or prediction.groups is None:
        return card.age_interval(prediction.age)
    low, high = np.array(bounds, np.float32)[prediction.groups.argmax(axis=1)].T
    return low, high


def choose_crop(card: Card) -> Crop:
    """Return the card's crop at the network's input size; without one, the ArcFace template, and log a warning."""
    size = card.input["size"]
    if card.crop is None:
        log.warning("%s: its card has no crop: faces are cropped as for face recognition, ages may be off", card.name)
        return Crop.named("arcface", size)
    return card.crop.resized(size)


def to_json(file: str, shape: Tuple[Optional[int], Optional[int]], status: str, people: List[Person]) -> Dict[str, Any]:
    """Return an image as a line of `test.py --json`; `shape`: (h, w), (None, None) where it could not be read."""
    faces = [person.to_json() for person in people]
    return {"file": file, "width": shape[1], "height": shape[0], "status": status, "faces": faces}


def _number(value: float, digits: int) -> Optional[float]:
    return round(float(value), digits) if np.isfinite(value) else None
