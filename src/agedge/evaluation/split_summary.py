"""Metrics of several splits, with mean and spread: python -m agedge.evaluation.split_summary runs/*-split*/test.json

The spread is the sample standard deviation over the splits.
"""

import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, Tuple

from agedge.errors import AgedgeError

FORMS = {"age_mae": "{:.2f}", "age_cs5": "{:.1%}", "gender_acc": "{:.1%}"}


def read_metrics(path: Path) -> Dict[str, Any]:
    """Return `n` and the metrics of FORMS from a JSON of evaluate.py or a run's test.json; a metric may be None.

    Raises `AgedgeError` if the file is missing or not such a JSON.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        metrics = {key: value[key] for key in ("n", *FORMS)}
    except FileNotFoundError:
        raise AgedgeError(f"{path}: does not exist") from None
    except (ValueError, KeyError, TypeError):
        raise AgedgeError(f"{path}: not the JSON of an evaluation") from None
    for key, number in metrics.items():
        if not (number is None and key in FORMS) and (isinstance(number, bool) or not isinstance(number, (int, float))):
            raise AgedgeError(f"{path}: not the JSON of an evaluation: {key} is {number!r}")
    return metrics


def name_split(path: Path) -> str:
    """Return "3" for runs/NAME-split3/test.json; the whole path if the folder's name has no number."""
    found = re.search(r"-split(\d+)$", path.parent.name)
    return found[1] if found else str(path)


def format_spread(splits: List[Tuple[str, Dict[str, Any]]]) -> str:
    """Return (name, metrics) of splits as lines of text: one for each split, then mean and spread of known values."""
    width = max(6, *(len(name) for name, _ in splits))
    line = f"{{:>{width}}} {{:>6}} {{:>6}} {{:>6}} {{:>7}}".format
    lines = [line("split", "faces", "MAE", "CS@5", "gender")]
    lines += [line(name, row["n"], *format_row(row)) for name, row in splits]
    known = {key: [row[key] for _, row in splits if row[key] is not None] for key in FORMS}
    means = {key: mean(values) if values else None for key, values in known.items()}
    spreads = {key: stdev(values) if len(values) > 1 else None for key, values in known.items()}
    lines += [line("mean", "", *format_row(means)), line("spread", "", *format_row(spreads))]
    return "\n".join(lines)


def format_row(row: Dict[str, Any]) -> List[str]:
    """Return the metrics as texts; "-" if one is unknown."""
    return ["-" if row[key] is None else form.format(row[key]) for key, form in FORMS.items()]


def main(files: List[Path]) -> None:
    """Print age MAE, CS@5 and gender accuracy of each FILE, the test.json of a split, then their mean and spread."""
    splits = [(name_split(path), read_metrics(path)) for path in files]
    splits.sort(key=lambda split: int(split[0]) if split[0].isdecimal() else -1)  # a shell puts 10 before 2
    print(format_spread(splits))


if __name__ == "__main__":
    from agedge.cli import run_command

    run_command(main)
