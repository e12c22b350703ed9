"""Errors of several splits, with mean and spread: python -m agedge.evaluation.split_summary runs/*-split*/test.json

The spread is the sample standard deviation over the splits: how far one split's figure is from another's.
"""

import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import List

from agedge.errors import AgedgeError

FORMS = {"age_mae": "{:.2f}", "age_cs5": "{:.1%}", "gender_acc": "{:.1%}"}


def read_measures(path: Path) -> dict:
    """The `n` and the measures of FORMS from a JSON of evaluate.py or a run's test.json; a measure may be None. Raises
    `AgedgeError` where the file is missing or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        measures = {key: value[key] for key in ("n", *FORMS)}
    except FileNotFoundError:
        raise AgedgeError(f"{path}: missing") from None
    except (ValueError, KeyError, TypeError):
        raise AgedgeError(f"{path}: not the JSON of an evaluation") from None
    for key, number in measures.items():
        if not (number is None and key in FORMS) and (isinstance(number, bool) or not isinstance(number, (int, float))):
            raise AgedgeError(f"{path}: not the JSON of an evaluation: {key} is {number!r}")
    return measures


def name_split(path: Path) -> str:
    """ "3" for runs/NAME-split3/test.json; the whole path where its folder is not called so."""
    found = re.search(r"-split(\d+)$", path.parent.name)
    return found[1] if found else str(path)


def format_spread(splits: list) -> str:
    """(name, measures) of splits as lines of text: one a split, then mean and spread of what is known."""
    width = max(6, *(len(name) for name, _ in splits))
    line = f"{{:>{width}}} {{:>6}} {{:>6}} {{:>6}} {{:>7}}".format
    lines = [line("split", "faces", "MAE", "CS@5", "gender")]
    lines += [line(name, row["n"], *say(row)) for name, row in splits]
    known = {key: [row[key] for _, row in splits if row[key] is not None] for key in FORMS}
    lines.append(line("mean", "", *say({key: mean(of) if of else None for key, of in known.items()})))
    lines.append(line("spread", "", *say({key: stdev(of) if len(of) > 1 else None for key, of in known.items()})))
    return "\n".join(lines)


def say(row: dict) -> list:
    """The measures as texts; "-" where nothing is known."""
    return ["-" if row[key] is None else form.format(row[key]) for key, form in FORMS.items()]


def main(files: List[Path]) -> None:
    """Age MAE, CS@5 and gender accuracy of every FILE, a split's test.json each, then their mean and spread."""
    splits = [(name_split(path), read_measures(path)) for path in files]
    splits.sort(key=lambda split: int(split[0]) if split[0].isdecimal() else -1)  # a shell puts 10 before 2
    print(format_spread(splits))


if __name__ == "__main__":
    from agedge.cli import run_command

    run_command(main)
