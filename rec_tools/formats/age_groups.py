"""Parse the ages of data sets: years, or groups of years, which become intervals."""

import re
from typing import Collection, Optional, Tuple

from agedge.labels import MAX_AGE, UNKNOWN

UNKNOWN_WORDS = ("", "none", "nan", "unknown", "null", "na", "n/a", "unk", "u", "?", "-", "9999", "9999.0")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"), "-")
_DASHES.update({0x301C: "~", 0xFF5E: "~", 0xA0: " "})  # wave dashes; a blank that does not break
_YEARS = r"-?(?:\d+(?:\.\d*|,\d+)?|\.\d+)"
_UNIT = r"(?:\s*-?\s*(?:years?|yrs?\.?|y\.?)(?:[\s-]*(?:old|of age|/?o\.?))?|\s*y/o)"
_ABOUT = re.compile(r"^(?:aged?:?|~|≈|≃|ca\.?|circa|about|around|approx\.?|approximately)\s*(?=\d)")
_EXACT = re.compile(_YEARS)
_PARTS = {"month": 12, "mo": 12, "mth": 12, "week": 365.25 / 7, "wk": 365.25 / 7, "day": 365.25}  # of a year
_YOUNG = re.compile(rf"({_YEARS})\s*-?\s*({'|'.join(_PARTS)})s?\.?(?:\s*-?\s*old)?")
_GROUP = re.compile(rf"[(\[]?\s*({_YEARS}){_UNIT}?\s*(?:-|~|_|\.{{2,3}}|…|to|until)\s*({_YEARS})\s*[)\]]?")
_BETWEEN = re.compile(rf"(?:between|from)\s*({_YEARS})\s*(?:and|to|-)\s*({_YEARS})")
_DOTTED = r"-?\d+(?:\.\d*)?"
_PAIR = re.compile(rf"[(\[]\s*({_DOTTED})\s*,\s*({_DOTTED})\s*[)\]]|({_DOTTED})\s*(?:,\s+|\s,)({_DOTTED})")
_DECADE = re.compile(r"([1-9]0)'?s")
_OPEN_GROUP = re.compile(
    rf"(?:more than|older than|at least|over|above|>=?|≥)\s*({_YEARS})"
    rf"|({_YEARS})\s*(?:\+|(?:and|or|&) (?:over|older|above|more|up)|plus)"
)
_FROM_BIRTH = re.compile(
    rf"(?:less than|younger than|at most|up to|under|below|<=?|≤)\s*({_YEARS})"
    rf"|({_YEARS})\s*(?:and|or|&) (?:under|younger|below|less)"
)


def parse_age(text: str) -> Tuple[float, float]:
    """Return (age_min, age_max) in years of an age or a group of ages.

    Understood are "34", "34.0", "34,5", "34 years", "~40", "6 months", "20-29" with any dash, "20 to 29", "20..29",
    "(25, 32)", "25, 32", "30s", "more than 70", "70+", "60 and over", "under 5", "<5". Both ends belong to a group, as
    data sets mean it: "more than 70" follows "60-69" and starts at 70. A comma without a blank is a decimal comma;
    "25,32", which is ambiguous, is refused. "", "None" and -1 are unknown. `agedge.labels.Label` checks the range of
    the years. Raises `ValueError`.
    """
    given = text.strip()
    text = re.sub(r"\s+", " ", given.translate(_DASHES).lower())
    if text in UNKNOWN_WORDS:
        return UNKNOWN, UNKNOWN
    if young := _YOUNG.fullmatch(_ABOUT.sub("", text, count=1)):
        years = _number(young[1]) / _PARTS[young[2]]
        return years, years
    text = _ABOUT.sub("", re.sub(rf"(?<=[\d+.]){_UNIT}\s*(?=$|[)\]]|and|or|\+)", "", text), count=1).strip()
    if _EXACT.fullmatch(text):
        return _number(text), _number(text)
    if group := _GROUP.fullmatch(text) or _BETWEEN.fullmatch(text):
        return _number(group[1]), _number(group[2])
    if group := _PAIR.fullmatch(text):
        return float(group[1] or group[3]), float(group[2] or group[4])
    if group := _DECADE.fullmatch(text):
        return float(group[1]), float(group[1]) + 9
    if group := _OPEN_GROUP.fullmatch(text):
        return _number(group[1] or group[2]), MAX_AGE
    if group := _FROM_BIRTH.fullmatch(text):
        return 0, _number(group[1] or group[2])
    raise ValueError(f"'{given}' is not an age or a group of ages")


def _number(text: str) -> float:
    """Return the number of a text with a decimal point or comma. Raises `ValueError` if it may be two numbers."""
    whole, comma, rest = text.partition(",")
    if comma and len(whole) == len(rest) == 2 and int(whole) < int(rest):
        raise ValueError(f"'{text}' may be {whole}.{rest} years or {whole} to {rest}: write it like that")
    return float(f"{whole}.{rest}") if comma else float(text)


def restore_group(text: str, groups: Collection[Tuple[int, int]]) -> Optional[Tuple[int, int]]:
    """Return the group that a spreadsheet turned into a date: "9-Mar" or "2024-03-09" was "3-9", "19-Oct" was "10-19".

    None unless day and month, in either order, are the two ends of one of the data set's `groups`.
    """
    words = re.findall(r"[^\W\d_]+|\d+", text.strip().lower().partition(" 00:00")[0])
    ends = [word for word in words if len(word) < 4 or not word.isdigit()]  # without a year
    if len(ends) == len(words) and not any(map(str.isalpha, words)):
        return None  # neither a year nor the name of a month: not a date
    days = sorted(int(end) if end.isdigit() else _month(end) for end in ends)
    return next((group for group in groups if list(group) == days), None)


def _month(name: str) -> int:
    """Return 1 for "jan" or "january"; 0 for other words."""
    return MONTHS.index(name[:3]) + 1 if name[:3] in MONTHS else 0
