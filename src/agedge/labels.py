"""Labels: gender 0 female, 1 male, -1 unknown; age an interval [age_min, age_max] in years, -1 unknown.

An exact age has `age_min == age_max`; an age group ("20-29") is kept as an interval. A layout names the numbers of a
record's label, for example "age,gender,-"; `label_check` checks whether the numbers of a file fit it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agedge.errors import UsageError, choices

FEMALE, MALE, UNKNOWN = 0, 1, -1
MAX_AGE = 120
LAYOUT = ("gender", "age_min", "age_max")
LAYOUTS = (",".join(LAYOUT), "gender,age", "age,gender")  # the common ones
SKIPPED = ("-", "race", "identity")  # numbers of a label that are not read
FIELDS = ("gender", "age", "age_min", "age_max", *SKIPPED)


def is_male(p_male: Any) -> Any:
    """Return whether a probability of being male means male: above 0.5. Takes and returns a number or an array."""
    return p_male > 0.5


@dataclass(frozen=True)
class Label:
    """The label of one face. Raises `ValueError` with the reason if the gender or the age is not valid."""

    gender: int = UNKNOWN
    age_min: float = UNKNOWN
    age_max: float = UNKNOWN

    def __post_init__(self):
        if self.gender not in (FEMALE, MALE, UNKNOWN):
            raise ValueError(f"gender {self.gender} is not 0, 1 or -1")
        if (self.age_min, self.age_max) == (UNKNOWN, UNKNOWN):
            return
        if not 0 <= self.age_min <= self.age_max <= MAX_AGE:
            ages = f"{self.age_min:g}" if self.age_min == self.age_max else f"{self.age_min:g} to {self.age_max:g}"
            raise ValueError(f"age {ages} is outside 0 to {MAX_AGE}")

    def as_array(self) -> np.ndarray:
        """Return (3,) float32: gender, age_min, age_max."""
        return np.array([self.gender, self.age_min, self.age_max], np.float32)


def exact(gender: int, age: float) -> Label:
    """Return the label of a face whose exact age in years is known."""
    return Label(gender, age, age)


def parse_layout(layout: object) -> str:
    """Return a layout in its normal spelling: names of `FIELDS` in lower case, separated by commas.

    A layout names a gender, an age, or both; the age is `age`, or `age_min` and `age_max`. Raises `UsageError` that
    lists the allowed names.
    """
    names = [name.strip().lower() for name in layout.split(",")] if isinstance(layout, str) else [""]
    named = sorted(name for name in names if name not in SKIPPED)
    ages = [name for name in named if name != "gender"]
    known = set(names) <= set(FIELDS) and len(set(named)) == len(named)
    if not (known and named and ages in ([], ["age"], ["age_max", "age_min"])):
        known = (*LAYOUTS, "age", "gender")
        error = choices("labels", layout, known)
        raise UsageError(f"{error}, or name every number of a label, with - for one that is not read (age,gender,-)")
    return ",".join(names)


def to_contract(columns: ArrayLike, layout: str = LAYOUTS[0]) -> np.ndarray:
    """Return labels of any layout as (n, 3) float32 [gender, age_min, age_max].

    `columns` is (n, k), one column for each name of the layout, or (n,) for a single name. What the layout does not
    name is unknown. All values that are not a gender or an age become -1: NaN, and the 9999 that older tools write for
    "unknown". Raises `UsageError` if the number of columns does not fit the layout.
    """
    values = np.asarray(columns, np.float32)
    names = parse_layout(layout).split(",")
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != len(names):
        width = values.shape[1] if values.ndim == 2 else 1
        raise UsageError(f"labels {layout}: the records have {width} numbers, not {len(names)}")
    named = dict(zip(names, values.T))
    unknown = np.full(len(values), UNKNOWN, np.float32)
    gender = named.get("gender", unknown)
    low = named.get("age_min", named.get("age", unknown))
    high = named.get("age_max", named.get("age", unknown))
    known_age = (low >= 0) & (low <= high) & (high <= MAX_AGE)
    return np.stack(
        [
            np.where(np.isin(gender, (FEMALE, MALE)), gender, UNKNOWN),
            np.where(known_age, low, UNKNOWN),
            np.where(known_age, high, UNKNOWN),
        ],
        axis=1,
    ).astype(np.float32)
