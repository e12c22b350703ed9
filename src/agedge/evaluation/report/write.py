"""report.html: what a model was measured to be, in one file that needs no network, no scripts and no other file."""

import datetime
import json
import logging
from pathlib import Path
from typing import List, NamedTuple, Optional

from agedge import __version__, run_folder
from agedge.errors import AgedgeError
from agedge.evaluation.evaluate import Answers
from agedge.evaluation.metrics import measure
from agedge.evaluation.record_sources import find_origins, find_rows, read_rows
from agedge.evaluation.report import page
from agedge.evaluation.report import sections as parts
from agedge.evaluation.report.worst_faces import tell_worst
from agedge.evaluation.subgroups import choose_groups
from agedge.records import read_info
from agedge.runtime.card import Card
from agedge.runtime.outputs import describe_outputs, group_bounds
from agedge.safe_write import write_text

logger = logging.getLogger(__name__)
DATE = "%Y-%m-%d %H:%M UTC"


class Run(NamedTuple):
    """The training run of a model, as far as it lies beside it: `log.csv` as rows, the recipe as text, and when the
    best epoch was saved."""

    name: str
    log: List[dict]
    recipe: str
    best: Optional[datetime.datetime]


def write_report(
    path: Path, card: Card, answers: Answers, *, labels: str = "auto", calibrated: bool = False, others=()
) -> None:
    """Write `path`, whole or not at all: what the model of `card` said of the records of `answers`.

    `labels`: as `ask` had them. `calibrated`: the card's intervals come from these very answers. `others`: (name, what
    `measure` says) of other data, for the headline. A part without data is a line that says why. Log, recipe and date
    are those of the run in whose folder the model lies. Raises `AgedgeError` where a .rec is not what was answered.
    """
    run = find_run(card)
    own = group_bounds(card.outputs) if answers.groups is not None else []
    origins = find_origins(answers)
    said = parts.Said(
        answers,
        measure(answers.labels, answers.ages, answers.p_male),
        choose_groups(answers.labels),
        own,
        origins,
        find_rows(origins, {file: _read_quietly(read_rows, file, {}) for file in answers.bad}),
    )
    best = card.training.get("best_epoch")
    sections = [
        ("curves", "Training", parts.tell_curves(run.log, best)),
        ("errors", "Error by age and gender", parts.tell_errors(said)),
        ("bias", "Predicted and true age", parts.tell_bias(said)),
        ("confusion", "Confusion of age groups", parts.tell_confusion(said)),
        ("gender", "Gender", parts.tell_genders(said)),
        ("calibration", "Calibration", parts.tell_sureness(said, card, say_calibration(card, answers, calibrated))),
        ("worst", "Worst faces", tell_worst(said, labels, card.crop)),
        ("race", "By race", parts.tell_races(said)),
        ("unread", "Records that could not be read", parts.tell_bad(answers.bad)),
        ("recipe", "Recipe", tell_recipe(run, card)),
    ]
    body = [
        *tell_head(run, card, said, others),
        page.make_contents([(key, title) for key, title, _ in sections]),
        *(page.make_section(*section) for section in sections),
    ]
    text = page.make_page(f"{run.name}: report", body, f"agedge {__version__}, {_now().strftime(DATE)}")
    write_text(path, text)


def find_run(card: Card) -> Run:
    """The run in whose folder `model/card.json` lies; of a model alone, its name and what the card knows."""
    folder = card.folder.parent if card.folder and card.folder.name == run_folder.MODEL else None
    if folder is None or not (folder / run_folder.RECIPE).is_file():
        recipe = card.training.get("recipe")
        return Run(card.name, [], json.dumps(recipe, indent=1) if recipe else "", None)
    saved = folder / run_folder.BEST
    best = datetime.datetime.fromtimestamp(saved.stat().st_mtime, datetime.timezone.utc) if saved.is_file() else None
    recipe = (folder / run_folder.RECIPE).read_text(encoding="utf-8", errors="replace")
    log = [
        row for row in _read_quietly(run_folder.read_log, folder / run_folder.LOG, []) if row.get("epoch") is not None
    ]
    return Run(folder.resolve().name, log, recipe, best)


def tell_head(run: Run, card: Card, said: parts.Said, others) -> List[str]:
    """What was measured, on what, and the figures that count."""
    measured, best = said.measured, card.training.get("best_epoch")
    facts = [
        ("model", say_network(card)),
        ("answers", describe_outputs(card.outputs)),
    ]
    facts += [("data", say_data(file, said)) for file in said.answers.bad]
    if best:
        facts.append(("best epoch", f"{best}" + (f", saved {run.best.strftime(DATE)}" if run.best else "")))
    figures = [
        (name, parts.say(measured[key], form))
        for name, key, form in (
            ("age MAE, years", "age_mae", "{:.2f}"),
            ("at most 5 years off (CS@5)", "age_cs5", "{:.1%}"),
            ("age bias, years", "age_bias", "{:+.2f}"),
            ("gender accuracy", "gender_acc", "{:.1%}"),
            ("faces", "n", "{:,}"),
        )
        if measured[key] is not None
    ]
    head = [f"<h1>{page.escape(run.name)}</h1>", page.make_facts(facts), page.make_figures(figures)]
    rows = [(name, *parts.say_measures(other)) for name, other in others]
    return [*head, page.make_table(("other data", *parts.HEADS), rows)] if rows else head


def say_network(card: Card) -> str:
    """ "mobilenet025 (size 112, age_head distribution (sigma 2.5), ..)"."""
    return say_arguments({"name": card.name, **card.network})


def say_arguments(value) -> str:
    """An argument of a network's builder, or all of them, as words: the name first."""
    if not isinstance(value, dict):
        return str(value)
    inner = ", ".join(f"{key} {say_arguments(its)}" for key, its in value.items() if key != "name")
    return f"{value.get('name', '')} ({inner})".strip() if inner else str(value.get("name", "-"))


def say_data(file: str, said: parts.Said) -> str:
    """ "val.rec: 450 faces; FairFace (...)"."""
    count = sum(origin.file == file for origin in said.origins)
    source = _read_quietly(read_info, file, {}).get("source")
    return f"{file}: {count:,} faces" + (f"; {source}" if source else "")


def say_calibration(card: Card, answers: Answers, calibrated: bool) -> str:
    """Whether the card's intervals come from the faces that they are tried on."""
    if calibrated:
        return (
            "The intervals were calibrated on these very faces: the share of all is near the promise by construction."
        )
    known = card.training.get("validation") or []
    known = known if isinstance(known, list) else [known]
    infos = {file: _read_quietly(read_info, file, {}) for file in answers.bad}
    for entry in known:
        for file, info in infos.items():
            if (Path(file).name, info.get("source")) == (entry.get("file"), entry.get("source")):
                if info.get("count") == entry.get("count"):
                    return f"By name, source and count, {file} is what the intervals were calibrated on: this flatters."
                return (
                    f"{file} has the name and the source of what the intervals were calibrated on, but another number "
                    "of records: they may have faces in common."
                )
    return "The intervals were calibrated on other faces, as far as the model's card tells."


def tell_recipe(run: Run, card: Card) -> List[str]:
    """The recipe, folded, and the terms of the training data."""
    terms = [page.note(f"Terms of the training data: {card.terms}")] if card.terms else []
    if not run.recipe:
        return [page.absent("neither a run nor the model's card tells of a recipe"), *terms]
    return [page.fold("the recipe as resolved", page.make_text(run.recipe)), *terms]


def _read_quietly(read, file, otherwise):
    """What lies beside a .rec or a model is worth a warning where it is damaged, not the end of a long run."""
    try:
        return read(file)
    except AgedgeError as error:
        logger.warning("%s; the report goes without it", error)
        return otherwise


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
