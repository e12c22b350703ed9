"""Compute metrics of ages and genders, for labels that may be intervals or unknown."""

from typing import Any, Dict, Optional

import numpy as np

from agedge.labels import is_male

# Six usual age groups; ADULTS is the age range that papers on adults report.
BANDS = ((0, 5), (6, 18), (19, 30), (31, 45), (46, 65), (66, 120))
ADULTS = (21, 60)


def age_errors(labels: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """Return the signed errors (n,) of ages in years: 0 inside of a label's interval, NaN where either is unknown."""
    low, high = labels[:, 1], labels[:, 2]
    off = np.where(ages < low, ages - low, np.where(ages > high, ages - high, 0.0))
    return np.where((low >= 0) & ~np.isnan(ages), off, np.nan)


def gender_hits(labels: np.ndarray, p_male: np.ndarray) -> np.ndarray:
    """Return (n,) 1 for a correctly predicted gender, 0 for a wrong one, NaN if label or prediction is unknown."""
    known = (labels[:, 0] >= 0) & ~np.isnan(p_male)
    return np.where(known, is_male(p_male) == (labels[:, 0] == 1), np.nan)


def measure(labels: np.ndarray, ages: np.ndarray, p_male: np.ndarray) -> Dict[str, Any]:
    """Return the metrics of n faces: age MAE and bias in years, CS@3, CS@5, gender accuracy, and the same by band.

    CS@3 (cumulative score) is the share of ages at most 3 years off. A face whose interval spans several bands
    counts in no band. A metric without known values is None.
    """
    errors, hits = age_errors(labels, ages), gender_hits(labels, p_male)

    def row(chosen: Any) -> Dict[str, Any]:
        error = errors[chosen]
        return {
            "n": int(error.size),
            "age_mae": mean(np.abs(error)),
            "age_bias": mean(error),
            "age_cs3": mean(within(error, 3)),
            "age_cs5": mean(within(error, 5)),
            "gender_acc": mean(hits[chosen]),
        }

    def band(first: int, last: int) -> Dict[str, Any]:
        # an age of 5.5 counts as 5 years
        inside = (labels[:, 1] >= first) & (np.floor(labels[:, 2]) <= last)
        return {"band": f"{first}-{last}" if last < 120 else f"{first}+", **row(inside)}

    return {**row(slice(None)), "bands": [band(*ages) for ages in BANDS], "adults": band(*ADULTS)}


def within(errors: np.ndarray, years: float) -> np.ndarray:
    """Return 1 for an error of at most `years`, 0 for a larger one, NaN for an unknown one."""
    return np.where(np.isnan(errors), np.nan, np.abs(errors) <= years)


def mean(values: np.ndarray) -> Optional[float]:
    """Return the mean of the values that are not NaN, to six decimals; None if there are none."""
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 6) if known.size else None


def calibrate(labels: np.ndarray, ages: np.ndarray, level: float = 0.8, least: int = 30) -> Dict[str, Any]:
    """Return the offsets in years around a predicted age between which the true age lies in `level` of the cases.

    Split conformal prediction (Vovk et al. 2005) by predicted age: quantiles of true minus predicted age among exact
    labels, in bins of ten years that grow until they hold `least` faces. {} if there are too few faces.
    """
    exact = (labels[:, 1] >= 0) & (labels[:, 1] == labels[:, 2]) & ~np.isnan(ages)
    predicted, true = ages[exact], labels[exact, 1]
    order = np.argsort(predicted, kind="stable")
    predicted, missed = predicted[order], (true - predicted)[order]
    edges, start = [], 0
    for end in [*np.searchsorted(predicted, range(10, 100, 10)), len(predicted)]:
        if end - start >= least:
            edges.append((start, end))
            start = end
    if not edges:
        return {}
    edges[-1] = (edges[-1][0], len(predicted))
    tail = (1 - level) / 2
    bins = [(predicted[a:b].mean(), *np.quantile(missed[a:b], (tail, 1 - tail))) for a, b in edges]
    at, low, high = (np.round(column, 2).tolist() for column in zip(*bins))
    return {"level": level, "age": at, "low": low, "high": high}


def format_table(metrics: Dict[str, Any]) -> str:
    """Return the metrics as lines of text: one for each band, then all."""
    lines = [f"{'age':>8} {'faces':>6} {'MAE':>6} {'bias':>6} {'CS@5':>6} {'gender':>7}"]
    for row in [*metrics["bands"], metrics["adults"], {"band": "all", **metrics}]:
        if row["n"]:
            forms = {"age_mae": "{:.2f}", "age_bias": "{:+.2f}", "age_cs5": "{:.1%}", "gender_acc": "{:.1%}"}
            texts = ["-" if row[key] is None else form.format(row[key]) for key, form in forms.items()]
            lines.append("{:>8} {:>6} {:>6} {:>6} {:>6} {:>7}".format(row["band"], row["n"], *texts))
    return "\n".join(lines)
