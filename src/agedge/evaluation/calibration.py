"""Whether a model is as sure as it says: P(male) against how often it is right, age intervals against true ages."""

from typing import List, Sequence

import numpy as np

from agedge.evaluation.groups import Groups, find_true_groups, name_group
from agedge.evaluation.metrics import mean

BINS = 10  # equally wide, as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017


def measure_reliability(labels: np.ndarray, p_male: np.ndarray, bins: int = BINS) -> dict:
    """P(male) (n,) against the labels (n, 3): {"n", "ece", "bins": [{"low", "high", "n", "said", "male"}]}.

    `said` is the mean P(male) of a bin, `male` the share of its faces that are labelled male. `ece`, the expected
    calibration error, is the mean of |said - male| over the faces (Naeini et al., AAAI 2015); None where no gender is
    known or given, and `bins` is then empty. Bins without a face are left out.
    """
    known = (labels[:, 0] >= 0) & ~np.isnan(p_male)
    said, male = p_male[known].astype(float), labels[known, 0]
    place = np.minimum((said * bins).astype(int), bins - 1)
    rows = []
    for index in np.unique(place):
        inside = place == index
        rows.append(
            {
                "low": index / bins,
                "high": (index + 1) / bins,
                "n": int(inside.sum()),
                "said": mean(said[inside]),
                "male": mean(male[inside]),
            }
        )
    apart = sum(row["n"] * abs(row["said"] - row["male"]) for row in rows)
    return {"n": int(known.sum()), "ece": round(apart / len(said), 6) if rows else None, "bins": rows}


def measure_coverage(labels: np.ndarray, low: np.ndarray, high: np.ndarray, groups: Groups) -> List[dict]:
    """How many exact true ages lie within intervals [low, high] (n,) in years, by group of the true age, then of all:
    [{"group", "n", "covered", "width"}], the share and the intervals' mean width in years; None where there is none.

    A label that is an interval is not counted: nobody knows where in it the age lies.
    """
    exact = (labels[:, 1] >= 0) & (labels[:, 1] == labels[:, 2]) & ~np.isnan(low)
    true, group = labels[:, 1], find_true_groups(labels, groups)

    def row(name: str, chosen: np.ndarray) -> dict:
        inside = (low[chosen] <= true[chosen]) & (true[chosen] <= high[chosen])
        width = (high - low)[chosen]
        return {"group": name, "n": int(chosen.sum()), "covered": mean(inside.astype(float)), "width": mean(width)}

    rows = [row(name_group(*bounds), exact & (group == index)) for index, bounds in enumerate(groups)]
    return [*rows, row("all", exact)]


def share_interval(hits: Sequence, z: float = 1.96) -> tuple:
    """(low, high) between which a share lies with 95% certainty, from its n hits and misses (Wilson 1927); of none,
    (0, 1)."""
    count = len(hits)
    if not count:
        return 0.0, 1.0
    share = float(np.mean(hits))
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(middle - reach), float(middle + reach)
