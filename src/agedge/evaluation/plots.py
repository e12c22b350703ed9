"""Plots of a run and of an evaluation, as PNG, drawn without a display."""

import io
from pathlib import Path
from typing import IO, Any, List, Tuple, Union

import numpy as np

from agedge.evaluation.metrics import age_errors
from agedge.results.kinds import mark_image
from agedge.safe_write import write_bytes


def new_figure(columns: int, height: float = 3.6) -> Tuple[Any, Any]:
    """Return a figure and its row of axes, on a canvas that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * columns, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def write_figure(figure: Any, path: Union[str, Path, IO[bytes]], dpi: int = 110, **options: Any) -> None:
    """Write a figure as PNG, whole or not at all; `options` go to `savefig`. Raises `OSError` that names `path`.

    `path` may be an open file.
    """
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi, **options)
    if not isinstance(path, (str, Path)):
        path.write(png.getvalue())
    else:
        write_bytes(path, mark_image(png.getvalue()))


def plot_curves(log: List[dict], path: Path) -> None:
    """Plot loss, age MAE and gender accuracy by epoch, from the rows of log.csv."""
    figure, (loss, age, gender) = new_figure(3)
    epochs = [row["epoch"] for row in log]
    loss.plot(epochs, [row["loss"] for row in log], color="tab:blue")
    loss.set_ylabel("training loss")
    for prefix, style in (("train", "--"), ("val", "-")):
        for axes, key in ((age, "age_mae"), (gender, "gender_acc")):
            axes.plot(epochs, [_number(row.get(f"{prefix}_{key}")) for row in log], style, label=prefix)
    age.set_ylabel("age MAE (years)")
    gender.set_ylabel("gender accuracy")
    for axes in (loss, age, gender):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    age.legend()
    write_figure(figure, path)


def plot_detection_curves(log: List[dict], path: Path) -> None:
    """Plot a detector's losses, recall, precision and average precision by epoch, from the rows of log.csv."""
    figure, (losses, found) = new_figure(2)
    epochs = [row["epoch"] for row in log]
    for key in log[-1]:
        axes = losses if key.endswith("_loss") else found if key.startswith("val_") else None
        if axes:
            label = key.replace("_loss", "").replace("val_", "").replace("_", " ")
            axes.plot(epochs, [_number(row.get(key)) for row in log], label=label)
    for axes in (losses, found):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    losses.set_ylabel("training loss")
    found.set_ylabel("on data.val")
    write_figure(figure, path)


def _number(value: Any) -> float:
    return np.nan if value in (None, "") else value


def plot_errors(labels: np.ndarray, ages: np.ndarray, path: Path) -> None:
    """Plot predicted against true age, and bias and MAE by true age, of faces with an exact and a predicted age."""
    exact = (labels[:, 1] >= 0) & (labels[:, 1] == labels[:, 2]) & ~np.isnan(ages)
    true, predicted = labels[exact, 1], ages[exact]
    errors = age_errors(labels[exact], predicted)
    figure, (scatter, by_age) = new_figure(2, 4.4)
    scatter.scatter(true, predicted, s=5, alpha=0.35, linewidths=0)
    scatter.plot([0, 100], [0, 100], color="black", linewidth=0.8)
    scatter.set(xlabel="true age", ylabel="predicted age", xlim=(0, 100), ylim=(0, 100), aspect="equal")
    decades = range(0, 100, 10)
    chosen = [(true >= first) & (true < first + 10) for first in decades]
    for name, values in (("MAE", np.abs(errors)), ("bias", errors)):
        means = [values[faces].mean() if faces.any() else np.nan for faces in chosen]
        by_age.plot([first + 5 for first in decades], means, "o-", label=name)
    by_age.axhline(0, color="black", linewidth=0.8)
    by_age.set(xlabel="true age", ylabel="years")
    by_age.grid(alpha=0.3)
    by_age.legend()
    write_figure(figure, path)
