"""Plot what .rec files hold: a histogram of ages stacked by gender, and a sheet of faces by age."""

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import cv2
import numpy as np

from agedge.cli import printable
from agedge.faces.align import resize_square
from agedge.labels import FEMALE, MALE, MAX_AGE, UNKNOWN
from agedge.recordio import read_frames, unpack_image
from agedge.results.kinds import mark_image
from agedge.safe_write import write_bytes
from agedge.sources import decode_image
from rec_tools.records.scan import FileScan
from rec_tools.records.summary import GENDERS, format_age

COLOURS = {FEMALE: "#be2896", MALE: "#1478d6", UNKNOWN: "#9a9a9a"}
# The ages at which the columns of the sheet begin: the groups of most data sets.
STARTS = (0, 3, 10, 20, 30, 40, 50, 60, 70)
EACH = 3  # rows per gender
FACE, CAPTION, LEFT, TOP, BETWEEN = 96, 18, 74, 44, 6  # pixels
STEP = FACE + 4
PAPER, INK, PALE = (255, 255, 255), (40, 40, 40), (130, 130, 130)


def plot_ages(scans: Sequence[FileScan], path: Path) -> None:
    """Write a histogram per file: faces per year of age, stacked by gender. An interval is spread over its years."""
    from agedge.evaluation.plots import new_figure, write_figure

    figure, rows = new_figure(2 * len(scans), 3.8)
    for empty in rows[len(scans) :]:
        empty.remove()
    grid = figure.add_gridspec(1, len(scans))
    for column, (scan, axes) in enumerate(zip(scans, rows)):
        axes.set_subplotspec(grid[column])
        below, years = np.zeros(MAX_AGE + 1), np.arange(MAX_AGE + 1)
        for gender, name in GENDERS.items():
            faces = spread_ages(scan.labels[scan.labels[:, 0] == gender])
            if faces.any():
                axes.bar(years, faces, 1.0, below, align="edge", color=COLOURS[gender], label=name)
                below += faces
        known = scan.labels[:, 1] >= 0
        grouped = (scan.labels[:, 1] < scan.labels[:, 2]).any()
        spread = "; groups are spread evenly" if grouped else ""
        title = f"{name_file(scan.path)}: {known.sum():,} faces of known age{spread}"
        axes.set_title(title, fontsize=10, parse_math=False)
        axes.set(xlabel="age (years)", ylabel="faces per year of age")
        axes.set_xlim(0, max(10, np.flatnonzero(below).max(initial=0) + 2))
        axes.set_ylim(0, 1.05 * max(1, below.max()))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        if known.any():
            axes.legend(frameon=False)
    write_figure(figure, path)


def spread_ages(labels: np.ndarray) -> np.ndarray:
    """Return the number of faces per year of age (121,), from labels (n, 3); an interval counts in equal shares."""
    known = labels[labels[:, 1] >= 0, 1:]
    low, high = np.floor(known).astype(int).T
    steps = np.zeros(MAX_AGE + 2)
    np.add.at(steps, low, 1 / (high - low + 1))
    np.add.at(steps, high + 1, -1 / (high - low + 1))
    return np.cumsum(steps)[: MAX_AGE + 1].clip(0)


def draw_faces(scans: Sequence[FileScan], path: Path) -> None:
    """Write a sheet of faces as PNG: a column per age, a few rows per gender, and below each face its label."""
    sheets = [draw_sheet(scan) for scan in scans]
    width = max(sheet.shape[1] for sheet in sheets)
    sheets = [np.pad(sheet, ((0, 0), (0, width - sheet.shape[1]), (0, 0)), constant_values=255) for sheet in sheets]
    write_bytes(path, mark_image(cv2.imencode(".png", np.concatenate(sheets))[1].tobytes()))


def draw_sheet(scan: FileScan) -> np.ndarray:
    """Draw the sheet of one file, BGR uint8."""
    chosen = choose_faces(scan)
    columns = sorted({column for _, column in chosen})
    rows = {
        gender: max((len(chosen[place]) for place in chosen if place[0] == gender), default=0) for gender in GENDERS
    }
    height = TOP + sum(count * (FACE + CAPTION) + BETWEEN for count in rows.values() if count)
    sheet = np.full((height, LEFT + max(6, len(columns)) * STEP, 3), PAPER, np.uint8)
    _write(sheet, f"{name_file(scan.path)}: {len(scan.labels):,} records", (8, 16), INK)
    for place, column in enumerate(columns):
        _write(sheet, name_column(column), (LEFT + place * STEP, TOP - 8), INK)
    spots, top = {}, TOP
    for gender, count in rows.items():
        if count:
            _write(sheet, GENDERS[gender], (8, top + FACE // 2), INK)
        for place, column in enumerate(columns):
            for nth, number in enumerate(chosen.get((gender, column), ())):
                spots[number] = (LEFT + place * STEP, top + nth * (FACE + CAPTION))
        top += count * (FACE + CAPTION) + BETWEEN * bool(count)
    # Stop after the last of them: the file may be damaged further on.
    for number, (_, record) in zip(range(max(spots, default=-1) + 1), read_frames(scan.path)):
        if number in spots:
            x, y = spots[number]
            sheet[y : y + FACE, x : x + FACE] = resize_square(decode_image(unpack_image(record)[2]), FACE)
            age = format_age(*scan.labels[number, 1:].tolist())
            _write(sheet, f"{age} #{number}", (x, y + FACE + 13), PALE, 0.36)
    return sheet


def choose_faces(scan: FileScan) -> Dict[Tuple[int, int], List[int]]:
    """Choose up to `EACH` record numbers for every (gender, column).

    They are those with the smallest digests, so they do not depend on the file's order. No image is chosen twice. An
    interval goes to the column where it begins, an unknown age to the last column.
    """
    _, first = np.unique(scan.digests, return_index=True)  # in the order of the digests
    chosen: Dict[Tuple[int, int], List[int]] = {}
    for number in scan.numbers[first].tolist():
        gender, low, _ = scan.labels[number].tolist()
        column = int(np.searchsorted(STARTS, low, side="right")) - 1 if low >= 0 else len(STARTS)
        faces = chosen.setdefault((int(gender), column), [])
        if len(faces) < EACH:
            faces.append(number)
    return chosen


def name_column(column: int) -> str:
    """Return the heading of a column."""
    if column == len(STARTS):
        return "age unknown"
    return f"{STARTS[column]}-{STARTS[column + 1] - 1}" if column + 1 < len(STARTS) else f"{STARTS[column]} and over"


def name_file(path: Path) -> str:
    """Return a file's name with its folder's: splits of different packs often have the same name."""
    return printable("/".join(path.absolute().parts[-2:]))  # bytes that are not UTF-8 cannot be drawn


def _write(sheet: np.ndarray, text: str, at: tuple, colour: tuple, scale: float = 0.42) -> None:
    cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
