"""A model's errors taken apart: by age group, by gender, by what a data set says of its faces."""

from typing import List, Optional, Tuple

import numpy as np

from agedge.evaluation.groups import Groups, find_true_groups, name_group
from agedge.evaluation.metrics import BANDS, measure
from agedge.labels import FEMALE, MALE, is_male

MOST_GROUPS = 12
Part = Tuple[str, np.ndarray]  # what it is called, and which of the n faces are in it, bool


def choose_groups(labels: np.ndarray) -> Groups:
    """The age groups that labels (n, 3) are best told apart by: the six of the field, or, where most known ages are
    intervals such as FairFace's, those intervals, if no two of them overlap."""
    known = labels[labels[:, 1] >= 0]
    wide = known[known[:, 1] < known[:, 2]]
    if 2 * len(wide) <= len(known):
        return list(BANDS)
    bounds = sorted({(int(low), int(high)) for low, high in wide[:, 1:]})
    apart = all(before[1] < after[0] for before, after in zip(bounds, bounds[1:]))
    whole = (wide[:, 1:] == np.floor(wide[:, 1:])).all()
    return bounds if apart and whole and 2 <= len(bounds) <= MOST_GROUPS else list(BANDS)


def split_by_age(labels: np.ndarray, groups: Groups) -> List[Part]:
    """A part an age group: the faces whose whole true age lies in it."""
    true = find_true_groups(labels, groups)
    return [(name_group(*bounds), true == index) for index, bounds in enumerate(groups)]


def split_by_gender(labels: np.ndarray) -> List[Part]:
    """All faces, then those labelled female, then those labelled male."""
    everyone = np.ones(len(labels), bool)
    return [("all", everyone), ("female", labels[:, 0] == FEMALE), ("male", labels[:, 0] == MALE)]


def split_by_word(words: List[Optional[str]]) -> List[Part]:
    """A part a word, in the alphabet's order; faces without a word ("" or None) are in none."""
    said = np.array([word or "" for word in words], object)
    return [(word, said == word) for word in sorted(set(said) - {""})]


def measure_part(labels: np.ndarray, ages: np.ndarray, p_male: np.ndarray, chosen: np.ndarray) -> dict:
    """`measure` of some faces, without its bands."""
    measured = measure(labels[chosen], ages[chosen], p_male[chosen])
    return {key: value for key, value in measured.items() if key not in ("bands", "adults")}


def confuse_genders(labels: np.ndarray, p_male: np.ndarray) -> List[List[int]]:
    """[[female said female, female said male], [male said female, male said male]], of known genders."""
    known = (labels[:, 0] >= 0) & ~np.isnan(p_male)
    true, said = labels[known, 0] == MALE, is_male(p_male[known])
    return [[int(((true == row) & (said == column)).sum()) for column in (False, True)] for row in (False, True)]
