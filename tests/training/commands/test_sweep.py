"""Sweeps: which trials run, in which folders, and the table."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from agedge.errors import UsageError
from agedge.training.commands.sweep import parse_axis, run_sweep, sample_trials, split_values, to_name
from tests.paths import ROOT

# Learns in no time: the further its rate is from 0.01, the worse. It notes every start.
PRETENDED = """
import pathlib, sys, time
from agedge.training.recipe import load_recipe
recipe = load_recipe(None, [word for word in sys.argv[1:] if not word.startswith("--")])
folder = pathlib.Path(recipe.run.dir)
(folder / "starts").open("a").write(" ".join(word for word in sys.argv[1:] if word.startswith("--")) + "\\n")
if recipe.optimizer.lr == 0.5:
    sys.exit("error: the loss is nan at step 7")
if recipe.train.seed == 1:
    (folder / "last-7.ckpt").write_text("")
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)
off = abs(recipe.optimizer.lr - 0.01)
rows = ["epoch,val_age_mae,val_gender_acc", f"1,{9 + off},0.5", f"2,{5 + off},0.75", f"3,{6 + off},"]
(folder / "log.csv").write_text("\\n".join(rows))
"""


@pytest.fixture
def sweep(tmp_path, capsys):
    script = tmp_path / "pretended.py"
    script.write_text(PRETENDED)

    def run(*sweeps, trials=0, given=()):
        given = [*given, f"run.dir={tmp_path / 'base'}"]
        capsys.readouterr()
        status = run_sweep([sys.executable, str(script)], given, list(sweeps), trials, None, given)
        with open(tmp_path / "base" / "sweep.csv", newline="") as file:
            return status, list(csv.DictReader(file)), capsys.readouterr().out

    return run


def starts(folder):
    return [path.parent.name for path in sorted(folder.glob("*/starts")) for _ in path.read_text().splitlines()]


def test_all_combinations_are_run_and_the_best_is_first(sweep, tmp_path):
    status, rows, text = sweep("optimizer.lr=1e-3,1e-2,3e-2", "train.mixup=0,0.2")
    assert status == 0 and len(rows) == 6
    assert [row["optimizer.lr"] for row in rows] == ["1e-2"] * 2 + ["1e-3"] * 2 + ["3e-2"] * 2
    best = rows[0]
    assert (best["best_epoch"], best["val_age_mae"], best["val_gender_acc"], best["status"]) == (
        "2",
        "5.0",
        "0.75",
        "done",
    )
    assert "val_ap" not in best and best["trial"] == "sweep-lr=1e-2-mixup=0"
    assert (tmp_path / "base" / best["trial"] / "log.txt").exists()
    lines = text.splitlines()
    assert len(lines) == 7 and lines[0].split()[:3] == ["optimizer.lr", "train.mixup", "best_epoch"]
    assert lines[1].split()[:4] == ["1e-2", "0", "2", "5"]


def test_averaged_weights_count(sweep, tmp_path):
    sweep("optimizer.lr=1e-2,3e-2")
    mean = {"epoch": 3, "epochs": 2, "val_age_mae": 4.5, "val_gender_acc": 0.8}
    (tmp_path / "base" / "sweep-lr=3e-2" / "average.json").write_text(json.dumps(mean))
    _, rows, _ = sweep("optimizer.lr=1e-2,3e-2")
    assert [row["val_age_mae"] for row in rows] == ["4.5", "5.0"] and rows[0]["best_epoch"] == "3"
    (tmp_path / "base" / "sweep-lr=3e-2" / "average.json").write_text("{")
    _, rows, _ = sweep("optimizer.lr=1e-2,3e-2")
    assert "average.json: cannot be read" in rows[1]["status"]


def test_a_failed_trial_is_a_row_with_the_reason(sweep):
    status, rows, text = sweep("optimizer.lr=0.5,-1,1e-2")
    assert status == 0 and [row["optimizer.lr"] for row in rows][0] == "1e-2"
    reasons = {row["optimizer.lr"]: row["status"] for row in rows}
    assert reasons["0.5"] == "failed: the loss is nan at step 7"
    assert reasons["-1"] == "failed: optimizer.lr=-1: must be a number of at least 0"
    assert "loss is nan" in text
    assert sweep("optimizer.lr=0.5,-1")[0] == 1


def test_finished_trials_are_not_repeated(sweep, tmp_path):
    base = tmp_path / "base"
    _, first, _ = sweep("optimizer.lr=1e-3,0.5")
    _, rows, _ = sweep("optimizer.lr=1e-3,1e-2,0.5")
    assert starts(base) == ["sweep-lr=0.5", "sweep-lr=0.5", "sweep-lr=1e-2", "sweep-lr=1e-3"]
    assert first[0] in rows
    with pytest.raises(UsageError, match="sweep-lr=1e-3: has a trial with another train.epochs"):
        sweep("optimizer.lr=1e-3", given=["train.epochs=7"])


def test_ctrl_c_ends_with_the_table_and_the_trial_is_resumed(tmp_path):
    script = tmp_path / "pretended.py"
    script.write_text(PRETENDED)
    base = tmp_path / "base"
    given = ["optimizer.lr=0.02", f"run.dir={base}"]
    code = "import sys; from agedge.training.commands.sweep import run_sweep; "
    code += f"sys.exit(run_sweep([sys.executable, {str(script)!r}], {given}, ['train.seed=0,1,2'], 0, None, {given}))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    waiting = base / "sweep-seed=1" / "last-7.ckpt"
    end = time.time() + 30
    while not waiting.exists() and time.time() < end:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert [line.split()[-1] for line in out.splitlines()] == ["status", "done", "stopped"]
    assert starts(base) == ["sweep-seed=0", "sweep-seed=1"]

    script.write_text(PRETENDED.replace("sleep(60)", "sleep(0)"))
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=-1).returncode == 0
    assert (base / "sweep-seed=1" / "starts").read_text().splitlines() == ["--quiet", "--quiet --resume"]
    assert (base / "sweep-seed=2" / "starts").read_text().splitlines() == ["--quiet"]


def values_of(axes, trials):
    return [values for _, values in sample_trials(axes, trials)[1]]


def test_ranges_are_sampled_the_same_each_time(sweep):
    axes = [
        parse_axis("optimizer.lr=1e-4..1e-2"),
        parse_axis("train.batch_size=16..64"),
        parse_axis("data.balance=0,1"),
    ]
    trials = values_of(axes, 200)
    assert trials == values_of(axes, 200) and trials[:5] == values_of(axes, 5)
    rates = [float(trial["optimizer.lr"]) for trial in trials]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates) and 0.4 < sum(rate < 1e-3 for rate in rates) / 200 < 0.6
    assert all(16 <= int(trial["train.batch_size"]) <= 64 for trial in trials)
    assert [trial["data.balance"] for trial in trials[:4]] == ["0", "1", "0", "1"]
    assert len(sweep("optimizer.lr=1e-4..1e-2", trials=3)[1]) == 3


def test_values_are_split_at_commas_outside_brackets_and_quotes():
    assert split_values("1, 2") == ["1", "2"]
    assert split_values("[1,2],[3],[]") == ["[1,2]", "[3]", "[]"]
    assert split_values("{a: 1, b: [2,3]},{}") == ["{a: 1, b: [2,3]}", "{}"]
    assert split_values("'a,b',\"c,]\"") == ["'a,b'", '"c,]"']
    assert parse_axis("optimizer.steps=[10,20],[30]").values == ("[10,20]", "[30]")
    assert to_name({"optimizer.steps": "[10,20]", "data.train": "a/b.rec"}) == "sweep-steps=_10_20_-train=a_b.rec"
    assert to_name({"train.epochs": "1", "network.epochs": "2"}) == "sweep-train.epochs=1-network.epochs=2"
    assert len(to_name({"data.train": "x" * 300})) < 120 and "/" not in to_name({"pretrained": "../x"})


@pytest.mark.parametrize(
    "sweeps, trials, reason",
    [
        (["optimizer.rl=1,2"], 0, "unknown key 'optimizer.rl'; did you mean 'lr'"),
        (["optimizer=1,2"], 0, "'optimizer' is a section"),
        (["optimizer.lr"], 0, "must be KEY=VALUE,VALUE"),
        (["optimizer.lr=1,,2"], 0, "an empty value"),
        (["optimizer.steps=[1,2"], 0, "not closed"),
        (["optimizer.lr=1,1"], 0, "contains a value twice"),
        (["optimizer.lr=1e-2..1e-3"], 2, "LOW must be below HIGH"),
        (["optimizer.lr=1e-3..1e-2"], 0, "--trials N"),
        (["optimizer.lr=1,2"], 3, "--trials: only for a range"),
        (["optimizer.lr=1,2", "optimizer.lr=3"], 0, "optimizer.lr is given twice"),
        (["run.dir=a,b"], 0, "its own folder"),
    ],
)
def test_an_invalid_sweep_is_an_error_before_anything_starts(sweeps, trials, reason, tmp_path):
    given = [f"run.dir={tmp_path / 'base'}"]
    with pytest.raises(UsageError) as told:
        run_sweep(["no such program"], given, sweeps, trials, None, given)
    assert reason in str(told.value) and not (tmp_path / "base").exists()


def test_train_py_takes_sweeps_and_passes_on_the_rest(tmp_path):
    words = [
        "--sweep",
        "optimizer.lr=1e-3,1e-2",
        "--sweep=train.mixup=0",
        "--keep",
        "3",
        f"run.dir={tmp_path / 'base'}",
    ]
    done = subprocess.run([sys.executable, "train.py", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1  # there is no data
    assert done.stdout.count("failed: data.train: must be given") == 2
    settings = json.loads((tmp_path / "base" / "sweep-lr=1e-3-mixup=0" / "trial.json").read_text())["settings"]
    assert settings["run"]["keep"] == 3 and settings["optimizer"]["lr"] == 0.001
