"""The sections of a report: each a list of blocks, or a line that says why it is missing."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from agedge.errors import AgedgeError
from agedge.evaluation.calibration import measure_coverage, measure_reliability
from agedge.evaluation.evaluate import Predictions
from agedge.evaluation.group_plots import plot_confusion
from agedge.evaluation.groups import Groups, find_predicted_groups, measure_groups
from agedge.evaluation.metrics import age_errors, gender_hits
from agedge.evaluation.record_sources import RecordSource
from agedge.evaluation.report import plots
from agedge.evaluation.report.page import Block, Facts, Fold, Heading, Missing, Note, Plots, Table, group_rows
from agedge.evaluation.subgroups import (
    confuse_genders,
    measure_subgroup,
    split_by_age,
    split_by_attribute,
    split_by_gender,
)
from agedge.runtime.card import Card

MOST_BAD = 200  # numbers of unreadable records that are listed
FORMS = {"age_mae": "{:.2f}", "age_bias": "{:+.2f}", "age_cs5": "{:.1%}", "gender_acc": "{:.1%}"}
HEADS = ("faces", "MAE", "bias", "CS@5", "gender")
NO_AGE = "no age is both known and predicted"
NO_GENDER = "no gender is both known and predicted"
CURVES = (  # title, and the lines of the plot: column of log.csv, label, line style
    ("training loss", (("loss", "loss", "-"),)),
    ("age MAE (years)", (("train_age_mae", "train", "--"), ("val_age_mae", "validation", "-"))),
    ("gender accuracy", (("train_gender_acc", "train", "--"), ("val_gender_acc", "validation", "-"))),
    ("learning rate", (("lr", "learning rate", "-"),)),
)


class ReportData(NamedTuple):
    """The data of a report.

    Attributes:
        predictions: for n records.
        metrics: of them, by `measure`.
        groups: the age groups of the tables.
        own: the age groups that the model predicts; [] if it predicts none.
        sources: the record of each prediction.
        rows: the row of NAME.csv of each prediction; {} if there is none.
    """

    predictions: Predictions
    metrics: Dict[str, Any]
    groups: Groups
    own: Groups
    sources: List[RecordSource]
    rows: List[Dict[str, str]]


def format_number(value: Optional[float], form: str = "{}") -> str:
    """Return a number as text, "-" if it is unknown."""
    return "-" if value is None else form.format(value)


def format_metrics(metrics: Dict[str, Any]) -> List[str]:
    """Return the cells below `HEADS`."""
    return [f"{metrics['n']:,}", *(format_number(metrics[key], form) for key, form in FORMS.items())]


def describe_curves(log: List[dict], best: Optional[int]) -> List[Block]:
    """Plot loss, errors and learning rate by epoch, if they were logged. `best`: the epoch that was kept."""
    if not log:
        return [Missing("there is no log.csv of a training run beside this model")]
    images = []
    for name, lines in CURVES:
        lines = [line for line in lines if any(row.get(line[0]) is not None for row in log)]
        if lines:
            images.append((plots.draw_curves(log, lines, name, best), f"{name} by epoch"))
    return [Plots(images), Note("Training errors are those of augmented faces, while the weights still change.")]


def describe_errors(data: ReportData) -> List[Block]:
    """List the errors by age group and gender."""
    labels, ages, p_male = data.predictions.labels, data.predictions.ages, data.predictions.p_male
    genders, by_age = split_by_gender(labels), split_by_age(labels, data.groups)
    groups = []
    for name, inside in [*by_age, ("all", np.ones(len(labels), bool))]:
        if inside.any():
            rows = [(gender, measure_subgroup(labels, ages, p_male, inside & chosen)) for gender, chosen in genders]
            groups.append(
                (name, [(gender, *format_metrics(row)) for gender, row in rows if row["n"] or gender == "all"])
            )
    outside = int((~np.any([inside for _, inside in by_age], axis=0)).sum())
    more = f' {outside} faces, of unknown age or of an interval that lies in no single group, count only in "all".'
    return [
        Table(("age", "", *HEADS), group_rows(groups), texts=2),
        Note(
            "MAE and bias in years; the bias is predicted minus true age. CS@5: share of ages at most 5 years off. "
            "Inside a labelled interval the error is 0, outside it is the distance to it." + (more if outside else "")
        ),
    ]


def describe_bias(data: ReportData) -> List[Block]:
    """Plot predicted against true ages: for exact labels and, in another plot, for intervals."""
    labels, ages = data.predictions.labels, data.predictions.ages
    known = (labels[:, 1] >= 0) & ~np.isnan(ages)
    exact = known & (labels[:, 1] == labels[:, 2])
    images = []
    if exact.any():
        true, errors = labels[exact, 1], age_errors(labels[exact], ages[exact])
        images.append((plots.draw_bias(true, errors), f"predicted minus true age, {exact.sum():,} exact ages"))
        few = f", {plots.MOST_POINTS} of them drawn" if exact.sum() > plots.MOST_POINTS else ""
        images.append((plots.draw_scatter(true, ages[exact]), f"predicted against true age, exact ages{few}"))
    wide = known & ~exact
    if wide.any():
        bounds, counts = np.unique(labels[wide, 1:], axis=0, return_counts=True)
        most = np.sort(np.argsort(-counts, kind="stable")[:12])
        text = f"predicted ages of {wide.sum():,} faces whose label is an interval"
        text += f"; the {len(most)} commonest of {len(bounds)} intervals" if len(bounds) > len(most) else ""
        chosen = [tuple(bounds[index]) for index in most]
        images.append((plots.draw_intervals(labels[wide], ages[wide], chosen), text))
    return [Plots(images)] if images else [Missing(NO_AGE)]


def describe_confusion(data: ReportData) -> List[Block]:
    """Show the confusion matrix of age groups, as a plot and as a table."""
    groups = data.own or data.groups
    if not data.own and data.metrics["age_mae"] is None:
        return [Missing(NO_AGE)]
    try:
        predicted = find_predicted_groups(data.predictions, data.own, groups)
        metrics = measure_groups(data.predictions.labels, predicted, groups)
    except AgedgeError as error:
        return [Missing(str(error))]
    names, counts = [row["group"] for row in metrics["groups"]], np.array(metrics["confusion"])
    if any(metrics["outside"]):
        names, counts = [*names, "none"], np.column_stack([counts, metrics["outside"]])
    rows = [(row["group"], *line) for row, line in zip(metrics["groups"], counts)]
    matrix = plots.to_png(lambda file: plot_confusion(metrics, file))
    left_out = (
        f"{metrics['unknown_age']} of unknown age, {metrics['no_single_group']} whose label lies in no single group"
    )
    return [
        Plots([(matrix, "true age groups in rows, predicted ones in columns")], large=True),
        Note(
            f"Accuracy: {metrics['accuracy']:.1%} of {metrics['n']:,} faces; {metrics['one_off']:.1%} at most one "
            f"group off. Not counted: {left_out}." + (" The groups are the model's own." if data.own else "")
        ),
        Fold("the same as a table", Table(("true", *names), [rows])),
    ]


def describe_genders(data: ReportData) -> List[Block]:
    """Show the confusion of genders, and the accuracy by age."""
    labels, p_male = data.predictions.labels, data.predictions.p_male
    if data.metrics["gender_acc"] is None:
        return [Missing(NO_GENDER)]
    rows = []
    for name, counts in zip(("female", "male"), confuse_genders(labels, p_male)):
        share = f"{counts[name == 'male'] / sum(counts):.1%}" if sum(counts) else "-"
        rows.append((name, *(f"{count:,}" for count in (sum(counts), *counts)), share))
    ages = split_by_age(labels, data.groups)
    shares = [
        (
            gender,
            [
                measure_subgroup(labels, data.predictions.ages, p_male, chosen & inside)["gender_acc"]
                for _, inside in ages
            ],
        )
        for gender, chosen in split_by_gender(labels)[1:]
    ]
    blocks: List[Block] = [Table(("labelled", "faces", "predicted female", "predicted male", "correct"), [rows])]
    if any(value is not None for _, values in shares for value in values):
        text = "gender accuracy by true age; the faces of each bar are in the table above"
        blocks.append(Plots([(plots.draw_gender_by_age([name for name, _ in ages], shares), text)]))
    return blocks


def describe_calibration(data: ReportData, card: Card, calibrated_on: str) -> List[Block]:
    """Compare P(male) with the share that is male, and age intervals with true ages.

    `calibrated_on`: a sentence on the faces that the intervals were calibrated on.
    """
    labels = data.predictions.labels
    blocks: List[Block] = [Heading("P(male)")]
    reliability = measure_reliability(labels, data.predictions.p_male)
    if reliability["bins"]:
        text = f"expected calibration error {reliability['ece']:.3f}, in 10 bins, of {reliability['n']:,} faces"
        blocks.append(Plots([(plots.draw_reliability(reliability["bins"]), text)]))
    else:
        blocks.append(Missing(NO_GENDER))
    blocks.append(Heading("Age intervals"))
    rows = measure_coverage(labels, *card.age_interval(data.predictions.ages.astype(float)), data.groups)
    if not card.interval:
        return [*blocks, Missing("the model's ages have no intervals: it was not calibrated")]
    if not rows[-1]["n"]:
        return [
            *blocks,
            Missing("no exact age is known, and a labelled interval does not tell whether the age is inside"),
        ]
    level = card.interval["level"]
    cells = [
        (row["group"], f"{row['n']:,}", format_number(row["covered"], "{:.1%}"), format_number(row["width"], "{:.1f}"))
        for row in rows
        if row["n"]
    ]
    caption = f"true ages within the model's {level:.0%} interval"
    return [
        *blocks,
        Table(("true age", "faces", "within", "mean width (years)"), [cells], caption),
        Note(
            f"{calibrated_on} An interval is made to hold {level:.0%} of the faces of each predicted age; of each true "
            "age it holds less where the predictions lean to the middle."
        ),
    ]


def describe_races(data: ReportData) -> List[Block]:
    """List the errors by race, as the data set names it."""
    labels, ages, p_male = data.predictions.labels, data.predictions.ages, data.predictions.p_male
    subgroups = split_by_attribute([row.get("race") for row in data.rows])
    if not subgroups:
        return [Missing("no NAME.csv beside the data names a race")]
    rows = [(name, *format_metrics(measure_subgroup(labels, ages, p_male, chosen))) for name, chosen in subgroups]
    images: Sequence[Tuple[Optional[bytes], str]] = (
        (plots.draw_mae_by_subgroup(subgroups, labels, ages), "age MAE (faces in brackets), with 95% intervals"),
        (plots.draw_gender_by_subgroup(subgroups, gender_hits(labels, p_male)), "gender accuracy, with 95% intervals"),
    )
    unnamed = len(labels) - sum(int(chosen.sum()) for _, chosen in subgroups)
    return [
        Table(("race", *HEADS), [rows], "as the data set names it"),
        Plots([(png, text) for png, text in images if png]),
        Note(
            "The subgroups also differ in number, ages and photographs: a difference between them is one of these "
            f"faces, and within overlapping intervals it may be chance. {unnamed} faces belong to no named subgroup."
        ),
    ]


def describe_unreadable(bad: Dict[str, List[int]]) -> List[Block]:
    """List the records that could not be read."""
    if not any(bad.values()):
        return [Note("Every record could be read.")]
    rows = []
    for file, numbers in bad.items():
        more = f" and {len(numbers) - MOST_BAD} more" if len(numbers) > MOST_BAD else ""
        if numbers:
            rows.append((f"{file}, {len(numbers)} records", ", ".join(map(str, numbers[:MOST_BAD])) + more))
    return [Facts(rows)]
