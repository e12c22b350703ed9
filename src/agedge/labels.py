"""The label contract: gender 0 female, 1 male, -1 unknown; age an interval [age_min, age_max] in years, -1 unknown.

An exact age has `age_min == age_max`; a group ("20-29") stays the interval that it is. A layout says which number of a
record's label is what, such as "age,gender,-"; `label_check` says whether the numbers of a file fit it.
"""

from dataclasses import dataclass

import numpy as np

from agedge.errors import UsageError, choices

FEMALE, MALE, UNKNOWN = 0, 1, -1
MAX_AGE = 120
LAYOUT = ("gender", "age_min", "age_max")
LAYOUTS = (",".join(LAYOUT), "gender,age", "age,gender")  # the usual ones
SKIPPED = ("-", "race", "identity")  # numbers of a label that are not read
WORDS = ("gender", "age", "age_min", "age_max", *SKIPPED)


def is_male(p_male):
    """Return whether a probability of being male, a number or an array, means male: one of exactly 0.5 does not."""
    return p_male > 0.5


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


def parse_layout(layout: str) -> str:
    """Return a layout in its usual spelling: words of `WORDS` in small letters, separated by commas.

    It names a gender, an age, or both; the age is `age`, or `age_min` and `age_max`. Raises `UsageError` that says what
    can stand there.
    """
    names = [name.strip().lower() for name in layout.split(",")] if isinstance(layout, str) else [""]
    named = sorted(name for name in names if name not in SKIPPED)
    ages = [name for name in named if name != "gender"]
    known = set(names) <= set(WORDS) and len(set(named)) == len(named)
    if not (known and named and ages in ([], ["age"], ["age_max", "age_min"])):
        known = (*LAYOUTS, "age", "gender")
        error = choices("labels", layout, known)
        raise UsageError(f"{error}, or name each number of a label; - for one that is not read (age,gender,-)")
    return ",".join(names)


def to_contract(columns: np.ndarray, layout: str = LAYOUTS[0]) -> np.ndarray:
    """Return labels of any layout as (n, 3) float32 [gender, age_min, age_max].

    `columns` is (n, k), a column for each word of the layout; (n,) where it has one. What the layout does not name is
    unknown. Older tools write 9999 for "unknown"; whatever is not a gender or an age, NaN among it, becomes -1. Raises
    `UsageError` where the layout does not fit.
    """
    columns = np.asarray(columns, np.float32)
    names = parse_layout(layout).split(",")
    if columns.ndim == 1:
        columns = columns[:, None]
    if columns.ndim != 2 or columns.shape[1] != len(names):
        width = columns.shape[1] if columns.ndim == 2 else 1
        raise UsageError(f"labels {layout}: the records carry {width} numbers, not {len(names)}")
    named = dict(zip(names, columns.T))
    nothing = np.full(len(columns), UNKNOWN, np.float32)
    gender = named.get("gender", nothing)
    low = named.get("age_min", named.get("age", nothing))
    high = named.get("age_max", named.get("age", nothing))
    known_age = (low >= 0) & (low <= high) & (high <= MAX_AGE)
    return np.stack(
        [
            np.where(np.isin(gender, (FEMALE, MALE)), gender, UNKNOWN),
            np.where(known_age, low, UNKNOWN),
            np.where(known_age, high, UNKNOWN),
        ],
        axis=1,
    ).astype(np.float32)
