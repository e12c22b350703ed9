"""Whether the numbers of labels fit the layout that they are read by: the one check of all readers.

A single bad label is counted and becomes unknown. Many are another coding or another layout (genders 1 and 2, ages in
months or as shares, columns in another order), which must not become "unknown", or a wrong label, silently.
"""

import logging
from functools import lru_cache
from typing import List

import numpy as np

from agedge.errors import AgedgeError
from agedge.labels import FEMALE, LAYOUT, LAYOUTS, MALE, MAX_AGE, SKIPPED, UNKNOWN

log = logging.getLogger(__name__)

UNKNOWN_CODES = (UNKNOWN, 9999)  # ours, and that of older tools
# Faulty labels are single ones up to this share. A choice, not measured: a wrong layout or coding spoils far more.
MOST_FAULTY = 0.05
FEW = 3  # labels from which a distribution tells anything (ages that are all shares, genders without a 0)
ENOUGH = 5  # labels from which they outweigh what the file says of its layout
ALIKE = 8  # labels from which ages that are all 0 or 1 are taken for genders
MONTH = 0.006  # years: how far an age of two decimals lies off a whole month
WIDEST = (3, 20)  # a group of ages ends below 3 times its begin plus 20 years: "0-17", "18-35", "60-120" do
GENDER_ADVICE = "write genders as 0 female, 1 male, -1 unknown"
AGE_ADVICE = f"write ages in years, 0 to {MAX_AGE}"


def find_label_faults(raw: np.ndarray, contract: np.ndarray, layout: str) -> List[str]:
    """Return what is wrong with each of `raw` labels (n, k), whose labels by the contract are (n, 3); "" for nothing.

    Codes for "unknown" are not wrong.
    """
    columns = dict(zip(layout.split(","), np.asarray(raw).T))
    faults = np.full(len(raw), "", object)
    ages = [np.isin(values, UNKNOWN_CODES) for name, values in columns.items() if name.startswith("age")]
    if ages:
        faults[(contract[:, 1] == UNKNOWN) & ~np.all(ages, axis=0)] = "age outside 0 to 120"
    if "gender" in columns:
        strange = (contract[:, 0] == UNKNOWN) & ~np.isin(columns["gender"], UNKNOWN_CODES)
        faults[strange] = "gender outside the contract"
    return faults.tolist()


def find_misfit(raw: np.ndarray, layout: str, declared: bool = False, least: int = 2) -> str:
    """Return why labels (n, k) as a whole do not fit a layout, with counts, an example and advice; "" where they do.

    `declared`: the file itself says its layout, so that -1 is "unknown", and ages of 0 to 1 are those of infants.
    `least`: how many known values it takes.
    """
    raw = np.asarray(raw, np.float64)
    columns = {name: values for name, values in zip(layout.split(","), raw.T) if name not in SKIPPED}
    gender = columns.pop("gender", None)
    misfit = _find_gender_misfit(gender, declared, least) if gender is not None else ""
    if misfit or not columns:
        return misfit
    low, high = (columns.get(name, columns.get("age")) for name in ("age_min", "age_max"))
    return _find_age_misfit(np.stack([low, high], axis=1), declared, least)


def check_labels(raw: np.ndarray, layout: str, file, declared: bool = False) -> None:
    """Raise `AgedgeError` that names the file and says what to pass, where labels (n, k) do not fit the layout."""
    if misfit := find_misfit(raw, layout, declared):
        fitting = _find_alternative(raw, layout)
        raise AgedgeError(f"{file}: labels {layout}: {misfit}" + (f"; or pass --labels {fitting}" if fitting else ""))


def _find_alternative(raw: np.ndarray, layout: str) -> str:
    """Return a layout that fits: with gender and age if there is one, else the given one without what is wrong."""
    found = suggest_layouts(raw)[:1]
    names = layout.split(",")
    for wrong in (("gender",), ("age", "age_min", "age_max")):
        less = ["-" if name in wrong else name for name in names]
        if set(less) - set(SKIPPED) and not find_misfit(raw, ",".join(less)):
            found.append(",".join(less))
    whole = [one for one in found[:1] if {"gender", "age"} <= set(one.split(","))]
    return next((one for one in (*whole, *found[::-1]) if one != layout), "")


def check_guess(raw: np.ndarray, file) -> str:
    """Return the layout of labels (n, k) of a file that does not say it: three numbers that fit are ours.

    Raises `AgedgeError` that says what to pass for all others.
    """
    raw = np.asarray(raw, np.float64)
    width = raw.shape[1]
    fitting = suggest_layouts(raw)
    example = " ".join(f"{value:g}" for value in raw[0][:8]) + (" .." if width > 8 else "")
    if width != len(LAYOUT):
        usual = {1: ["age", "gender"], 2: ["gender,age", "age,gender"]}.get(width)
        usual = usual or [",".join(["gender", "age", *"-" * (width - 2)])]
        numbers = "1 number" if width == 1 else f"{width} numbers"
        fits = f"; {' or '.join(fitting)} fits" if fitting else ""
        raise AgedgeError(
            f"{file}: labels of {numbers} and no JSON beside it: say --labels {' or '.join(usual)}{fits} "
            f"(example: {example})"
        )
    misfit = find_misfit(raw, LAYOUTS[0], least=1)
    low, high = raw[:, 1], raw[:, 2]
    wide = (low >= 0) & (high <= MAX_AGE) & (high > WIDEST[0] * low + WIDEST[1])
    if not misfit and wide.sum() > max(1, 0.2 * len(raw)):
        row = np.flatnonzero(wide)[0]
        misfit = f"{wide.sum()} of {len(raw)} ages would be as {low[row]:g} to {high[row]:g} years"
    if misfit:
        advice = f"pass --labels {' or '.join(fitting)}" if fitting else "pass --labels, such as age,gender,-"
        raise AgedgeError(
            f"{file}: labels of three numbers that are not gender,age_min,age_max (example: {example}; {misfit}), and "
            f"no JSON beside it: {advice}"
        )
    return LAYOUTS[0]


def suggest_layouts(raw: np.ndarray) -> List[str]:
    """Return the layouts that labels (n, k) fit by their values: at most two, the likelier first."""
    raw = np.asarray(raw, np.float64)
    names = ["-"] * raw.shape[1]
    genders, ages = [], []
    for k, values in enumerate(raw.T):
        if not _find_gender_misfit(values) and np.isin(values, (FEMALE, MALE)).any():
            genders.append(k)
        if len(_known(values)) and not _find_age_misfit(np.stack([values, values], axis=1)):
            ages.append(k)
    ages = [k for k in ages if k not in genders[:1]]
    if ages:  # the one with the largest ages: others may be a race or a number
        names[max(ages, key=lambda k: np.max(_known(raw[:, k]), initial=0))] = "age"
    if genders and names[genders[0]] == "-":
        names[genders[0]] = "gender"
    if set(names) == {"-"}:
        return []
    found = [",".join(names)]
    if len(names) == 2 and len(genders) == 2:  # ages of 0 and 1 only
        found.append(",".join(names[::-1]))
    return found


def warn_of_faults(file, numbers: list, faults: list, raw: list) -> None:
    """Log the count of single bad labels, with an example. `numbers`: of the records; `faults` and `raw` are theirs."""
    if numbers:
        shown = ", ".join(map(str, numbers[:10])) + (", .." if len(numbers) > 10 else "")
        counted = f"{len(numbers)} labels"
        example = " ".join(f"{value:g}" for value in raw[0])
        _warn_once(
            f"{file}: {counted} outside the contract count as unknown: records {shown} "
            f"(record {numbers[0]}: {example}: {faults[0]})"
        )


@lru_cache(maxsize=256)
def _warn_once(text: str) -> None:
    """Log a warning; files are read several times, and say it once."""
    log.warning("%s", text)


def _known(values: np.ndarray) -> np.ndarray:
    """Return the values that are not a code for "unknown"."""
    return values[~(np.isin(values, UNKNOWN_CODES) | np.isnan(values))]


def is_mostly(count: int, of: int, least: int = 1) -> bool:
    """Return whether so many faulty values are more than single ones, where there are at least `least` values."""
    return of >= least and (count > max(1, MOST_FAULTY * of) or 0 < count == of)


def _find_gender_misfit(values: np.ndarray, declared: bool = False, least: int = 1) -> str:
    known = _known(values)
    strange = known[~np.isin(known, (FEMALE, MALE))]
    if is_mostly(len(strange), len(known), ENOUGH if declared else least):
        codes = ", ".join(f"{code:g}" for code in np.unique(known)[:4])
        coding = f"genders coded {codes}" if len(np.unique(known)) <= 3 else "not genders"
        more = "" if len(np.unique(known)) > 3 else f"; {GENDER_ADVICE}"
        return f"{len(strange)} of {len(known)} genders are not 0 or 1, such as {strange[0]:g} ({coding}{more})"
    minus, male, female = (int((values == code).sum()) for code in (UNKNOWN, MALE, FEMALE))
    if not declared and minus >= FEW - 1 and male >= FEW - 1 and not female and is_mostly(minus, minus + male):
        return (
            f"genders are -1 ({minus}) and 1 ({male}), never 0: -1 may be female or unknown; {GENDER_ADVICE}, or say "
            'that -1 is unknown by a NAME.json that holds {"labels": ..}'
        )
    return ""


def _find_age_misfit(ages: np.ndarray, declared: bool = False, least: int = 1) -> str:
    """`ages` is (n, 2): begin and end, the same for exact ones."""
    ages = ages[~np.all(np.isin(ages, UNKNOWN_CODES) | np.isnan(ages), axis=1)]
    low, high = ages.T
    strange = ~((low >= 0) & (low <= high) & (high <= MAX_AGE))
    if is_mostly(int(strange.sum()), len(ages), ENOUGH if declared else least):
        example = " to ".join(dict.fromkeys(f"{value:g}" for value in ages[strange][0]))
        what = f"{strange.sum()} of {len(ages)} ages are outside 0 to {MAX_AGE}, such as {example}"
        return f"{what} ({_name_unit(high, low > high)}; {AGE_ADVICE})"
    if declared or len(ages) < FEW or not ((low >= 0) & (high <= 1))[~strange].all():
        return ""
    off_month = np.abs(high * 12 - np.rint(high * 12)) > 12 * MONTH
    if off_month.mean() >= 0.5:
        return f"all {len(ages)} ages lie within 0 to 1, such as {high[off_month][0]:g} (ages as shares? {AGE_ADVICE})"
    if len(ages) >= ALIKE and np.isin(ages, (0, 1)).all() and len(np.unique(ages)) == 2:
        return f"all {len(ages)} ages are 0 or 1 (genders?)"
    return ""


def _name_unit(values: np.ndarray, falls: np.ndarray) -> str:
    """Return what ages that are not in years may be, by their values."""
    if falls.mean() > MOST_FAULTY:
        return "intervals that end before they begin"
    middle = np.median(values)
    if 1900 <= middle <= 2100:
        return "years of birth?"
    if middle > 12 * MAX_AGE:
        return "days?"
    return "months?" if middle > MAX_AGE and values.min() >= 0 else "not ages in years"
