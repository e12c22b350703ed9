"""`train.py --sweep optimizer.lr=1e-3,3e-3`: run a recipe with several values, one after another, and write a table.

An Optuna study samples the values: all combinations of lists; ranges at random, log-uniformly if they are above 0
(Bergstra and Bengio, "Random search for hyper-parameter optimization", 2012).
"""

import copy
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
from typing import Any, Dict, List, Optional, Sequence, Tuple

from agedge.errors import AgedgeError, UsageError
from agedge.run_folder import list_last
from agedge.safe_write import write_json
from agedge.training.commands.sweep_table import Row, describe_row, format_table, to_row, write_table
from agedge.training.distributed.launch import Process, collected_signals, end, start, wait_for
from agedge.training.recipe import DEFAULTS, as_plain, load_recipe, merge_values, parse_override

log = logging.getLogger(__name__)

SEED = 0  # of the sampler, so that the same command samples the same values
RANGE = re.compile(r"([-+\d.eE]+)\.\.([-+\d.eE]+)$")
MAX_NAME = 100  # characters of a folder's name, before a hash


@dataclass(frozen=True)
class Axis:
    """A recipe key with its values, or the ends of its range, as text."""

    key: str
    values: Tuple[str, ...] = ()
    ends: Optional[Tuple[str, str]] = None

    def suggest(self, trial: Any) -> str:
        """Return the value for an Optuna trial: a whole number if both ends of the range are whole."""
        if not self.ends:
            return trial.suggest_categorical(self.key, self.values)
        low, high = map(float, self.ends)
        if all(re.fullmatch(r"[-+]?\d+", end) for end in self.ends):
            return str(trial.suggest_int(self.key, int(low), int(high), log=low > 0))
        return f"{trial.suggest_float(self.key, low, high, log=low > 0):.4g}"


@dataclass(frozen=True)
class SweepTrial:
    """A run of a sweep.

    Attributes:
        values: {recipe key: value as text}.
        settings: all settings of the recipe without run.dir; None if they are invalid.
        error: the reason why they are invalid, or "".
    """

    values: Dict[str, str]
    folder: Path
    settings: Optional[dict]
    error: str = ""


def run_sweep(
    program: List[str],
    arguments: List[str],
    sweeps: Sequence[str],
    trials: int,
    recipe: Optional[Path],
    overrides: List[str],
) -> int:
    """Run `program` with `arguments` and the values of every trial, and print and write the table.

    `sweeps`: texts like "train.mixup=0,0.2" or, with a number of `trials`, "optimizer.lr=1e-4..1e-2". `recipe`,
    `overrides`: the recipe of `arguments`. The runs and sweep.csv are written to its run.dir. A finished trial with the
    same settings is not repeated; an unfinished one is resumed. Return the exit status: 0; 1 if no trial finished; 128
    + N after signal N. Raises `UsageError` before the first run.
    """
    base = Path(load_recipe(recipe, overrides).run.dir)
    study, sampled = sample_trials([parse_axis(text) for text in sweeps], trials)
    plan = plan_trials([values for _, values in sampled], base, recipe, overrides)
    base.mkdir(parents=True, exist_ok=True)
    rows: List[Row] = []
    stopped = 0
    for (asked, _), trial in zip(sampled, plan):
        row, stopped = run_trial(program, arguments, trial)
        rows.append(row)
        if not stopped:
            score = row["score"] if row["status"] == "done" else None
            study.tell(asked, score, state=None if score is not None else find_failed_state())
        log.info("%d of %d: %s: %s", len(rows), len(plan), ", ".join(to_overrides(trial.values)), describe_row(row))
        write_table(rows, base / "sweep.csv")
        if stopped:
            log.warning("stopped: the same command continues with the other trials")
            break
    print(format_table(rows))
    if stopped:
        return 128 + stopped
    return 0 if any(row["status"] == "done" for row in rows) else 1


def find_failed_state() -> Any:
    """Return Optuna's state of a failed trial."""
    from optuna.trial import TrialState

    return TrialState.FAIL


def parse_axis(text: str) -> Axis:
    """Parse a text such as "optimizer.lr=1e-3,3e-3". Raises `UsageError`."""
    key, separator, values = text.partition("=")
    if not separator or not values.strip():
        raise UsageError(f"--sweep '{text}': must be KEY=VALUE,VALUE or KEY=LOW..HIGH, such as optimizer.lr=1e-3,3e-3")
    if key in ("run.dir", "run"):
        raise UsageError(f"--sweep '{text}': cannot be swept: every trial has its own folder under run.dir")
    if found := RANGE.match(values.strip()):
        try:
            low, high = (float(end) for end in found.groups())
        except ValueError:
            raise UsageError(f"--sweep '{text}': both ends of the range must be numbers") from None
        if not (low < high and math.isfinite(high - low)):
            raise UsageError(f"--sweep '{text}': LOW must be below HIGH")
        axis = Axis(key, (), (found[1], found[2]))
    else:
        axis = Axis(key, tuple(split_values(values)))
        if len(set(axis.values)) < len(axis.values):
            raise UsageError(f"--sweep '{text}': contains a value twice")
    for value in axis.values or axis.ends or ():
        merge_values(copy.deepcopy(DEFAULTS), parse_override(f"{key}={value}"), f"--sweep '{text}'")
    return axis


def split_values(text: str) -> List[str]:
    """Return the values between commas outside of brackets and quotes. Raises `UsageError`."""
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
        raise UsageError(f"--sweep: '{text}': has an empty value, or a bracket or quote that is not closed")
    return [value.strip() for value in values]


def sample_trials(axes: List[Axis], trials: int) -> Tuple[Any, List[Tuple[Any, Dict[str, str]]]]:
    """Return an Optuna study and its trials, each with its values {key: text}.

    Without ranges, there is a trial for each combination of values. With ranges, there are `trials` trials, which take
    the combinations of the other values in turn. Raises `UsageError`.
    """
    import optuna

    keys = [axis.key for axis in axes]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise UsageError(f"--sweep: {min(twice)} is given twice; give all its values in one --sweep")
    has_ranges = any(axis.ends for axis in axes)
    if has_ranges != bool(trials) or trials < 0:
        reason = "a range needs --trials N, the number of runs" if has_ranges else "--trials: only for a range"
        raise UsageError(f"--sweep: {reason}")
    lists = [axis for axis in axes if not axis.ends]
    combinations = list(itertools.product(*(axis.values for axis in lists)))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
    sampled = []
    for number in range(trials or len(combinations)):
        fixed = dict(zip((axis.key for axis in lists), combinations[number % len(combinations)]))
        study.enqueue_trial(fixed)
        trial = study.ask()
        sampled.append((trial, {**fixed, **{axis.key: axis.suggest(trial) for axis in axes}}))
    return study, sampled


def plan_trials(combinations: List[Dict[str, str]], base: Path, recipe: Optional[Path], overrides: List[str]) -> list:
    """Return the trials with their folders. Raises `UsageError` if a folder has a trial with other settings."""
    plan, names = [], set()
    for values in combinations:
        name = to_name(values)
        while name in names:
            name += "+"
        names.add(name)
        error, settings = "", None
        try:
            settings = as_plain(load_recipe(recipe, [*overrides, *to_overrides(values)]))
            settings["run"].pop("dir")
        except AgedgeError as problem:
            error = " ".join(str(problem).split())
        trial = SweepTrial(values, base / name, settings, error)
        earlier = read_trial(trial.folder)
        if settings and earlier and (other := difference(earlier["settings"], json.loads(json.dumps(settings)))):
            raise UsageError(
                f"{trial.folder}: has a trial with another {other}: choose another run.dir, or remove the folder"
            )
        plan.append(trial)
    return plan


def to_overrides(values: Dict[str, str]) -> List[str]:
    """Convert values to recipe overrides."""
    return [f"{key}={value}" for key, value in values.items()]


def to_name(values: Dict[str, str]) -> str:
    """Return the name of a trial's folder, such as sweep-lr=0.001-mixup=0.2."""
    last = [key.rpartition(".")[2] for key in values]
    short = values if len(set(last)) < len(last) else last
    name = "-".join(["sweep", *(f"{key}={value}" for key, value in zip(short, values.values()))])
    name = re.sub(r"[^\w.=+-]+", "_", name).rstrip("_.")
    if len(name) > MAX_NAME:
        name = f"{name[:MAX_NAME]}-{hashlib.sha256(json.dumps(values).encode()).hexdigest()[:8]}"
    return name


def difference(one: dict, other: dict, section: str = "") -> str:
    """Return the first key in which two recipes differ, or ""."""
    for key in {**one, **other}:
        name = f"{section}.{key}" if section else key
        mine, theirs = one.get(key), other.get(key)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            if deeper := difference(mine, theirs, name):
                return deeper
        elif mine != theirs:
            return name
    return ""


def run_trial(program: List[str], arguments: List[str], trial: SweepTrial) -> Tuple[Row, int]:
    """Run a trial, unless it is finished. Return its row of the table, and the signal that stopped it or 0."""
    if trial.error:
        return to_row(trial.folder, trial.values, 0.0, f"failed: {trial.error}"), 0
    earlier = read_trial(trial.folder) or {"seconds": 0.0, "status": ""}
    if earlier["status"] == "done":
        return to_row(trial.folder, trial.values, earlier["seconds"], "done"), 0
    trial.folder.mkdir(parents=True, exist_ok=True)
    resume = ["--resume"] if list_last(trial.folder) else []
    folder = f"run.dir={json.dumps(str(trial.folder), ensure_ascii=False)}"
    command = [*program, "--quiet", *resume, *arguments, *to_overrides(trial.values), folder]
    write_trial(trial, earlier["seconds"], "unfinished")
    began = time.monotonic()
    with open(trial.folder / "log.txt", "ab") as output, collected_signals() as signals:
        child = start(trial.folder.name, command, dict(os.environ), output)
        try:
            wait(child, signals)
        finally:
            end(child)
    seconds = round(earlier["seconds"] + time.monotonic() - began, 1)
    status = "done" if child.status == 0 else "stopped" if signals else f"failed: {find_reason(trial.folder, child)}"
    write_trial(trial, seconds, status)
    return to_row(trial.folder, trial.values, seconds, status), signals[0] if signals else 0


def wait(child: Process, signals: List[int]) -> None:
    """Wait until a process ends. The first signal is passed on to it; after the second one, return at once."""
    while child.status is None:
        wait_for([child], 0.2)
        if signals:
            child.process.send_signal(signals[0])
            wait_for([child], math.inf, signals)
            return


def find_reason(folder: Path, child: Process) -> str:
    """Return the last error line of a trial's log.txt, or how the process ended."""
    lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
    errors = [line.partition("error: ")[2] for line in lines if line.startswith("error: ")]
    if errors and (child.status or 0) > 0:
        return errors[-1]
    return f"{child.describe_end()}, see {folder / 'log.txt'}"


def read_trial(folder: Path) -> Optional[dict]:
    """Return {settings, seconds, status} of a trial that an earlier sweep started; None without one."""
    try:
        return json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AgedgeError(f"{folder / 'trial.json'}: cannot be read: {error}") from None


def write_trial(trial: SweepTrial, seconds: float, status: str) -> None:
    """Write a trial's settings, seconds and status to trial.json."""
    write_json(trial.folder / "trial.json", {"status": status, "seconds": seconds, "settings": trial.settings})
