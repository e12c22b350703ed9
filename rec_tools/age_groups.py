"""What data sets and people write for an age: years, or a group of years, which stays the interval that it is."""

import re
from typing import Collection, Optional, Tuple

from agedge.labels import MAX_AGE, UNKNOWN

UNKNOWN_WORDS = ("", "none", "nan", "unknown")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_YEARS = r"-?\d+(?:\.\d*)?"
_EXACT = re.compile(_YEARS)
_GROUP = re.compile(rf"[(\[]?\s*({_YEARS})\s*(?:-|–|,|to)\s*({_YEARS})\s*[)\]]?")
_OPEN_GROUP = re.compile(
    r"(?:more than|older than|over|above|>=?|≥)\s*(\d+)|(\d+)\s*(?:\+|(?:and|or) (?:over|older|above|more|up))"
)


def parse_age(text: str) -> Tuple[float, float]:
    """(age_min, age_max) in years of "34", "34.0", "20-29", "(25, 32)", "more than 70", "70+", "60 and over".

    Both ends belong to a group, as data sets mean it: "more than 70" follows "60-69" and starts at 70. "", "None" and
    -1 are unknown. Whether the years are an age is asked by `agedge.labels.Label`. Raises `ValueError`.
    """
    text = text.strip().lower()
    if text in UNKNOWN_WORDS:
        return UNKNOWN, UNKNOWN
    if _EXACT.fullmatch(text):
        return float(text), float(text)
    if group := _GROUP.fullmatch(text):
        return float(group[1]), float(group[2])
    if group := _OPEN_GROUP.fullmatch(text):
        return float(group[1] or group[2]), MAX_AGE
    raise ValueError(f"'{text}' is no age and no group of ages")


def mend_date(text: str, groups: Collection[Tuple[int, int]]) -> Optional[Tuple[int, int]]:
    """The group that a spreadsheet turned into a date: "9-Mar" or "2024-03-09" was "3-9", "19-Oct" was "10-19".

    None unless day and month, in whatever order, are the two ends of one of the set's own `groups`.
    """
    words = re.findall(r"[^\W\d_]+|\d+", text.strip().lower().partition(" 00:00")[0])
    ends = [word for word in words if len(word) < 4 or not word.isdigit()]  # without a year
    if len(ends) == len(words) and not any(map(str.isalpha, words)):
        return None  # neither a year nor the name of a month: no date
    days = tuple(sorted(int(end) if end.isdigit() else _month(end) for end in ends))
    return days if days in groups else None


def _month(name: str) -> int:
    """1 for "jan" or "january"; 0 where it is none."""
    return MONTHS.index(name[:3]) + 1 if name[:3] in MONTHS else 0
