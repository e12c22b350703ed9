"""The parts of a report: each a list of pieces of HTML, or the line that says why it is left out."""

from typing import Dict, List, NamedTuple, Optional

import numpy as np

from agedge.errors import AgedgeError
from agedge.evaluation.calibration import measure_coverage, measure_reliability
from agedge.evaluation.evaluate import Answers
from agedge.evaluation.group_plots import plot_confusion
from agedge.evaluation.groups import Groups, find_said_groups, measure_groups
from agedge.evaluation.metrics import age_errors, gender_hits
from agedge.evaluation.record_sources import Origin
from agedge.evaluation.report import page, plots
from agedge.evaluation.subgroups import confuse_genders, measure_part, split_by_age, split_by_gender, split_by_word

MOST_BAD = 200  # numbers of unreadable records that are written out
FORMS = {"age_mae": "{:.2f}", "age_bias": "{:+.2f}", "age_cs5": "{:.1%}", "gender_acc": "{:.1%}"}
HEADS = ("faces", "MAE", "bias", "CS@5", "gender")
NO_AGE = "no age is both known and said"
NO_GENDER = "no gender is both known and said"
Row = Dict[str, str]  # of NAME.csv


class Said(NamedTuple):
    """What is reported on: the `answers` (n), the `measure` of them, the age `groups` that they are told apart by and
    the model's `own` ones ([] if none), and of each answer its record and its row of NAME.csv."""

    answers: Answers
    measured: dict
    groups: Groups
    own: Groups
    origins: List[Origin]
    rows: List[Row]


def say(value: Optional[float], form: str = "{}") -> str:
    """A number as text, "-" where it is unknown."""
    return "-" if value is None else form.format(value)


def say_measures(measured: dict) -> list:
    """The cells below `HEADS`."""
    return [f"{measured['n']:,}", *(say(measured[key], form) for key, form in FORMS.items())]


def tell_curves(log: List[dict], best: Optional[int]) -> List[str]:
    """Loss, errors and learning rate by epoch, of those that were logged."""
    if not log:
        return [page.absent("there is no log.csv of a training run beside this model")]
    wanted = (
        ("training loss", (("loss", "loss", "-"),)),
        ("age MAE (years)", (("train_age_mae", "train", "--"), ("val_age_mae", "validation", "-"))),
        ("gender accuracy", (("train_gender_acc", "train", "--"), ("val_gender_acc", "validation", "-"))),
        ("learning rate", (("lr", "learning rate", "-"),)),
    )
    pictures = []
    for name, lines in wanted:
        lines = [line for line in lines if any(row.get(line[0]) is not None for row in log)]
        if lines:
            pictures.append((plots.draw_curves(log, lines, name, best), f"{name} by epoch"))
    return [
        page.make_plots(pictures),
        page.note("Training errors are of augmented faces, while the weights still change."),
    ]


def tell_errors(said: Said) -> List[str]:
    """By age group and gender."""
    labels, ages, p_male = said.answers.labels, said.answers.ages, said.answers.p_male
    genders = split_by_gender(labels)
    groups = []
    for name, inside in [*split_by_age(labels, said.groups), ("all", np.ones(len(labels), bool))]:
        if inside.any():
            parts = [(who, measure_part(labels, ages, p_male, inside & chosen)) for who, chosen in genders]
            groups.append((name, [(who, *say_measures(row)) for who, row in parts if row["n"] or who == "all"]))
    nowhere = int((~np.any([inside for _, inside in split_by_age(labels, said.groups)], axis=0)).sum())
    more = f' {nowhere} faces, of unknown age or of an interval that lies in no single group, are in "all" alone.'
    return [
        page.make_grouped_table(("age", "", *HEADS), groups),
        page.note(
            "MAE and bias in years; the bias is predicted minus true age. CS@5: share of ages at most 5 years off. "
            "Within a labelled interval the error is 0, outside it is the distance to it." + (more if nowhere else "")
        ),
    ]


def tell_bias(said: Said) -> List[str]:
    """Predicted and true ages, exact labels and intervals each in their own way."""
    labels, ages = said.answers.labels, said.answers.ages
    known = (labels[:, 1] >= 0) & ~np.isnan(ages)
    exact = known & (labels[:, 1] == labels[:, 2])
    pictures = []
    if exact.any():
        true, errors = labels[exact, 1], age_errors(labels[exact], ages[exact])
        pictures.append((plots.draw_bias(true, errors), f"predicted minus true age, {exact.sum():,} exact ages"))
        few = f", {plots.MOST_POINTS} of them drawn" if exact.sum() > plots.MOST_POINTS else ""
        pictures.append((plots.draw_scatter(true, ages[exact]), f"predicted against true age, exact ages{few}"))
    wide = known & ~exact
    if wide.any():
        bounds, counts = np.unique(labels[wide, 1:], axis=0, return_counts=True)
        most = np.sort(np.argsort(-counts, kind="stable")[:12])
        text = f"predicted ages of {wide.sum():,} faces whose label is an interval"
        text += f"; the {len(most)} commonest of {len(bounds)} intervals" if len(bounds) > len(most) else ""
        chosen = [tuple(bounds[index]) for index in most]
        pictures.append((plots.draw_intervals(labels[wide], ages[wide], chosen), text))
    return [page.make_plots(pictures)] if pictures else [page.absent(NO_AGE)]


def tell_confusion(said: Said) -> List[str]:
    """Which age group was said instead of which."""
    groups = said.own or said.groups
    if not said.own and said.measured["age_mae"] is None:
        return [page.absent(NO_AGE)]
    try:
        measured = measure_groups(said.answers.labels, find_said_groups(said.answers, said.own, groups), groups)
    except AgedgeError as error:
        return [page.absent(str(error))]
    names, counts = [row["group"] for row in measured["groups"]], np.array(measured["confusion"])
    if any(measured["outside"]):
        names, counts = [*names, "none"], np.column_stack([counts, measured["outside"]])
    rows = [(row["group"], *line) for row, line in zip(measured["groups"], counts)]
    shown = "true age groups in rows, said ones in columns"
    left_out = (
        f"{measured['unknown_age']} of unknown age, {measured['no_single_group']} whose label lies in no single group"
    )
    return [
        page.make_plots([(plots.to_png(lambda file: plot_confusion(measured, file)), shown)], "plot large"),
        page.note(
            f"Right: {measured['accuracy']:.1%} of {measured['n']:,} faces; {measured['one_off']:.1%} at most one "
            f"group off. Not counted: {left_out}." + (" The groups are the model's own." if said.own else "")
        ),
        page.fold("the same as a table", page.make_table(("true", *names), rows)),
    ]


def tell_genders(said: Said) -> List[str]:
    """Accuracy by age, and which gender was said instead of which."""
    labels, p_male = said.answers.labels, said.answers.p_male
    if said.measured["gender_acc"] is None:
        return [page.absent(NO_GENDER)]
    rows = []
    for name, counts in zip(("female", "male"), confuse_genders(labels, p_male)):
        share = f"{counts[name == 'male'] / sum(counts):.1%}" if sum(counts) else "-"
        rows.append((name, *(f"{count:,}" for count in (sum(counts), *counts)), share))
    ages = split_by_age(labels, said.groups)
    shares = [
        (who, [measure_part(labels, said.answers.ages, p_male, chosen & inside)["gender_acc"] for _, inside in ages])
        for who, chosen in split_by_gender(labels)[1:]
    ]
    pieces = [page.make_table(("labelled", "faces", "said female", "said male", "right"), rows)]
    if any(value is not None for _, values in shares for value in values):
        text = "gender accuracy by true age; the faces of each bar are in the table above"
        pieces.append(page.make_plots([(plots.draw_gender_by_age([name for name, _ in ages], shares), text)]))
    return pieces


def tell_sureness(said: Said, card, origin: str) -> List[str]:
    """P(male) against how often it is right, and age intervals against true ages. `origin`: what the intervals were
    calibrated on, a sentence."""
    pieces = [page.heading("P(male)")]
    reliable = measure_reliability(said.answers.labels, said.answers.p_male)
    if reliable["bins"]:
        text = f"expected calibration error {reliable['ece']:.3f}, in 10 bins, of {reliable['n']:,} faces"
        pieces.append(page.make_plots([(plots.draw_reliability(reliable["bins"]), text)]))
    else:
        pieces.append(page.absent(NO_GENDER))
    pieces.append(page.heading("Age intervals"))
    rows = measure_coverage(said.answers.labels, *card.age_interval(said.answers.ages.astype(float)), said.groups)
    if not card.interval:
        return [*pieces, page.absent("the model's ages have no intervals: it was not calibrated")]
    if not rows[-1]["n"]:
        return [*pieces, page.absent("no exact age is known, and of an interval nobody can say whether the age is in")]
    level = card.interval["level"]
    cells = [
        (r["group"], f"{r['n']:,}", say(r["covered"], "{:.1%}"), say(r["width"], "{:.1f}")) for r in rows if r["n"]
    ]
    caption = f"true ages within the model's {level:.0%} interval"
    return [
        *pieces,
        page.make_table(("true age", "faces", "within", "mean width (years)"), cells, caption),
        page.note(
            f"{origin} An interval is made to hold {level:.0%} of the faces of each predicted age; of each true age it "
            "holds less where the model leans to the middle."
        ),
    ]


def tell_races(said: Said) -> List[str]:
    """By race, as the data set names it."""
    labels, ages, p_male = said.answers.labels, said.answers.ages, said.answers.p_male
    parts = split_by_word([row.get("race") for row in said.rows])
    if not parts:
        return [page.absent("no NAME.csv beside the data says a race")]
    rows = [(name, *say_measures(measure_part(labels, ages, p_male, chosen))) for name, chosen in parts]
    pictures = [
        (plots.draw_mae_by_part(parts, labels, ages), "age MAE (faces in brackets), with 95% intervals"),
        (plots.draw_gender_by_part(parts, gender_hits(labels, p_male)), "gender accuracy, with 95% intervals"),
    ]
    unsaid = len(labels) - sum(int(chosen.sum()) for _, chosen in parts)
    return [
        page.make_table(("race", *HEADS), rows, "as the data set names it"),
        page.make_plots([(png, text) for png, text in pictures if png]),
        page.note(
            "The parts differ in number, ages and photographs too; a difference between them is of these faces, and "
            f"within overlapping intervals it may be chance. {unsaid} faces are of no named part."
        ),
    ]


def tell_bad(bad: Dict[str, List[int]]) -> List[str]:
    """The records that no one could read."""
    if not any(bad.values()):
        return [page.note("Every record could be read.")]
    rows = []
    for file, numbers in bad.items():
        more = f" and {len(numbers) - MOST_BAD} more" if len(numbers) > MOST_BAD else ""
        if numbers:
            rows.append((f"{file}, {len(numbers)} records", ", ".join(map(str, numbers[:MOST_BAD])) + more))
    return [page.make_facts(rows)]
