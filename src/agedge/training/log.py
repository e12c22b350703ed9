"""What a run leaves for its user to read: log.csv, TensorBoard events, curves.png."""

import csv
from pathlib import Path
from typing import Callable

from agedge.errors import AgedgeError
from agedge.evaluation.plots import plot_curves


class RunLog:
    """A row an epoch. Resumed, it goes on after the rows up to the epoch it starts from."""

    def __init__(self, folder: Path, first_epoch: int = 0, plot=plot_curves):
        from tensorboardX import SummaryWriter

        self.folder, self.plot = folder, plot
        self.path = folder / "log.csv"
        self.rows = [row for row in read_log(self.path) if row["epoch"] <= first_epoch] if first_epoch else []
        self.board = SummaryWriter(str(folder / "events"), purge_step=first_epoch + 1)

    def add(self, row: dict) -> Callable[[], None]:
        """Add an epoch's figures. Returns what writes them to the disk, with all before them, and draws the curves
        anew; it can be called again where the disk was full."""
        self.rows.append(row)
        return lambda: self.write(row)

    def write(self, row: dict) -> None:
        """Write the table up to `row`, an event for each of its figures, and the curves."""
        partial = self.path.with_suffix(".partial")
        with open(partial, "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(self.rows[-1]), extrasaction="ignore")
            table.writeheader()
            table.writerows(self.rows)
        partial.replace(self.path)
        for key, value in row.items():
            if key != "epoch" and value is not None:
                self.board.add_scalar(key, value, row["epoch"])
        self.board.flush()
        self.plot(self.rows, self.folder / "curves.png")

    def close(self) -> None:
        self.board.close()


def read_log(path: Path) -> list:
    """The rows of a log.csv, as numbers; [] where there is none. Raises `AgedgeError` where it is damaged."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        try:
            rows = list(csv.DictReader(file))
            return [{key: float(value) if value else None for key, value in row.items()} for row in rows]
        except (ValueError, TypeError, csv.Error) as error:
            raise AgedgeError(f"{path}: not the log of a run: {error}") from None
