"""Metrics by subgroup: by age group, by gender, by an attribute that the data set gives."""

from typing import List, Optional, Tuple

import numpy as np

from agedge.evaluation.groups import Groups, find_true_groups, name_group
from agedge.evaluation.metrics import BANDS, measure
from agedge.labels import FEMALE, MALE, is_male

MOST_GROUPS = 12
Subgroup = Tuple[str, np.ndarray]  # its name, and which of the n faces belong to it, bool


def choose_groups(labels: np.ndarray) -> Groups:
    """Return the age groups for labels (n, 3): `BANDS` or, where most known ages are intervals, those intervals.

    Intervals (such as FairFace's) are used only if no two of them overlap.
    """
    known = labels[labels[:, 1] >= 0]
    wide = known[known[:, 1] < known[:, 2]]
    if 2 * len(wide) <= len(known):
        return list(BANDS)
    bounds = sorted({(int(low), int(high)) for low, high in wide[:, 1:]})
    are_disjoint = all(before[1] < after[0] for before, after in zip(bounds, bounds[1:]))
    whole = (wide[:, 1:] == np.floor(wide[:, 1:])).all()
    return bounds if are_disjoint and whole and 2 <= len(bounds) <= MOST_GROUPS else list(BANDS)


def split_by_age(labels: np.ndarray, groups: Groups) -> List[Subgroup]:
    """Return a subgroup for each age group: the faces whose whole true age lies in it."""
    true = find_true_groups(labels, groups)
    return [(name_group(*bounds), true == index) for index, bounds in enumerate(groups)]


def split_by_gender(labels: np.ndarray) -> List[Subgroup]:
    """Return all faces, then those labelled female, then those labelled male."""
    everyone = np.ones(len(labels), bool)
    return [("all", everyone), ("female", labels[:, 0] == FEMALE), ("male", labels[:, 0] == MALE)]


def split_by_attribute(values: List[Optional[str]]) -> List[Subgroup]:
    """Return a subgroup for each value, in alphabetical order; faces without a value ("" or None) belong to none."""
    known = np.array([value or "" for value in values], object)
    return [(value, known == value) for value in sorted(set(known) - {""})]


def measure_subgroup(labels: np.ndarray, ages: np.ndarray, p_male: np.ndarray, chosen: np.ndarray) -> dict:
    """Return the metrics of the chosen faces, without those by age band."""
    measured = measure(labels[chosen], ages[chosen], p_male[chosen])
    return {key: value for key, value in measured.items() if key not in ("bands", "adults")}


def confuse_genders(labels: np.ndarray, p_male: np.ndarray) -> List[List[int]]:
    """Return the confusion matrix of known genders: rows are labels, columns predictions, female first."""
    known = (labels[:, 0] >= 0) & ~np.isnan(p_male)
    true, predicted = labels[known, 0] == MALE, is_male(p_male[known])
    return [[int(((true == row) & (predicted == column)).sum()) for column in (False, True)] for row in (False, True)]
