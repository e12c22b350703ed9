"""The plots of a report: PNGs of one panel each, so that a phone can show them below each other."""

import io
from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from agedge.evaluation.calibration import share_interval
from agedge.evaluation.groups import name_group
from agedge.evaluation.metrics import age_errors
from agedge.evaluation.plots import new_figure
from agedge.evaluation.subgroups import Subgroup

DPI = 120
MOST_POINTS = 5000  # of the scatter: more hide each other, and the file grows
FEW = 5  # faces, below which quantiles mean nothing
BLUE, ORANGE, GREY = "tab:blue", "tab:orange", "#777777"


def to_png(save: Callable[[io.BytesIO], object]) -> bytes:
    """Return what `save(file)` writes, such as `plot_confusion` with the file as its path."""
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def _finish(figure: Any) -> bytes:
    return to_png(lambda file: figure.savefig(file, dpi=DPI))


def draw_curves(log: Sequence[dict], lines: Sequence[tuple], name: str, best: Optional[int]) -> bytes:
    """Plot columns of log.csv by epoch. `lines`: (column, label, line style); `best`: the epoch that was kept."""
    figure, (axes,) = new_figure(1)
    epochs = [row["epoch"] for row in log]
    mark = "o" if len(log) == 1 else ""
    for column, label, style in lines:
        values = [np.nan if row.get(column) is None else row[column] for row in log]
        axes.plot(epochs, values, style, marker=mark, label=label)
    if best:
        axes.axvline(best, color=GREY, linewidth=1.2, linestyle=":", label=f"epoch {best}, kept")
    axes.set(xlabel="epoch", ylabel=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _finish(figure)


def draw_scatter(true: np.ndarray, predicted: np.ndarray) -> bytes:
    """Plot predicted ages (n,) against exact true ages (n,), of a random 5,000 where there are more."""
    if len(true) > MOST_POINTS:
        chosen = np.random.RandomState(0).permutation(len(true))[:MOST_POINTS]
        true, predicted = true[chosen], predicted[chosen]
    figure, (axes,) = new_figure(1, 4.0)
    end = max(100, float(true.max()), float(predicted.max())) + 2
    axes.scatter(true, predicted, s=6, alpha=0.35, linewidths=0, color=BLUE)
    axes.plot([0, end], [0, end], color="black", linewidth=0.8)
    axes.set(xlabel="true age (years)", ylabel="predicted age (years)", xlim=(0, end), ylim=(0, end), aspect="equal")
    axes.grid(alpha=0.3)
    return _finish(figure)


def draw_bias(true: np.ndarray, errors: np.ndarray) -> bytes:
    """Plot predicted minus true age by ten years of exact true age (n,): mean, and the middle 80% of the faces."""
    figure, (axes,) = new_figure(1, 4.0)
    decades = [decade for decade in range(0, 121, 10) if ((true >= decade) & (true < decade + 10)).any()]
    members = [errors[(true >= decade) & (true < decade + 10)] for decade in decades]
    enough = [values if len(values) >= FEW else np.full(1, np.nan) for values in members]
    low, high = (np.array([np.quantile(values, tail) for values in enough]) for tail in (0.1, 0.9))
    middles = [decade + 5 for decade in decades]
    axes.fill_between(middles, low, high, alpha=0.2, color=BLUE, linewidth=0, label="middle 80% of the faces")
    axes.plot(middles, [values.mean() for values in members], "o-", color=BLUE, label="mean: the bias")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(middles, [f"{decade}s\n{len(values)}" for decade, values in zip(decades, members)], fontsize=8)
    axes.set(xlabel="true age (faces below)", ylabel="predicted minus true (years)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _finish(figure)


def draw_intervals(labels: np.ndarray, ages: np.ndarray, bounds: Sequence[tuple]) -> bytes:
    """Plot predicted ages (n,) of faces whose label (n, 3) is one of the intervals `bounds`, beside the interval.

    Boxes reach to the quartiles, whiskers over the middle 90%.
    """
    figure, (axes,) = new_figure(1, 4.0)
    names, boxes = [], []
    for place, (low, high) in enumerate(bounds):
        chosen = (labels[:, 1] == low) & (labels[:, 2] == high)
        boxes.append(ages[chosen])
        names.append(f"{name_group(int(low), int(high))}\n{chosen.sum()}")
        label = "the label" if not place else None
        axes.bar(place, high - low + 1, 0.86, bottom=low, color=ORANGE, alpha=0.25, linewidth=0, label=label)
    style = {"color": BLUE}
    axes.boxplot(
        boxes,
        positions=range(len(boxes)),
        widths=0.5,
        whis=(5, 95),
        showfliers=False,
        boxprops=style,
        whiskerprops=style,
        capprops=style,
        medianprops=style,
    )
    axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="labelled age (faces below)", ylabel="predicted age (years)", ylim=(0, 121))
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8)
    return _finish(figure)


def draw_gender_by_age(names: List[str], shares: List[tuple]) -> bytes:
    """Plot the gender accuracy by age group; `shares`: ("female", a share or None for each group), and so on."""
    figure, (axes,) = new_figure(1)
    places, width = np.arange(len(names)), 0.8 / len(shares)
    for nth, (label, values) in enumerate(shares):
        heights = [np.nan if value is None else value for value in values]
        axes.bar(places + (nth - (len(shares) - 1) / 2) * width, heights, width, label=label, color=(ORANGE, BLUE)[nth])
    axes.set_xticks(places, names, fontsize=8)
    axes.set(xlabel="true age", ylabel="gender accuracy", ylim=(0, 1))
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(shares), frameon=False)
    return _finish(figure)


def draw_reliability(bins: List[dict]) -> bytes:
    """Plot the share labelled male against the mean P(male), by the bins of `measure_reliability`."""
    figure, (axes,) = new_figure(1, 4.0)
    counts = axes.twinx()
    middles = [(row["low"] + row["high"]) / 2 for row in bins]
    counts.bar(middles, [row["n"] for row in bins], 0.09, color=GREY, alpha=0.25, linewidth=0)
    counts.set_ylabel("faces (grey)")
    counts.set_ylim(0, max(row["n"] for row in bins) * 1.05)
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axes.plot([row["predicted"] for row in bins], [row["male"] for row in bins], "o-", color=BLUE)
    axes.set(xlabel="mean P(male)", ylabel="share labelled male", xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.set_zorder(counts.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.grid(alpha=0.3)
    return _finish(figure)


def draw_mae_by_subgroup(subgroups: Sequence[Subgroup], labels: np.ndarray, ages: np.ndarray) -> Optional[bytes]:
    """Plot the age MAE of subgroups with the 95% interval of each mean. Return None if no error is known."""
    errors = np.abs(age_errors(labels, ages))
    values = [(name, errors[chosen][~np.isnan(errors[chosen])]) for name, chosen in subgroups]
    values = [(name, known) for name, known in values if len(known)]
    reach = [1.96 * known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else np.nan for _, known in values]
    means = [known.mean() for _, known in values]
    names = [f"{name} ({len(known)})" for name, known in values]
    return _draw_bars(names, means, [reach, reach], "age MAE (years)") if values else None


def draw_gender_by_subgroup(subgroups: Sequence[Subgroup], hits: np.ndarray) -> Optional[bytes]:
    """Plot the gender accuracy of subgroups, from `gender_hits` (n,), with 95% intervals. Return None without any."""
    values = [(name, hits[chosen][~np.isnan(hits[chosen])]) for name, chosen in subgroups]
    values = [(name, known) for name, known in values if len(known)]
    means = np.array([known.mean() for _, known in values])
    bounds = np.array([share_interval(known) for _, known in values]).reshape(-1, 2)
    names = [f"{name} ({len(known)})" for name, known in values]
    reach = np.maximum([means - bounds[:, 0], bounds[:, 1] - means], 0)
    return _draw_bars(names, means, reach, "gender accuracy", 1) if values else None


def _draw_bars(names: List[str], means: Any, reach: Any, what: str, end: Optional[float] = None) -> bytes:
    figure, (axes,) = new_figure(1, 1.2 + 0.32 * len(names))
    places = np.arange(len(names))[::-1]
    axes.barh(places, means, 0.65, xerr=reach, color=BLUE, alpha=0.75, error_kw={"linewidth": 1, "capsize": 2})
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel(what)
    axes.set_xlim(0, end)
    axes.grid(alpha=0.3, axis="x")
    return _finish(figure)
