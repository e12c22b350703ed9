"""Two plots of age groups, as PNG: the confusion matrix, and a sheet of faces with their predictions."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, List, Optional, Union

import cv2
import numpy as np

from agedge.crop import Crop
from agedge.evaluation.evaluate import Predictions
from agedge.evaluation.groups import (
    Groups,
    choose_faces,
    collect_faces,
    describe_label,
    describe_prediction,
    find_true_groups,
    name_group,
)
from agedge.evaluation.plots import new_figure, write_figure
from agedge.faces.align import resize_square
from agedge.value_equality import compare_by_value

FACE, GAP, CAPTION, LEFT, TOP = 104, 10, 34, 72, 40  # pixels of the sheet
RED, GREY, INK = "#c62828", "#6a6a6a", "#222222"
RED_RGB = (198, 40, 40)
DPI = 100


@compare_by_value
@dataclass(frozen=True)
class SheetFace:
    """A face of the sheet: its image (h, w, 3) BGR uint8, its true group and age, and the prediction."""

    image: np.ndarray
    group: str
    age: str
    prediction: str
    correct: bool


def plot_confusion(metrics: Dict[str, Any], path: Union[Path, IO[bytes]], title: str = "") -> None:
    """Plot the confusion matrix of `measure_groups`: colours are shares of a row, cells show counts and shares."""
    names = [row["group"] for row in metrics["groups"]]
    counts = np.array(metrics["confusion"])
    heads = list(names)
    if any(metrics["outside"]):
        counts, heads = np.column_stack([counts, metrics["outside"]]), [*names, "none"]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.8, 1.4 + 0.72 * len(heads))
    figure, (axes,) = new_figure(1, side)
    figure.set_size_inches(side * 1.12, side)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        share = shares[row, column]
        percent = f"{share:.0%}" if share >= 0.005 else "<1%"
        text = f"{counts[row, column]}\n{percent}" if counts[row, column] else "0"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if share > 0.55 else INK)
    axes.set_xticks(range(len(heads)), heads)
    axes.set_yticks(range(len(names)), [f"{row['group']}\n({row['n']})" for row in metrics["groups"]])
    axes.set(xlabel="predicted age group", ylabel="true age group (faces)")
    axes.tick_params(length=0)
    text = f"{title}\naccuracy {metrics['accuracy']:.1%} of {metrics['n']:,} faces".strip()
    axes.set_title(text, fontsize=10, parse_math=False)
    figure.colorbar(shown, ax=axes, label="share of the true group", fraction=0.045)
    write_figure(figure, path, bbox_inches="tight")  # the square cells push the axis' name over the edge


def gather_faces(
    predictions: Predictions,
    predicted: np.ndarray,
    own: Groups,
    groups: Groups,
    count: int,
    seed: int,
    size: int,
    labels: str = "auto",
    crop: Optional[Crop] = None,
) -> List[SheetFace]:
    """Return about `count` of the predicted faces, equally many of each true group.

    `size`, `labels`, `crop`: as `predict_records` had them.
    """
    true = find_true_groups(predictions.labels, groups)
    chosen = choose_faces(true, count, seed)
    images = collect_faces(predictions.bad, chosen, size, labels, crop)
    return [
        SheetFace(
            images[position],
            name_group(*groups[true[position]]),
            describe_label(predictions.labels[position]),
            describe_prediction(predictions, position, predicted[position], groups, own),
            bool(predicted[position] == true[position]),
        )
        for position in chosen
    ]


def draw_sheet(faces: List[SheetFace], path: Path, title: str = "") -> None:
    """Write a sheet of faces, with rows by true group; below each face stands the prediction, red where it is wrong."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(face.group for face in faces))
    columns = min(12, max(4, *(sum(face.group == group for face in faces) for group in groups)))
    places, row = [], 0
    for group in groups:
        members = [face for face in faces if face.group == group]
        places += [(face, row + nth // columns, nth % columns) for nth, face in enumerate(members)]
        row += -(-len(members) // columns)
    width, height = LEFT + columns * (FACE + GAP) + GAP, TOP + row * (FACE + CAPTION) + GAP
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.text(GAP, TOP / 2, title, va="center", fontsize=10, color=INK, parse_math=False)
    named = set()
    for face, line, column in places:
        x, y = LEFT + column * (FACE + GAP), TOP + line * (FACE + CAPTION)
        canvas[y : y + FACE, x : x + FACE] = resize_square(face.image, FACE)[..., ::-1]
        if not face.correct:
            cv2.rectangle(canvas, (x, y), (x + FACE - 1, y + FACE - 1), RED_RGB, 4)
        if face.group not in named:
            named.add(face.group)
            axes.text(LEFT - GAP, y + FACE / 2, face.group, ha="right", va="center", fontsize=11, color=INK)
        colour, sign = (INK, "") if face.correct else (RED, "\u2717 ")
        axes.text(x, y + FACE + 8, f"{sign}{face.prediction}", va="center", fontsize=8, color=colour)
        axes.text(x, y + FACE + 20, f"true {face.age}", va="center", fontsize=7, color=GREY)
    axes.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    write_figure(figure, path, DPI)
