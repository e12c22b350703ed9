"""Compute metrics of age groups: accuracy and confusion matrix.

A network for age groups predicts its most probable group, any other model the group of its age.
"""

import re
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from agedge.crop import Crop
from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.batches import evaluation_batches
from agedge.evaluation.evaluate import Predictions
from agedge.labels import MAX_AGE

Groups = Sequence[Tuple[int, int]]  # (first, last) year of each group, both included
NONE = -1  # index for "in no group"


def parse_groups(text: str) -> Groups:
    """Return [(0, 5), (6, 18), (66, 120)] for "0-5,6-18,66+". Raises `UsageError` unless the groups are in order."""
    groups = []
    for word in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+)|(\+))?\s*", word)
        if not found:
            raise UsageError(f"--groups: '{word.strip()}' is not a group; write groups as 0-5,6-18,19-30,66+")
        first = int(found[1])
        last = MAX_AGE if found[3] else int(found[2] or first)
        after = groups[-1][1] if groups else -1
        if not first <= last <= MAX_AGE:
            raise UsageError(f"--groups: {word.strip()} must not end before it begins, or after {MAX_AGE} years")
        if first <= after:
            raise UsageError(f"--groups: {word.strip()} must begin after year {after}, the last of the previous group")
        groups.append((first, last))
    return groups


def name_group(first: int, last: int) -> str:
    """Return "31-45", or "66+" for the last group."""
    return f"{first}+" if last >= MAX_AGE else f"{first}-{last}"


def find_true_groups(labels: np.ndarray, groups: Groups) -> np.ndarray:
    """Return (n,) the index of the group that contains the whole age of each label (n, 3).

    -1 if the age is unknown, in no group or in several. An age of 5.5 counts as 5 years.
    """
    found = np.full(len(labels), NONE)
    for index, (first, last) in enumerate(groups):
        found[(labels[:, 1] >= first) & (np.floor(labels[:, 2]) <= last)] = index
    return found


def find_predicted_groups(predictions: Predictions, own: Groups, groups: Groups) -> np.ndarray:
    """Return (n,) the index of the predicted group, -1 if the predicted year is in no group.

    `own`: the groups whose probabilities the model predicts; [] if it predicts an age, which is rounded to a whole
    year as in test.py. Raises `UsageError` if one of `own` lies in several of `groups`.
    """
    if not own:
        years = np.floor(predictions.ages + 0.5)
        found = np.full(len(years), NONE)
        for index, (first, last) in enumerate(groups):
            found[(years >= first) & (years <= last)] = index
        return found
    places = []
    for first, last in own:
        touched = [index for index, (low, high) in enumerate(groups) if first <= high and low <= last]
        if touched and (len(touched) > 1 or first < groups[touched[0]][0] or last > groups[touched[0]][1]):
            raise UsageError(
                f"--groups: the model's own group {name_group(first, last)} does not fit into one of the groups; "
                f"its groups are {', '.join(name_group(*group) for group in own)}"
            )
        places.append(touched[0] if touched else NONE)
    # The requested groups may be unions of the model's; the last column is for years in no group.
    assert predictions.groups is not None
    sums = np.zeros((len(predictions.groups), len(groups) + 1))
    for column, place in enumerate(places):
        sums[:, place] += predictions.groups[:, column]
    predicted = sums.argmax(axis=1)
    return np.where(predicted == len(groups), NONE, predicted)


def measure_groups(labels: np.ndarray, predicted: np.ndarray, groups: Groups) -> Dict[str, Any]:
    """Return the accuracy, the share at most one group off, and the confusion matrix, whose rows are the true groups.

    `predicted` (n,): indices of groups; `outside` counts those in no group. Faces whose age is unknown or lies in no
    single group are not counted. Raises `AgedgeError` if no face is left.
    """
    true = find_true_groups(labels, groups)
    counted = true != NONE
    if not counted.any():
        raise AgedgeError(f"none of the {len(labels)} faces has an age in one of the groups")
    table = np.zeros((len(groups), len(groups) + 1), int)
    np.add.at(table, (true[counted], predicted[counted]), 1)  # -1 is the last column
    confusion, outside = table[:, :-1], table[:, -1]
    near = (np.abs(true - predicted) <= 1) & (predicted != NONE)
    totals = table.sum(axis=1)
    rows = [
        {
            "group": name_group(*group),
            "n": int(total),
            "accuracy": round(int(confusion[index, index]) / int(total), 6) if total else None,
        }
        for index, (group, total) in enumerate(zip(groups, totals))
    ]
    return {
        "n": int(counted.sum()),
        "accuracy": round(float(np.trace(confusion) / counted.sum()), 6),
        "one_off": round(float(near[counted].mean()), 6),
        "unknown_age": int((labels[:, 1] < 0).sum()),
        "no_single_group": int((~counted & (labels[:, 1] >= 0)).sum()),
        "groups": rows,
        "confusion": confusion.tolist(),
        "outside": outside.tolist(),
    }


def format_confusion(metrics: Dict[str, Any]) -> str:
    """Return the metrics as lines of text: a row for each true group, a column for each predicted group, then all."""
    names = [row["group"] for row in metrics["groups"]]
    heads = names + (["none"] if any(metrics["outside"]) else [])
    width = max(6, *(len(name) for name in heads))
    lines = [f"{'true':>{width}}  {'faces':>6}  " + " ".join(f"{name:>{width}}" for name in heads) + "  accuracy"]
    for row, counts, outside in zip(metrics["groups"], metrics["confusion"], metrics["outside"]):
        cells = (counts + [outside])[: len(heads)]
        share = "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
        lines.append(
            f"{row['group']:>{width}}  {row['n']:>6}  "
            + " ".join(f"{cell:>{width}}" for cell in cells)
            + f"  {share:>8}"
        )
    lines.append(
        f"accuracy {metrics['accuracy']:.1%} of {metrics['n']} faces; {metrics['one_off']:.1%} at most one off"
    )
    left_out = [
        f"{metrics[key]} of {what}"
        for key, what in (("unknown_age", "unknown age"), ("no_single_group", "an age that lies in no single group"))
        if metrics[key]
    ]
    if left_out:
        lines.append(f"not counted: {', '.join(left_out)}")
    return "\n".join(lines)


def choose_faces(true: np.ndarray, count: int, seed: int = 0) -> List[int]:
    """Return the positions of about `count` faces of known groups (n,), equally many of each, in the groups' order."""
    random = np.random.RandomState(seed)
    known = np.unique(true[true != NONE])
    chosen: List[int] = []
    for nth, group in enumerate(known):
        share = count * (nth + 1) // len(known) - count * nth // len(known)
        faces = np.flatnonzero(true == group)
        chosen += sorted(random.permutation(faces)[:share].tolist())
    return chosen


def collect_faces(
    files: Iterable[str], chosen: Iterable[int], size: int, labels: str = "auto", crop: Optional[Crop] = None
) -> Dict[int, np.ndarray]:
    """Return {position: image (size, size, 3) BGR uint8} of the chosen faces, by their positions in the predictions."""
    chosen, passed = set(chosen), 0
    found: Dict[int, np.ndarray] = {}
    for path in files:
        for batch in evaluation_batches(path, size, labels=labels, crop=crop):
            for position, image in enumerate(batch.images, passed):
                if position in chosen:
                    found[position] = image
            passed += len(batch.images)
            if len(found) == len(chosen):
                return found
    return found


def describe_prediction(predictions: Predictions, position: int, predicted: int, groups: Groups, own: Groups) -> str:
    """Return "31-45 62%" for a model that predicts groups, else "34 years"."""
    if not own:
        return f"{predictions.ages[position]:.0f} years"
    if predicted == NONE:
        return "no group"
    assert predictions.groups is not None
    first, last = groups[predicted]
    inside = [first <= low and high <= last for low, high in own]
    return f"{name_group(first, last)} {predictions.groups[position][inside].sum():.0%}"


def describe_label(label: np.ndarray) -> str:
    """Return the age of a label (3,) as text: "28", or "20-29"."""
    low, high = label[1:]
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"
