"""The table of a sweep: values, best epoch, metrics and status of each trial, with the best trial first."""

import csv
import json
from pathlib import Path
from typing import Any, Dict, List

from agedge.errors import AgedgeError
from agedge.run_folder import AVERAGE, LOG, read_log
from agedge.safe_write import replacing

METRICS = ("val_age_mae", "val_gender_acc", "val_ap")
# (metric, sign); the first known metric selects the best epoch
SCORES = (("val_age_mae", 1), ("val_gender_acc", -1), ("val_ap", -1))

Row = Dict[str, Any]


def to_row(folder: Path, values: Dict[str, str], seconds: float, status: str) -> Row:
    """Return the row of the trial in a folder. Its `score` (lower is better) is None if no metric is known."""
    row: Row = {"trial": folder.name, **values, "best_epoch": None, **dict.fromkeys(METRICS), "score": None}
    try:
        epochs = read_log(folder / LOG) + read_average(folder)
    except AgedgeError as error:
        epochs, status = [], f"failed: {error}"
    for key, sign in SCORES:
        known = [epoch for epoch in epochs if epoch.get(key) is not None]
        if known:
            best = min(known, key=lambda epoch: sign * epoch[key])  # noqa: B023  called in this iteration
            row.update({name: best.get(name) for name in METRICS})
            row.update(best_epoch=int(best["epoch"]), score=sign * best[key])
            break
    return {**row, "seconds": seconds, "status": status}


def read_average(folder: Path) -> List[Row]:
    """Return the metrics of the averaged weights (train.swa) as a list of one log row; [] without averaging."""
    try:
        return [json.loads((folder / AVERAGE).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise AgedgeError(f"{folder / AVERAGE}: cannot be read: {error}") from None


def describe_row(row: Row) -> str:
    """Return the status, metrics and seconds of a row as one line."""
    metrics = [f"{key} {row[key]:.4g}" for key in METRICS if row[key] is not None]
    return ", ".join([row["status"], *metrics, f"{row['seconds']:.0f} s"])


def sort_rows(rows: List[Row]) -> List[Row]:
    """Return the rows, best first; failed trials and trials without a score last."""
    return sorted(rows, key=lambda row: (row["status"].startswith("failed"), row["score"] is None, row["score"] or 0))


def columns(rows: List[Row]) -> List[str]:
    """Return the columns of the table, without metrics that no trial has."""
    return [
        key
        for key in rows[0]
        if key not in ("trial", "score") and (key not in METRICS or any(row[key] is not None for row in rows))
    ]


def write_table(rows: List[Row], path: Path) -> None:
    """Write the table as CSV."""
    with replacing(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["trial", *columns(rows)], extrasaction="ignore")
        table.writeheader()
        table.writerows(sort_rows(rows))


def format_table(rows: List[Row]) -> str:
    """Return the table as text."""
    lines = [columns(rows)]
    for row in sort_rows(rows):
        cells = [row[key] for key in lines[0]]
        lines.append(["-" if c is None else f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
