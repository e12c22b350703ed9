"""A model on .rec files: every record once, whatever runtime answers."""

from dataclasses import dataclass
from typing import Callable, Dict, List, Optional

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.evaluation.batches import evaluation_batches
from agedge.value_equality import compare_by_value


@compare_by_value
@dataclass(frozen=True)
class Answers:
    """What a model said: `labels` (n, 3), `ages` (n,) years and `p_male` (n,), NaN where it says none; of every file
    that it was asked, the numbers of the unreadable records; and `groups` (n, k), the probabilities of its age groups,
    None where it has none."""

    labels: np.ndarray
    ages: np.ndarray
    p_male: np.ndarray
    bad: Dict[str, List[int]]
    groups: Optional[np.ndarray] = None


def ask(predict: Callable, files, size: int, *, labels: str = "auto", crop: Optional[Crop] = None) -> Answers:
    """`predict` of (n, size, size, 3) BGR uint8 -> a `Prediction`, over a whole .rec or a list of them.

    Raises `AgedgeError` where a file is damaged, or no record is readable.
    """
    bad = {str(path): [] for path in (files if isinstance(files, (list, tuple)) else [files])}
    parts, groups = [], []
    for path, numbers in bad.items():
        for batch in evaluation_batches(path, size, labels=labels, crop=crop, bad=numbers):
            said = predict(batch.images)
            parts.append((batch.labels, said.age, said.p_male))
            groups.append(said.groups)
    if not parts:
        raise AgedgeError(f"{', '.join(bad)}: not one readable image in it")
    labels, ages, p_male = (np.concatenate(column) for column in zip(*parts))
    return Answers(labels, ages, p_male, bad, None if groups[0] is None else np.concatenate(groups))


def to_json(model: str, runtime: str, answers: Answers, measured: dict) -> dict:
    """What evaluate.py writes: the measures, and what was asked. Of several files, `data` is a list and `bad_records`
    says which file's they are."""
    data, bad = list(answers.bad), answers.bad
    if len(data) == 1:
        data, bad = data[0], bad[data[0]]
    return {"model": model, "runtime": runtime, "data": data, **measured, "bad_records": bad}
