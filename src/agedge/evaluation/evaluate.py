"""Evaluate a model on .rec files: predict every record once, and compute the metrics."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.evaluation.batches import evaluation_batches, warn_of_bad_images
from agedge.evaluation.metrics import measure
from agedge.runtime.card import Card
from agedge.runtime.outputs import Prediction
from agedge.value_equality import compare_by_value

log = logging.getLogger(__name__)

Files = Union[str, Path, Sequence[Union[str, Path]]]
Predict = Callable[[np.ndarray], Prediction]  # of (n, size, size, 3) BGR uint8


@compare_by_value
@dataclass(frozen=True)
class Predictions:
    """The predictions for the n readable records of .rec files, in the order of the files.

    Attributes:
        labels: (n, 3) gender, age_min, age_max.
        ages: (n,) years, NaN where the model predicts none.
        p_male: (n,) the probability of being male, NaN where the model predicts none.
        bad: for each file the numbers of its unreadable records.
        groups: (n, k) the probabilities of the model's age groups; None if it has none.
    """

    labels: np.ndarray
    ages: np.ndarray
    p_male: np.ndarray
    bad: Dict[str, List[int]]
    groups: Optional[np.ndarray] = None


def predict_records(
    predict: Predict, files: Files, size: int, *, labels: str = "auto", crop: Optional[Crop] = None
) -> Predictions:
    """Return the predictions for every readable record of one .rec file or several.

    `size`: pixels of the input's side; `labels`: the layout of the files' labels; `crop`: the model's, to which faces
    that were cropped differently are moved. Raises `AgedgeError` if a file is damaged or no record is readable.
    """
    bad: Dict[str, List[int]] = {str(path): [] for path in ([files] if isinstance(files, (str, Path)) else files)}
    columns, groups = [], []
    for path, numbers in bad.items():
        for batch in evaluation_batches(path, size, labels=labels, crop=crop, bad=numbers):
            prediction = predict(batch.images)
            columns.append((batch.labels, prediction.age, prediction.p_male))
            groups.append(prediction.groups)
    if not columns:
        raise AgedgeError(f"{', '.join(bad)}: contains no readable image")
    all_labels, ages, p_male = (np.concatenate(column) for column in zip(*columns))
    return Predictions(all_labels, ages, p_male, bad, None if groups[0] is None else np.concatenate(groups))


def evaluate_model(
    predict: Predict, card: Card, files: Files, labels: str = "auto"
) -> Tuple[Predictions, Dict[str, Any]]:
    """Return a model's predictions for .rec files, and their metrics as `measure` returns them.

    `card`: the model's, for its input size and crop. Unreadable records are left out and named in a warning, and so is
    an unknown crop. Raises `AgedgeError` if a file is damaged or no record is readable.
    """
    if card.crop is None:
        log.warning("%s: the model's crop is unknown: the faces are used as they are", card.folder or card.name)
    predictions = predict_records(predict, files, card.input["size"], labels=labels, crop=card.crop)
    for path, numbers in predictions.bad.items():
        warn_of_bad_images(path, numbers)
    return predictions, measure(predictions.labels, predictions.ages, predictions.p_male)


def to_json(model: str, runtime: str, predictions: Predictions, metrics: Dict[str, Any]) -> Dict[str, Any]:
    """Return the JSON of evaluate.py and val.py: the metrics, and what they were measured on.

    Of several files, `data` is a list and `bad_records` a mapping from file to record numbers.
    """
    files: Any = list(predictions.bad)
    bad: Any = predictions.bad
    if len(files) == 1:
        files, bad = files[0], bad[files[0]]
    return {"model": model, "runtime": runtime, "data": files, **metrics, "bad_records": bad}
