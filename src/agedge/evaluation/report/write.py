"""Write report.html: an evaluation in one file that needs no network, no scripts and no other file."""

import datetime
import json
import logging
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from agedge import __version__, run_folder
from agedge.errors import AgedgeError
from agedge.evaluation.evaluate import Predictions
from agedge.evaluation.metrics import measure
from agedge.evaluation.record_sources import find_rows, find_sources, read_rows_by_number
from agedge.evaluation.report import sections
from agedge.evaluation.report.page import Block, Facts, Fold, Headline, Missing, Note, Section, Table, Text, render_page
from agedge.evaluation.report.sections import ReportData
from agedge.evaluation.report.worst_faces import describe_worst_faces
from agedge.evaluation.subgroups import choose_groups
from agedge.records import read_info
from agedge.runtime.card import Card
from agedge.runtime.outputs import describe_outputs, group_bounds
from agedge.safe_write import write_text

logger = logging.getLogger(__name__)
DATE = "%Y-%m-%d %H:%M UTC"
T = TypeVar("T")


class RunSummary(NamedTuple):
    """The training run of a model, as far as its files lie beside the model: the rows of log.csv, the recipe as text,
    and the time when the best epoch was saved."""

    name: str
    log: List[dict]
    recipe: str
    best: Optional[datetime.datetime]


def write_report(
    path: Path,
    card: Card,
    predictions: Predictions,
    *,
    labels: str = "auto",
    calibrated: bool = False,
    others: Sequence[Tuple[str, dict]] = (),
) -> None:
    """Write the report of a model's predictions to `path`, whole or not at all.

    `labels`: as for `predict_records`. `calibrated`: whether the card's intervals come from these predictions.
    `others`: (name, metrics) of other data, for the headline. A section without data is a line with the reason. Log,
    recipe and date are those of the run in whose folder the model lies. Raises `AgedgeError` if a .rec file has
    changed since the predictions.
    """
    run = find_run(card)
    sources = find_sources(predictions)
    data = ReportData(
        predictions,
        measure(predictions.labels, predictions.ages, predictions.p_male),
        choose_groups(predictions.labels),
        group_bounds(card.outputs) if predictions.groups is not None else [],
        sources,
        find_rows(sources, {file: _read_or_warn(read_rows_by_number, file, {}) for file in predictions.bad}),
    )
    calibrated_on = explain_calibration(card, predictions, calibrated)
    page = [
        Section("curves", "Training", sections.describe_curves(run.log, card.training.get("best_epoch"))),
        Section("errors", "Error by age and gender", sections.describe_errors(data)),
        Section("bias", "Predicted and true age", sections.describe_bias(data)),
        Section("confusion", "Confusion of age groups", sections.describe_confusion(data)),
        Section("gender", "Gender", sections.describe_genders(data)),
        Section("calibration", "Calibration", sections.describe_calibration(data, card, calibrated_on)),
        Section("worst", "Worst faces", describe_worst_faces(data, labels, card.crop)),
        Section("race", "By race", sections.describe_races(data)),
        Section("unread", "Records that could not be read", sections.describe_unreadable(predictions.bad)),
        Section("recipe", "Recipe", describe_recipe(run, card)),
    ]
    footer = f"agedge {__version__}, {_now().strftime(DATE)}"
    write_text(path, render_page(run.name, describe_head(run, card, data, others), page, footer))


def find_run(card: Card) -> RunSummary:
    """Return the run in whose folder `model/card.json` lies; of a model alone, its name and the recipe of its card."""
    folder = card.folder.parent if card.folder and card.folder.name == run_folder.MODEL else None
    if folder is None or not (folder / run_folder.RECIPE).is_file():
        recipe = card.training.get("recipe")
        return RunSummary(card.name, [], json.dumps(recipe, indent=1) if recipe else "", None)
    saved = folder / run_folder.BEST
    best = datetime.datetime.fromtimestamp(saved.stat().st_mtime, datetime.timezone.utc) if saved.is_file() else None
    recipe = (folder / run_folder.RECIPE).read_text(encoding="utf-8", errors="replace")
    log = _read_or_warn(run_folder.read_log, folder / run_folder.LOG, [])
    return RunSummary(folder.resolve().name, log, recipe, best)


def describe_head(run: RunSummary, card: Card, data: ReportData, others: Sequence[Tuple[str, dict]]) -> List[Block]:
    """List the model, the data and the most important metrics."""
    metrics, best = data.metrics, card.training.get("best_epoch")
    facts = [
        ("model", describe_network(card)),
        ("outputs", describe_outputs(card.outputs)),
    ]
    facts += [("data", describe_data(file, data)) for file in data.predictions.bad]
    if best:
        facts.append(("best epoch", f"{best}" + (f", saved {run.best.strftime(DATE)}" if run.best else "")))
    headline = [
        (name, sections.format_number(metrics[key], form))
        for name, key, form in (
            ("age MAE, years", "age_mae", "{:.2f}"),
            ("at most 5 years off (CS@5)", "age_cs5", "{:.1%}"),
            ("age bias, years", "age_bias", "{:+.2f}"),
            ("gender accuracy", "gender_acc", "{:.1%}"),
            ("faces", "n", "{:,}"),
        )
        if metrics[key] is not None
    ]
    head: List[Block] = [Facts(facts), Headline(headline)]
    rows = [(name, *sections.format_metrics(other)) for name, other in others]
    return [*head, Table(("other data", *sections.HEADS), [rows])] if rows else head


def describe_network(card: Card) -> str:
    """Return "mobilenet025 (size 112, age_head distribution (sigma 2.5), ..)"."""
    return describe_arguments({"name": card.name, **card.network})


def describe_arguments(value: Any) -> str:
    """Return an argument of a network, or a mapping of them, as text: the name first."""
    if not isinstance(value, dict):
        return str(value)
    inner = ", ".join(f"{key} {describe_arguments(argument)}" for key, argument in value.items() if key != "name")
    return f"{value.get('name', '')} ({inner})".strip() if inner else str(value.get("name", "-"))


def describe_data(file: str, data: ReportData) -> str:
    """Return "val.rec: 450 faces; FairFace (...)"."""
    count = sum(record.file == file for record in data.sources)
    data_set = _read_or_warn(read_info, file, {}).get("source")
    return f"{file}: {count:,} faces" + (f"; {data_set}" if data_set else "")


def explain_calibration(card: Card, predictions: Predictions, calibrated: bool) -> str:
    """Return a sentence on whether the card's intervals come from the faces that they are tested on."""
    if calibrated:
        return (
            "The intervals were calibrated on these very faces, so the share of all is near its target by construction."
        )
    known = card.training.get("validation") or []
    known = known if isinstance(known, list) else [known]
    infos = {file: _read_or_warn(read_info, file, {}) for file in predictions.bad}
    for entry in known:
        for file, info in infos.items():
            if (Path(file).name, info.get("source")) == (entry.get("file"), entry.get("source")):
                if info.get("count") == entry.get("count"):
                    return (
                        f"By name, source and count, {file} is what the intervals were calibrated on: the shares are "
                        "optimistic."
                    )
                return (
                    f"{file} has the name and the source of what the intervals were calibrated on, but another number "
                    "of records: they may have faces in common."
                )
    return "The intervals were calibrated on other faces, as far as the model's card shows."


def describe_recipe(run: RunSummary, card: Card) -> List[Block]:
    """Show the recipe, folded, and the terms of the training data."""
    terms: List[Block] = [Note(f"Terms of the training data: {card.terms}")] if card.terms else []
    if not run.recipe:
        return [Missing("neither a run nor the model's card contains a recipe"), *terms]
    return [Fold("the recipe with all defaults", Text(run.recipe)), *terms]


def _read_or_warn(read: Callable[[Any], T], file: Any, default: T) -> T:
    """Return the result of `read(file)`; a damaged file is logged as a warning and does not stop the report."""
    try:
        return read(file)
    except AgedgeError as error:
        logger.warning("%s; the report leaves it out", error)
        return default


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
