"""Calibration: P(male) against the share that is male, age intervals against true ages."""

from typing import List, Sequence, Tuple

import numpy as np

from agedge.evaluation.groups import Groups, find_true_groups, name_group
from agedge.evaluation.metrics import mean

BINS = 10  # equally wide, as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017


def measure_reliability(labels: np.ndarray, p_male: np.ndarray, bins: int = BINS) -> dict:
    """Compare P(male) (n,) with the labels (n, 3): {"n", "ece", "bins": [{"low", "high", "n", "predicted", "male"}]}.

    `predicted` is the mean P(male) of a bin, `male` the share of its faces that are labelled male. `ece`, the expected
    calibration error, is the mean of |predicted - male| over the faces (Naeini et al., AAAI 2015); None if no
    gender is known or predicted, and `bins` is then empty. Bins without a face are left out.
    """
    known = (labels[:, 0] >= 0) & ~np.isnan(p_male)
    predicted, male = p_male[known].astype(float), labels[known, 0]
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    rows = []
    for index in np.unique(place):
        inside = place == index
        rows.append(
            {
                "low": index / bins,
                "high": (index + 1) / bins,
                "n": int(inside.sum()),
                "predicted": mean(predicted[inside]),
                "male": mean(male[inside]),
            }
        )
    distance = sum(row["n"] * abs(row["predicted"] - row["male"]) for row in rows)
    return {"n": int(known.sum()), "ece": round(distance / len(predicted), 6) if rows else None, "bins": rows}


def measure_coverage(labels: np.ndarray, low: np.ndarray, high: np.ndarray, groups: Groups) -> List[dict]:
    """Return the share of exact true ages inside of intervals [low, high] (n,) in years, by age group and of all.

    [{"group", "n", "covered", "width"}]: `covered` is the share, `width` the mean width in years; None without faces. A
    label that is an interval is not counted, as the age inside of it is unknown.
    """
    exact = (labels[:, 1] >= 0) & (labels[:, 1] == labels[:, 2]) & ~np.isnan(low)
    true, group = labels[:, 1], find_true_groups(labels, groups)

    def row(name: str, chosen: np.ndarray) -> dict:
        inside = (low[chosen] <= true[chosen]) & (true[chosen] <= high[chosen])
        width = (high - low)[chosen]
        return {"group": name, "n": int(chosen.sum()), "covered": mean(inside.astype(float)), "width": mean(width)}

    rows = [row(name_group(*bounds), exact & (group == index)) for index, bounds in enumerate(groups)]
    return [*rows, row("all", exact)]


def share_interval(hits: Sequence[float], z: float = 1.96) -> Tuple[float, float]:
    """Return the 95% confidence interval (low, high) of a share from n hits and misses (Wilson 1927); n = 0: (0, 1)."""
    count = len(hits)
    if not count:
        return 0.0, 1.0
    share = float(np.mean(hits))
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(middle - reach), float(middle + reach)
