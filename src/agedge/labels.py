"""The label contract: gender 0 female, 1 male, -1 unknown; age an interval [age_min, age_max] in years, -1 unknown.

An exact age has `age_min == age_max`; a group ("20-29") stays the interval that it is.
"""

from dataclasses import dataclass

import numpy as np

from agedge.errors import UsageError, choices

FEMALE, MALE, UNKNOWN = 0, 1, -1
MAX_AGE = 120
LAYOUT = ("gender", "age_min", "age_max")
LAYOUTS = (",".join(LAYOUT), "gender,age", "age,gender")


@dataclass(frozen=True)
class Label:
    """One face's label. Raises `ValueError`, with the reason, on a gender or an age that the contract does not know."""

    gender: int = UNKNOWN
    age_min: float = UNKNOWN
    age_max: float = UNKNOWN

    def __post_init__(self):
        if self.gender not in (FEMALE, MALE, UNKNOWN):
            raise ValueError(f"gender {self.gender} is none of 0, 1, -1")
        if (self.age_min, self.age_max) == (UNKNOWN, UNKNOWN):
            return
        if not 0 <= self.age_min <= self.age_max <= MAX_AGE:
            ages = f"{self.age_min:g}" if self.age_min == self.age_max else f"{self.age_min:g} to {self.age_max:g}"
            raise ValueError(f"age {ages} is outside 0 to {MAX_AGE}")

    def as_array(self) -> np.ndarray:
        """(3,) float32: gender, age_min, age_max."""
        return np.array([self.gender, self.age_min, self.age_max], np.float32)


def exact(gender: int, age: float) -> Label:
    """The label of a face whose age is known in years."""
    return Label(gender, age, age)


def to_contract(columns: np.ndarray, layout: str = LAYOUTS[0]) -> np.ndarray:
    """Labels of any known layout as (n, 3) float32 [gender, age_min, age_max].

    `columns` is (n, 2) for the two-number layouts of older tools and (n, 3) for ours. Older tools write 9999 for
    "unknown"; whatever is no gender and no age, NaN among it, becomes -1. Raises `UsageError` where the layout does not
    fit.
    """
    columns = np.asarray(columns, np.float32)
    if layout not in LAYOUTS:
        raise choices("labels", layout, LAYOUTS)
    names = layout.split(",")
    if columns.ndim != 2 or columns.shape[1] != len(names):
        width = columns.shape[1] if columns.ndim == 2 else 1
        raise UsageError(f"labels {layout}: the records carry {width} numbers, not {len(names)}")
    named = dict(zip(names, columns.T))
    low = named.get("age_min", named.get("age"))
    high = named.get("age_max", named.get("age"))
    known_age = (low >= 0) & (low <= high) & (high <= MAX_AGE)
    known_gender = np.isin(named["gender"], (FEMALE, MALE))
    return np.stack(
        [
            np.where(known_gender, named["gender"], UNKNOWN),
            np.where(known_age, low, UNKNOWN),
            np.where(known_age, high, UNKNOWN),
        ],
        axis=1,
    ).astype(np.float32)
