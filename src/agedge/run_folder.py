"""Name the files of a run's folder, `runs/NAME/`, and read those that other commands use."""

import csv
import re
from pathlib import Path
from typing import Any, Dict, List

from agedge.errors import AgedgeError

RECIPE = "recipe.yaml"  # the recipe with all defaults filled in
LOG = "log.csv"  # metrics, a row an epoch
EVENTS = "events"  # folder: the same metrics for TensorBoard
CURVES = "curves.png"  # the same metrics as plots
LAST = "last.ckpt"  # the newest checkpoint; before it last-1.ckpt, last-2.ckpt, ..
BEST = "best.ckpt"  # the checkpoint of the best validation score
CACHE = "cache"  # folder: files that the run can make again
MODEL = "model"  # folder: the finished model with its card.json
REPORT = "report.json"  # validation metrics of the finished model
REPORT_PAGE = "report.html"  # the same as a page, with plots
ERRORS = "errors.png"  # plot of age errors
TEST = "test.json"  # test metrics of the finished model
AVERAGE = "average.json"  # validation metrics of the weights averaged over the last epochs

_LAST_NUMBER = re.compile(r"last-(\d+)\.ckpt")


def last_name(number: int) -> str:
    """Return the name of the checkpoint that is `number` older than the newest: last.ckpt, last-1.ckpt, .."""
    return f"last-{number}.ckpt" if number else LAST


def list_last(folder: Path) -> List[Path]:
    """Return the paths of a run's last checkpoints, newest first; [] where none was saved."""
    numbers = {
        int(found[1]): path for path in folder.glob("last-*.ckpt") if (found := _LAST_NUMBER.fullmatch(path.name))
    }
    newest = folder / LAST
    return [newest] * newest.is_file() + [numbers[number] for number in sorted(numbers)]


def read_log(path: Path) -> List[Dict[str, Any]]:
    """Return the rows of a log.csv, as numbers; [] if there is none. Raises `AgedgeError` if it is damaged."""
    texts = read_texts(path)
    try:
        rows = [{key: float(value) if value else None for key, value in row.items()} for row in texts]
    except (ValueError, TypeError) as error:
        raise AgedgeError(f"{path}: not the log of a run: {error}") from None
    if not all(row.get("epoch") is not None and None not in row for row in rows):
        raise AgedgeError(f"{path}: not the log of a run: a row without an epoch, or with more cells than columns")
    return rows


def read_texts(path: Path) -> List[Dict[str, Any]]:
    """Return the rows of a log.csv as texts; [] if there is none. Raises `AgedgeError` if it is damaged."""
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (ValueError, csv.Error) as error:
        raise AgedgeError(f"{path}: not the log of a run: {error}") from None
