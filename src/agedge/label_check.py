"""Check whether the numbers of labels fit their layout. All readers use this check.

A single bad label is counted and becomes unknown. Many bad labels mean another coding or another layout (genders 1 and
2, ages in months or as fractions, columns in another order), which must not silently become "unknown" or wrong labels.
"""

import logging
from functools import lru_cache
from pathlib import Path
from typing import List, Sequence, Union

import numpy as np

from agedge.errors import AgedgeError
from agedge.labels import FEMALE, LAYOUT, LAYOUTS, MALE, MAX_AGE, SKIPPED, UNKNOWN

log = logging.getLogger(__name__)

UNKNOWN_CODES = (UNKNOWN, 9999)  # this project's, and that of older tools
# The largest share of bad labels that count as single ones. Chosen, not measured: a wrong layout affects far more.
MAX_FAULTY_SHARE = 0.05
MIN_FOR_DISTRIBUTION = 3  # labels needed to judge a distribution (ages that are all fractions, genders without a 0)
MIN_OVER_DECLARED = 5  # labels needed to contradict the layout that a file declares
MIN_FOR_GENDERS = 8  # labels needed to take ages that are all 0 or 1 for genders
MONTH_TOLERANCE = 0.006  # years: an age with two decimals is this close to a whole month
WIDEST_GROUP = (3, 20)  # an age group ends below 3 times its start plus 20 years, as "0-17", "18-35", "60-120" do
GENDER_ADVICE = "write genders as 0 female, 1 male, -1 unknown"
AGE_ADVICE = f"write ages in years, 0 to {MAX_AGE}"


def find_label_faults(raw: np.ndarray, contract: np.ndarray, layout: str) -> List[str]:
    """Return the fault of each of n labels, "" for a good one: `raw` (n, k) as stored, `contract` (n, 3) as read.

    Codes for "unknown" are not faults.
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


def find_misfit(raw: np.ndarray, layout: str, declared: bool = False, min_count: int = 2) -> str:
    """Return why labels (n, k) as a whole do not fit a layout, with counts, an example and advice; "" if they fit.

    `declared`: the file itself declares its layout, so -1 is "unknown", and ages of 0 to 1 are those of infants.
    `min_count`: the number of known values that is needed for a verdict.
    """
    raw = np.asarray(raw, np.float64)
    columns = {name: values for name, values in zip(layout.split(","), raw.T) if name not in SKIPPED}
    gender = columns.pop("gender", None)
    misfit = _find_gender_misfit(gender, declared, min_count) if gender is not None else ""
    if misfit or not columns:
        return misfit
    low, high = (columns["age" if "age" in columns else name] for name in ("age_min", "age_max"))
    return _find_age_misfit(np.stack([low, high], axis=1), declared, min_count)


def check_labels(raw: np.ndarray, layout: str, file: Union[str, Path], declared: bool = False) -> None:
    """Raise `AgedgeError` that names the file and a better layout if labels (n, k) do not fit the layout."""
    if misfit := find_misfit(raw, layout, declared):
        fitting = _find_alternative(raw, layout)
        raise AgedgeError(f"{file}: labels {layout}: {misfit}" + (f"; or pass --labels {fitting}" if fitting else ""))


def _find_alternative(raw: np.ndarray, layout: str) -> str:
    """Return a layout that fits, if possible with gender and age, else the given one without the wrong names; or ""."""
    found = suggest_layouts(raw)[:1]
    names = layout.split(",")
    for wrong in (("gender",), ("age", "age_min", "age_max")):
        less = ["-" if name in wrong else name for name in names]
        if set(less) - set(SKIPPED) and not find_misfit(raw, ",".join(less)):
            found.append(",".join(less))
    complete = [one for one in found[:1] if {"gender", "age"} <= set(one.split(","))]
    return next((one for one in (*complete, *found[::-1]) if one != layout), "")


def check_guess(raw: np.ndarray, file: Union[str, Path]) -> str:
    """Return the layout of labels (n, k) of a file that declares none: the default one, if three numbers fit it.

    Raises `AgedgeError` that names the option to pass for all others.
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
            f"{file}: labels of {numbers} and no JSON beside it: pass --labels {' or '.join(usual)}{fits} "
            f"(example: {example})"
        )
    misfit = find_misfit(raw, LAYOUTS[0], min_count=1)
    low, high = raw[:, 1], raw[:, 2]
    wide = (low >= 0) & (high <= MAX_AGE) & (high > WIDEST_GROUP[0] * low + WIDEST_GROUP[1])
    if not misfit and wide.sum() > max(1, 0.2 * len(raw)):
        row = np.flatnonzero(wide)[0]
        misfit = f"{wide.sum()} of {len(raw)} ages would be {low[row]:g} to {high[row]:g} years"
    if misfit:
        advice = f"pass --labels {' or '.join(fitting)}" if fitting else "pass --labels, such as age,gender,-"
        raise AgedgeError(
            f"{file}: labels of three numbers that are not gender,age_min,age_max (example: {example}; {misfit}), and "
            f"no JSON beside it: {advice}"
        )
    return LAYOUTS[0]


def suggest_layouts(raw: np.ndarray) -> List[str]:
    """Return the layouts, at most two, that fit the values of labels (n, k), the more likely first."""
    raw = np.asarray(raw, np.float64)
    names = ["-"] * raw.shape[1]
    genders, ages = [], []
    for k, values in enumerate(raw.T):
        if not _find_gender_misfit(values) and np.isin(values, (FEMALE, MALE)).any():
            genders.append(k)
        if len(_known(values)) and not _find_age_misfit(np.stack([values, values], axis=1)):
            ages.append(k)
    ages = [k for k in ages if k not in genders[:1]]
    if ages:  # the one with the largest values: others may be a race or an identity
        names[max(ages, key=lambda k: np.max(_known(raw[:, k]), initial=0))] = "age"
    if genders and names[genders[0]] == "-":
        names[genders[0]] = "gender"
    if set(names) == {"-"}:
        return []
    found = [",".join(names)]
    if len(names) == 2 and len(genders) == 2:  # ages of 0 and 1 only
        found.append(",".join(names[::-1]))
    return found


def warn_of_faults(file: Union[str, Path], numbers: Sequence[int], faults: Sequence[str], raw: np.ndarray) -> None:
    """Log the number of bad labels, with an example: record numbers, and the fault and the raw label of each."""
    if numbers:
        shown = ", ".join(map(str, numbers[:10])) + (", .." if len(numbers) > 10 else "")
        example = " ".join(f"{value:g}" for value in raw[0])
        _warn_once(
            f"{file}: {len(numbers)} labels are not valid and count as unknown: records {shown} "
            f"(record {numbers[0]}: {example}: {faults[0]})"
        )


@lru_cache(maxsize=256)
def _warn_once(text: str) -> None:
    """Log a warning once, however often a file is read."""
    log.warning("%s", text)


def _known(values: np.ndarray) -> np.ndarray:
    """Return the values that are not a code for "unknown"."""
    return values[~(np.isin(values, UNKNOWN_CODES) | np.isnan(values))]


def is_mostly(count: int, of: int, min_count: int = 1) -> bool:
    """Return whether `count` bad values of `of` are more than single ones; False if `of` is below `min_count`."""
    return of >= min_count and (count > max(1, MAX_FAULTY_SHARE * of) or 0 < count == of)


def _find_gender_misfit(values: np.ndarray, declared: bool = False, min_count: int = 1) -> str:
    known = _known(values)
    strange = known[~np.isin(known, (FEMALE, MALE))]
    if is_mostly(len(strange), len(known), MIN_OVER_DECLARED if declared else min_count):
        codes = ", ".join(f"{code:g}" for code in np.unique(known)[:4])
        coding = f"genders coded {codes}" if len(np.unique(known)) <= 3 else "not genders"
        more = "" if len(np.unique(known)) > 3 else f"; {GENDER_ADVICE}"
        return f"{len(strange)} of {len(known)} genders are not 0 or 1, such as {strange[0]:g} ({coding}{more})"
    minus, male, female = (int((values == code).sum()) for code in (UNKNOWN, MALE, FEMALE))
    if (
        not declared
        and minus >= MIN_FOR_DISTRIBUTION - 1
        and male >= MIN_FOR_DISTRIBUTION - 1
        and not female
        and is_mostly(minus, minus + male)
    ):
        return (
            f"genders are -1 ({minus}) and 1 ({male}), never 0: -1 may mean female or unknown; {GENDER_ADVICE}, "
            'or declare that -1 is unknown by a NAME.json with {"labels": ..}'
        )
    return ""


def _find_age_misfit(ages: np.ndarray, declared: bool = False, min_count: int = 1) -> str:
    """Return why ages (n, 2), the ends of intervals, are not ages in years; "" if they are."""
    ages = ages[~np.all(np.isin(ages, UNKNOWN_CODES) | np.isnan(ages), axis=1)]
    low, high = ages.T
    strange = ~((low >= 0) & (low <= high) & (high <= MAX_AGE))
    if is_mostly(int(strange.sum()), len(ages), MIN_OVER_DECLARED if declared else min_count):
        example = " to ".join(dict.fromkeys(f"{value:g}" for value in ages[strange][0]))
        what = f"{strange.sum()} of {len(ages)} ages are outside 0 to {MAX_AGE}, such as {example}"
        return f"{what} ({_name_unit(high, low > high)}; {AGE_ADVICE})"
    if declared or len(ages) < MIN_FOR_DISTRIBUTION or not ((low >= 0) & (high <= 1))[~strange].all():
        return ""
    off_month = np.abs(high * 12 - np.rint(high * 12)) > 12 * MONTH_TOLERANCE
    if off_month.mean() >= 0.5:
        return (
            f"all {len(ages)} ages lie within 0 to 1, such as {high[off_month][0]:g} (ages as fractions? {AGE_ADVICE})"
        )
    if len(ages) >= MIN_FOR_GENDERS and np.isin(ages, (0, 1)).all() and len(np.unique(ages)) == 2:
        return f"all {len(ages)} ages are 0 or 1 (genders?)"
    return ""


def _name_unit(values: np.ndarray, is_reversed: np.ndarray) -> str:
    """Return the likely unit of ages that are not in years, from their values."""
    if is_reversed.mean() > MAX_FAULTY_SHARE:
        return "intervals that end before they start"
    middle = np.median(values)
    if 1900 <= middle <= 2100:
        return "years of birth?"
    if middle > 12 * MAX_AGE:
        return "days?"
    return "months?" if middle > MAX_AGE and values.min() >= 0 else "not ages in years"
