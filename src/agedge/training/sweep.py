"""`train.py --sweep 'optimizer.lr=1e-3,3e-3'`: runs of one recipe with other values, one after the other, and a table.

Ranges are drawn at random, where both ends are above 0 log-uniformly (Bergstra and Bengio, "Random search for
hyper-parameter optimization", 2012).
"""

import copy
import csv
import hashlib
import itertools
import json
import logging
import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from agedge.errors import AgedgeError, UsageError
from agedge.run_folder import AVERAGE, LOG, list_last, read_log
from agedge.safe_write import replacing, write_json
from agedge.training.distributed.launch import collected_signals, end, start, wait_for
from agedge.training.recipe import DEFAULTS, as_plain, lay_over, load_recipe, parse_override

log = logging.getLogger(__name__)

SEED = 0  # of what is drawn: the same command tries the same values
RANGE = re.compile(r"([-+\d.eE]+)\.\.([-+\d.eE]+)$")
FIGURES = ("val_age_mae", "val_gender_acc", "val_ap")
SCORES = (("val_age_mae", 1), ("val_gender_acc", -1), ("val_ap", -1))  # the first that is known chooses the best epoch
LONGEST = 100  # characters of a folder's name


@dataclass(frozen=True)
class Axis:
    """A key and its values as texts, or the ends of a range."""

    key: str
    values: tuple = ()
    ends: Optional[tuple] = None


@dataclass(frozen=True)
class Trial:
    """`values`: {key: text}. `settings`: the recipe as resolved, without its folder; None where it has an `error`."""

    values: dict
    folder: Path
    settings: Optional[dict]
    error: str = ""


def run_sweep(program: list, arguments: list, sweeps: list, trials: int, recipe: Optional[Path], given: list) -> int:
    """Run `program` with `arguments` and the values of every trial, and print and write the table.

    `sweeps`: texts like "train.mixup=0,0.2" or, with a number of `trials`, "optimizer.lr=1e-4..1e-2". `recipe`,
    `given`: the recipe's file and the overrides that `arguments` stand for. The runs and sweep.csv go under the run.dir
    that these give. A trial that was finished with the same settings is not run again; one that was begun is resumed.
    Returns the exit status: 0, 1 where no trial came to its end, 128 + N after signal N. Raises `UsageError` before
    anything starts.
    """
    base = Path(load_recipe(recipe, given).run.dir)
    axes = [parse_axis(text) for text in sweeps]
    plan = plan_trials(combine(axes, trials), base, recipe, given)
    base.mkdir(parents=True, exist_ok=True)
    rows, stopped = [], 0
    for number, trial in enumerate(plan, 1):
        row, stopped = run_trial(program, arguments, trial)
        rows.append(row)
        log.info("%d of %d: %s: %s", number, len(plan), describe(trial.values), say(row))
        write_table(rows, base / "sweep.csv")
        if stopped:
            log.warning("stopped: the same command goes on with the other trials")
            break
    print(format_table(rows))
    if stopped:
        return 128 + stopped
    return 0 if any(row["status"] == "done" for row in rows) else 1


def parse_axis(text: str) -> Axis:
    """Raises `UsageError` where the text is none, and where the recipe has no such key."""
    key, separator, values = text.partition("=")
    if not separator or not values.strip():
        raise UsageError(f"--sweep '{text}': write KEY=VALUE,VALUE or KEY=LOW..HIGH, such as optimizer.lr=1e-3,3e-3")
    if key in ("run.dir", "run"):
        raise UsageError(f"--sweep '{text}': every trial has a folder of its own, under run.dir")
    if found := RANGE.match(values.strip()):
        try:
            low, high = (float(end) for end in found.groups())
        except ValueError:
            raise UsageError(f"--sweep '{text}': two numbers are wanted around '..'") from None
        if not low < high:
            raise UsageError(f"--sweep '{text}': the range must rise")
        axis = Axis(key, (), found.groups())
    else:
        axis = Axis(key, tuple(split_values(values)))
        if len(set(axis.values)) < len(axis.values):
            raise UsageError(f"--sweep '{text}': a value is there twice")
    for value in axis.values or axis.ends:
        lay_over(copy.deepcopy(DEFAULTS), parse_override(f"{key}={value}"), f"--sweep '{text}'")
    return axis


def split_values(text: str) -> list:
    """Values between commas; those in brackets and quotes belong to a value."""
    values, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        if character == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += character
    if depth or quote or not all(value.strip() for value in values):
        raise UsageError(f"--sweep: '{text}': an empty value, or a bracket or quote that is not closed")
    return [value.strip() for value in values]


def combine(axes: list, trials: int) -> list:
    """The values of every trial, {key: text}: all combinations; where there are ranges, `trials` draws from these, with
    the combinations of the other values in turn. Raises `UsageError`."""
    keys = [axis.key for axis in axes]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise UsageError(f"--sweep: {min(twice)} is given twice; write its values into one")
    ranges = [axis for axis in axes if axis.ends]
    if bool(ranges) != bool(trials) or trials < 0:
        reason = "say how many values to draw of a range, by --trials N" if ranges else "--trials: only for a range"
        raise UsageError(f"--sweep: {reason}")
    lists = [axis for axis in axes if not axis.ends]
    combinations = [
        dict(zip([axis.key for axis in lists], values))
        for values in itertools.product(*(axis.values for axis in lists))
    ]
    if not ranges:
        return combinations
    rng = np.random.default_rng(SEED)
    drawn = [{axis.key: draw(axis.ends, rng) for axis in ranges} for _ in range(trials)]
    return [{**combinations[at % len(combinations)], **values} for at, values in enumerate(drawn)]


def draw(ends: tuple, rng) -> str:
    """A number between two, whole where both are."""
    low, high = map(float, ends)
    share = rng.random()
    value = math.exp(math.log(low) + share * math.log(high / low)) if low > 0 else low + share * (high - low)
    whole = all(re.fullmatch(r"[-+]?\d+", end) for end in ends)
    return str(round(value)) if whole else f"{value:.4g}"


def plan_trials(combinations: list, base: Path, recipe: Optional[Path], given: list) -> list:
    """Raises `UsageError` where a folder holds a trial of other settings."""
    plan, names = [], set()
    for values in combinations:
        name = to_name(values)
        while name in names:
            name += "+"
        names.add(name)
        error, settings = "", None
        try:
            settings = as_plain(load_recipe(recipe, [*given, *to_overrides(values)]))
            settings["run"].pop("dir")
        except AgedgeError as problem:
            error = " ".join(str(problem).split())
        trial = Trial(values, base / name, settings, error)
        earlier = read_trial(trial.folder)
        if settings and earlier and (other := difference(earlier["settings"], json.loads(json.dumps(settings)))):
            raise UsageError(f"{trial.folder}: holds a trial with another {other}: give another run.dir, or remove it")
        plan.append(trial)
    return plan


def to_overrides(values: dict) -> list:
    return [f"{key}={value}" for key, value in values.items()]


def to_name(values: dict) -> str:
    """The folder of a trial: sweep-lr=0.001-mixup=0.2."""
    last = [key.rpartition(".")[2] for key in values]
    short = values if len(set(last)) < len(last) else last
    name = "-".join(["sweep", *(f"{key}={value}" for key, value in zip(short, values.values()))])
    name = re.sub(r"[^\w.=+-]+", "_", name).rstrip("_.")
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]}"
    return name


def difference(one: dict, other: dict, section: str = "") -> str:
    """The first key in which two recipes differ; "" where none."""
    for key in {**one, **other}:
        name = f"{section}.{key}" if section else key
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            if deeper := difference(mine, theirs, name):
                return deeper
        elif mine != theirs:
            return name
    return ""


def run_trial(program: list, arguments: list, trial: Trial) -> tuple:
    """(the trial's row of the table, the signal that stopped it or 0)."""
    if trial.error:
        return to_row(trial, 0.0, f"failed: {trial.error}"), 0
    earlier = read_trial(trial.folder) or {"seconds": 0.0, "status": ""}
    if earlier["status"] == "done":
        return to_row(trial, earlier["seconds"], "done"), 0
    trial.folder.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if list_last(trial.folder) else []
    folder = f"run.dir={json.dumps(str(trial.folder), ensure_ascii=False)}"
    command = [*program, "--quiet", *resume, *arguments, *to_overrides(trial.values), folder]
    write_trial(trial, earlier["seconds"], "unfinished")
    began = time.monotonic()
    with open(trial.folder / "log.txt", "ab") as said, collected_signals() as signals:
        child = start(trial.folder.name, command, dict(os.environ), said)
        try:
            wait(child, signals)
        finally:
            end(child)
    seconds = round(earlier["seconds"] + time.monotonic() - began, 1)
    status = "done" if child.status == 0 else "stopped" if signals else f"failed: {find_reason(trial.folder, child)}"
    write_trial(trial, seconds, status)
    return to_row(trial, seconds, status), signals[0] if signals else 0


def wait(child, signals: list) -> None:
    """Until it ends; a first signal is passed on to it, with a second it is left."""
    while child.status is None:
        wait_for([child], 0.2)
        if signals:
            child.process.send_signal(signals[0])
            wait_for([child], math.inf, signals)
            return


def find_reason(folder: Path, child) -> str:
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
    told = [line.partition("error: ")[2] for line in lines if line.startswith("error: ")]
    if told and child.status > 0:
        return told[-1]
    return f"{child.describe_end()}, see {folder / 'log.txt'}"


def read_trial(folder: Path) -> Optional[dict]:
    """{settings, seconds, status} of a trial that was begun in an earlier sweep."""
    try:
        return json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AgedgeError(f"{folder / 'trial.json'}: cannot be read: {error}") from None


def write_trial(trial: Trial, seconds: float, status: str) -> None:
    write_json(trial.folder / "trial.json", {"status": status, "seconds": seconds, "settings": trial.settings})


def to_row(trial: Trial, seconds: float, status: str) -> dict:
    """Values, best epoch and its figures, seconds, status; `score`: smaller is better, None where there is none."""
    row = {"trial": trial.folder.name, **trial.values, "best_epoch": None, **dict.fromkeys(FIGURES), "score": None}
    try:
        epochs = read_log(trial.folder / LOG) + read_average(trial.folder)
    except AgedgeError as error:
        epochs, status = [], f"failed: {error}"
    for key, sign in SCORES:
        known = [epoch for epoch in epochs if epoch.get(key) is not None]
        if known:
            best = min(known, key=lambda epoch: sign * epoch[key])  # noqa: B023  used at once
            row.update({figure: best.get(figure) for figure in FIGURES})
            row.update(best_epoch=int(best["epoch"]), score=sign * best[key])
            break
    return {**row, "seconds": seconds, "status": status}


def read_average(folder: Path) -> list:
    """The figures of the averaged weights (train.swa), if there are any, as a row of the log."""
    try:
        return [json.loads((folder / AVERAGE).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise AgedgeError(f"{folder / AVERAGE}: cannot be read: {error}") from None


def describe(values: dict) -> str:
    return ", ".join(to_overrides(values))


def say(row: dict) -> str:
    figures = [f"{key} {row[key]:.4g}" for key in FIGURES if row[key] is not None]
    return ", ".join([row["status"], *figures, f"{row['seconds']:.0f} s"])


def in_order(rows: list) -> list:
    """The best first; those that failed or have no score last."""
    return sorted(rows, key=lambda row: (row["status"].startswith("failed"), row["score"] is None, row["score"] or 0))


def columns(rows: list) -> list:
    """Figures that no trial has are left out."""
    return [
        key
        for key in rows[0]
        if key not in ("trial", "score") and (key not in FIGURES or any(row[key] is not None for row in rows))
    ]


def write_table(rows: list, path: Path) -> None:
    with replacing(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["trial", *columns(rows)], extrasaction="ignore")
        table.writeheader()
        table.writerows(in_order(rows))


def format_table(rows: list) -> str:
    """The table as text, the best first."""
    lines = [columns(rows)]
    for row in in_order(rows):
        cells = [row[key] for key in lines[0]]
        lines.append(["-" if c is None else f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
