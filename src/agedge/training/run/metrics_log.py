"""The metrics of a run, for its user: log.csv, TensorBoard events, curves.png."""

import contextlib
import csv
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

from agedge.evaluation.plots import plot_curves
from agedge.run_folder import CURVES, EVENTS, LOG, read_log, read_texts
from agedge.safe_write import replacing


class MetricsLog:
    """A row of metrics for each epoch. A resumed run keeps the rows up to the epoch that it resumes from."""

    def __init__(self, folder: Path, first_epoch: int = 0, plot: Callable[[list, Path], None] = plot_curves):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.folder, self.plot = folder, plot
        self.path = folder / LOG
        self.rows: List[Dict[str, Any]] = []
        self.texts: List[Dict[str, Any]] = []  # earlier rows are written again as the same text, not as parsed numbers
        if first_epoch:
            rows, texts = read_log(self.path), read_texts(self.path)
            kept = [at for at, row in enumerate(rows) if row["epoch"] <= first_epoch]
            self.rows, self.texts = [rows[at] for at in kept], [texts[at] for at in kept]
        (folder / EVENTS).mkdir(exist_ok=True)
        # Not SummaryWriter: its thread dies where the disk is full, and the next write then waits for ever.
        self.events = EventsWriter(str(folder / EVENTS / "events"))
        self.events.write_event(Event(step=first_epoch + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, row: Dict[str, Any]) -> Callable[[], None]:
        """Add the metrics of an epoch. Return the function that writes all rows to disk and draws the curves; it may be
        called again where the disk was full."""
        self.rows.append(row)
        self.texts.append(row)
        return lambda: self.write(row)

    def write(self, row: Dict[str, Any]) -> None:
        """Write the table, the metrics of `row` for TensorBoard, and the curves. Raises `OSError`."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        with replacing(self.path, "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(self.rows[-1]), extrasaction="ignore")
            table.writeheader()
            table.writerows(self.texts)
        metrics = {key: value for key, value in row.items() if key != "epoch" and value is not None}
        summary = Summary(value=[Summary.Value(tag=key, simple_value=float(value)) for key, value in metrics.items()])
        self.events.write_event(Event(wall_time=time.time(), step=row["epoch"], summary=summary))
        self.events.flush()
        self.plot(self.rows, self.folder / CURVES)

    def close(self) -> None:
        """Close the TensorBoard events."""
        with contextlib.suppress(OSError):
            self.events.close()
