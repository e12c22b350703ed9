"""From a picture to ages and genders: find the faces, crop each as the model's card says, ask the model once."""

import logging
from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from agedge.crop import Crop
from agedge.errors import choices
from agedge.faces.align import align_faces
from agedge.faces.detection import create_detector
from agedge.faces.detector import Detector, Faces, check_image
from agedge.faces.orientation import ORIENTATIONS, OrientedFaces, orient_faces
from agedge.labels import is_male
from agedge.landmarks import LANDMARK_COLUMNS
from agedge.runtime.outputs import group_bounds
from agedge.value_equality import compare_by_value

COLUMNS = ("file", "face", "x1", "y1", "x2", "y2", "score", "age", "age_low", "age_high", "gender", "p_male")
COLUMNS += (*LANDMARK_COLUMNS, "status")
OK, UNRELIABLE = "ok", "unreliable"
log = logging.getLogger(__name__)


@compare_by_value
@dataclass(frozen=True)
class Person:
    """A face and what the model says of it.

    `box` (4,) x1, y1, x2, y2 and `landmarks` (5, 2) in pixels; `age` in years, `age_low` and `age_high` around it, NaN
    where the model was not calibrated; `p_male` the probability of being male. Age or `p_male` is NaN where the model
    does not say it. `status`: "ok", or "unreliable" of a face that the model was not asked about, `reason` says why:
    its numbers are NaN.
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
        if np.isnan(self.p_male):
            return None
        return "male" if is_male(self.p_male) else "female"

    def to_json(self) -> dict:
        """As a line of `test.py --json` has it; null where a number is not known."""
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

    def to_row(self, file: str, number: int) -> list:
        """As a row of `test.py --csv`, under `COLUMNS`; empty where a number is not known."""
        value = self.to_json()
        said = [value[name] for name in ("score", "age", "age_low", "age_high", "gender", "p_male")]
        return [file, number, *value["box"], *said, *sum(value["landmarks"], []), self.status]

    def describe(self) -> str:
        """Gender and age in a few signs, as far as they are known: "M 34 (28-41)"; "unreliable"."""
        if self.status != OK:
            return self.status
        words = [self.gender[0].upper()] if self.gender else []
        if np.isfinite(self.age):
            words.append(f"{self.age:.0f}")
        if np.isfinite([self.age_low, self.age_high]).all():
            words.append(f"({self.age_low:.0f}-{self.age_high:.0f})")
        return " ".join(words)


class Predictor:
    """One call from picture to answer.

    `model`: a loaded `Model`, or what `agedge.runtime.load_model` opens with `runtime`. `detector`: a `Detector`, or
    the number or name of one. `form`, `trust`: see `load_model`. `orientation`: "auto" looks at a picture turned by 90,
    180 and 270 degrees where few good faces are found in it, and asks again whether faces of which the detector is not
    sure are upright; "upright" does neither. Raises `AgedgeError` where model or detector cannot be loaded.
    """

    def __init__(
        self,
        model,
        detector: Union[Detector, int, str] = "mtcnn",
        runtime: str = "mxnet",
        form: str = "",
        orientation: str = "auto",
        trust: bool = False,
    ):
        if orientation not in ORIENTATIONS:
            raise choices("orientation", orientation, ORIENTATIONS)
        self.orientation = orientation
        self.detector = detector if hasattr(detector, "detect") else create_detector(detector)
        if not hasattr(model, "predict"):
            from agedge.runtime import load_model

            model = load_model(model, runtime, form=form, trust=trust)
        self.model = model
        self.crop = choose_crop(model.card)

    def predict(self, image: np.ndarray) -> List[Person]:
        """Everyone in a BGR uint8 image (h, w, 3), or in what else `check_image` takes; best score first, [] where no
        face is found."""
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[np.ndarray]) -> List[List[Person]]:
        """What `predict` gives, for each of several images, of any sizes. The model is asked once for all faces."""
        images = [check_image(image) for image in images]
        looks = [
            orient_faces(self.detector, image, faces, self.orientation)
            for image, faces in zip(images, self._detect(images))
        ]
        crops = [align_faces(look.image, look.faces.landmarks[look.good], self.crop) for look in looks]
        answers = self._ask(np.concatenate(crops)) if sum(map(len, crops)) else iter(())
        return [list(make_people(look, answers)) for look in looks]

    def _detect(self, images: Sequence[np.ndarray]) -> List[Faces]:
        if len(images) > 1 and hasattr(self.detector, "detect_batch"):
            return self.detector.detect_batch(images)
        return [self.detector.detect(image) for image in images]

    def _ask(self, crops: np.ndarray) -> Iterator[tuple]:
        """Age, its interval and P(male) of each of the crops (n, size, size, 3)."""
        answer = self.model.predict(crops)
        low, high = age_interval(answer, self.model.card)
        return zip(*(column.tolist() for column in (answer.age, low, high, answer.p_male)))


def make_people(look: OrientedFaces, answers: Iterator[tuple]) -> Iterator[Person]:
    """A `Person` for each face of a picture; the good ones take the next answers."""
    faces = look.faces_as_given()
    for box, score, landmarks, fault in zip(faces.boxes, faces.scores, faces.landmarks, look.faults):
        if fault:
            yield Person(box, float(score), landmarks, np.nan, np.nan, np.nan, np.nan, UNRELIABLE, fault)
        else:
            yield Person(box, float(score), landmarks, *next(answers))


def age_interval(answer, card) -> Tuple[np.ndarray, np.ndarray]:
    """(low, high) (n,) in years: as calibrated, else the likeliest age group where the network has groups, else NaN."""
    bounds = group_bounds(card.outputs)
    if card.interval or not bounds or answer.groups is None:
        return card.age_interval(answer.age)
    return tuple(np.array(bounds, np.float32)[answer.groups.argmax(axis=1)].T)


def choose_crop(card) -> Crop:
    """The card's crop at the size of the network's input; the usual template, with a warning, where it has none."""
    size = card.input["size"]
    if card.crop is None:
        log.warning("%s: its card has no crop: faces are cropped as for face recognition, ages may be off", card.name)
        return Crop.named("arcface", size)
    return card.crop.resized(size)


def to_json(file: str, shape: Tuple[int, int], status: str, people: List[Person]) -> dict:
    """A picture as a line of `test.py --json`; `shape` (h, w), (None, None) of a picture that could not be read."""
    faces = [person.to_json() for person in people]
    return {"file": file, "width": shape[1], "height": shape[0], "status": status, "faces": faces}


def _number(value: float, digits: int):
    return round(float(value), digits) if np.isfinite(value) else None
