"""Ages as groups: how often a model says the right one, and which it says instead.

A network for age groups answers by its most probable group, any other model by the group of its age.
"""

import re
from typing import Dict, Iterable, List, Sequence, Tuple

import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.batches import evaluation_batches
from agedge.evaluation.evaluate import Answers
from agedge.labels import MAX_AGE

Groups = Sequence[Tuple[int, int]]  # first and last year of each, both included
NONE = -1  # the index of no group


def parse_groups(text: str) -> Groups:
    """[(0, 5), (6, 18), (66, 120)] from "0-5,6-18,66+". Raises `UsageError` on anything but groups in their order."""
    groups = []
    for word in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+)|(\+))?\s*", word)
        if not found:
            raise UsageError(f"--groups: '{word.strip()}' is no group; write them as 0-5,6-18,19-30,66+")
        first = int(found[1])
        last = MAX_AGE if found[3] else int(found[2] or first)
        after = groups[-1][1] if groups else -1
        if not first <= last <= MAX_AGE:
            raise UsageError(f"--groups: {word.strip()} does not end after it begins, or passes {MAX_AGE} years")
        if first <= after:
            raise UsageError(
                f"--groups: {word.strip()} does not begin after year {after}, the last of the group before"
            )
        groups.append((first, last))
    return groups


def name_group(first: int, last: int) -> str:
    return f"{first}+" if last >= MAX_AGE else f"{first}-{last}"


def find_true_groups(labels: np.ndarray, groups: Groups) -> np.ndarray:
    """(n,) the index of the group in which the whole age of a label (n, 3) lies; -1 where it is unknown, lies between
    groups or in several. An age of 5.5 is "5" until the sixth birthday."""
    found = np.full(len(labels), NONE)
    for index, (first, last) in enumerate(groups):
        found[(labels[:, 1] >= first) & (np.floor(labels[:, 2]) <= last)] = index
    return found


def find_said_groups(answers: Answers, own: Groups, groups: Groups) -> np.ndarray:
    """(n,) the index of the group that a model says, -1 where it says a year of no group.

    `own`: the groups of which the model gives probabilities, [] where it gives an age, which is rounded to a whole year
    as test.py shows it. Raises `UsageError` where an own group lies in several of `groups`.
    """
    if not own:
        years = np.floor(answers.ages + 0.5)
        found = np.full(len(years), NONE)
        for index, (first, last) in enumerate(groups):
            found[(years >= first) & (years <= last)] = index
        return found
    places = []
    for first, last in own:
        touched = [index for index, (low, high) in enumerate(groups) if first <= high and low <= last]
        if touched and (len(touched) > 1 or first < groups[touched[0]][0] or last > groups[touched[0]][1]):
            raise UsageError(
                f"--groups: the model's own group {name_group(first, last)} fits into none of them; "
                f"it knows {', '.join(name_group(*group) for group in own)}"
            )
        places.append(touched[0] if touched else NONE)
    # The groups asked for may be unions of the model's; the last column is for its years of no group.
    sums = np.zeros((len(answers.groups), len(groups) + 1))
    for column, place in enumerate(places):
        sums[:, place] += answers.groups[:, column]
    said = sums.argmax(axis=1)
    return np.where(said == len(groups), NONE, said)


def measure_groups(labels: np.ndarray, said: np.ndarray, groups: Groups) -> dict:
    """Accuracy, the share that is at most one group off, and the confusion matrix, rows the true groups; `outside`
    counts what was said to be of no group. Faces whose age is unknown or lies in no single group are not counted.

    Raises `AgedgeError` where no face is left.
    """
    true = find_true_groups(labels, groups)
    counted = true != NONE
    if not counted.any():
        raise AgedgeError(f"not one of {len(labels)} faces has an age that lies in one of the groups")
    table = np.zeros((len(groups), len(groups) + 1), int)
    np.add.at(table, (true[counted], said[counted]), 1)  # -1 is the last column
    confusion, outside = table[:, :-1], table[:, -1]
    near = (np.abs(true - said) <= 1) & (said != NONE)
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


def format_confusion(measured: dict) -> str:
    """The measures as lines of text: a row a true group, a column a group that was said, then all."""
    names = [row["group"] for row in measured["groups"]]
    heads = names + (["none"] if any(measured["outside"]) else [])
    width = max(6, *(len(name) for name in heads))
    lines = [f"{'true':>{width}}  {'faces':>6}  " + " ".join(f"{name:>{width}}" for name in heads) + "  accuracy"]
    for row, counts, outside in zip(measured["groups"], measured["confusion"], measured["outside"]):
        cells = (counts + [outside])[: len(heads)]
        share = "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
        lines.append(
            f"{row['group']:>{width}}  {row['n']:>6}  "
            + " ".join(f"{cell:>{width}}" for cell in cells)
            + f"  {share:>8}"
        )
    lines.append(
        f"accuracy {measured['accuracy']:.1%} of {measured['n']} faces; {measured['one_off']:.1%} at most one off"
    )
    left_out = [
        f"{measured[key]} of {what}"
        for key, what in (("unknown_age", "unknown age"), ("no_single_group", "an age that lies in no single group"))
        if measured[key]
    ]
    if left_out:
        lines.append(f"not counted: {', '.join(left_out)}")
    return "\n".join(lines)


def choose_faces(true: np.ndarray, count: int, seed: int = 0) -> List[int]:
    """Positions of about `count` faces of known groups (n,), as many of each as there are, in the groups' order."""
    random = np.random.RandomState(seed)
    known = np.unique(true[true != NONE])
    chosen: List[int] = []
    for nth, group in enumerate(known):
        share = count * (nth + 1) // len(known) - count * nth // len(known)
        faces = np.flatnonzero(true == group)
        chosen += sorted(random.permutation(faces)[:share].tolist())
    return chosen


def collect_faces(files: Iterable, chosen: Iterable[int], size: int, labels="auto", crop=None) -> Dict[int, np.ndarray]:
    """{position: (size, size, 3) BGR uint8} of the chosen faces, by their positions in what `ask` answered."""
    wanted, found, passed = set(chosen), {}, 0
    for path in files:
        for batch in evaluation_batches(path, size, labels=labels, crop=crop):
            for position, image in enumerate(batch.images, passed):
                if position in wanted:
                    found[position] = image
            passed += len(batch.images)
            if len(found) == len(wanted):
                return found
    return found


def say_answer(answers: Answers, position: int, said: int, groups: Groups, own: Groups) -> str:
    """What a model said of a face: "31-45 62%" of groups of its own, else "34 years"."""
    if not own:
        return f"{answers.ages[position]:.0f} years"
    if said == NONE:
        return "none of them"
    first, last = groups[said]
    inside = [first <= low and high <= last for low, high in own]
    return f"{name_group(first, last)} {answers.groups[position][inside].sum():.0%}"


def say_label(label: np.ndarray) -> str:
    """The age of a label (3,): "28", or "20-29"."""
    low, high = label[1:]
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"
