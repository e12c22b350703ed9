"""A model on a .rec: every record once, whatever runtime answers."""

from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np

from agedge.batches import evaluation_batches
from agedge.errors import AgedgeError
from agedge.faces.crop import Crop


@dataclass(frozen=True)
class Answers:
    """What a model said: `labels` (n, 3), `ages` (n,) years, `p_male` (n,), and the numbers of unreadable records."""

    labels: np.ndarray
    ages: np.ndarray
    p_male: np.ndarray
    bad: list


def ask(predict: Callable, path, size: int, *, labels: str = "auto", crop: Optional[Crop] = None) -> Answers:
    """`predict` of (n, size, size, 3) BGR uint8 -> something with `age` (n,) and `p_male` (n,), over a whole .rec.

    Raises `AgedgeError` where the file is damaged or has no readable record.
    """
    bad, parts = [], []
    for batch in evaluation_batches(path, size, labels=labels, crop=crop, bad=bad):
        said = predict(batch.images)
        parts.append((batch.labels, said.age, said.p_male))
    if not parts:
        raise AgedgeError(f"{path}: not one readable image in it")
    return Answers(*(np.concatenate(column) for column in zip(*parts)), bad)
