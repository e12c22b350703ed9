"""The figures of several splits: mean and sample standard deviation, by hand; what is unknown; what is no such file."""

import json

import pytest

from agedge.cli import run_command
from agedge.evaluation import split_summary


def write(folder, number, **measures):
    path = folder / f"net-set-split{number}" / "test.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"n": 7, "age_mae": 4.0, "age_cs5": 0.5, "gender_acc": 0.9, **measures}))
    return path


def table(capsys, *files):
    """The printed lines, in words."""
    with pytest.raises(SystemExit) as ended:
        run_command(split_summary.main, [str(file) for file in files])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return [line.split() for line in printed.out.splitlines()]


def test_mean_and_spread_over_the_splits(tmp_path, capsys):
    maes = {0: 4.0, 2: 5.0, 10: 9.0}
    rows = table(capsys, *sorted(write(tmp_path, number, age_mae=mae) for number, mae in maes.items()))
    assert [row[0] for row in rows] == ["split", "0", "2", "10", "mean", "spread"]
    assert rows[3] == ["10", "7", "9.00", "50.0%", "90.0%"]
    assert rows[4] == ["mean", "6.00", "50.0%", "90.0%"]
    assert rows[5] == ["spread", "2.65", "0.0%", "0.0%"]  # sqrt((4 + 1 + 9) / 2)


def test_what_is_unknown_is_left_out_of_the_mean(tmp_path, capsys):
    files = [write(tmp_path, 0, gender_acc=None, age_mae=None, age_cs5=None), write(tmp_path, 1, gender_acc=None)]
    assert table(capsys, *files)[1:] == [
        ["0", "7", "-", "-", "-"],
        ["1", "7", "4.00", "50.0%", "-"],
        ["mean", "4.00", "50.0%", "-"],
        ["spread", "-", "-", "-"],
    ]


def test_two_runs_of_one_split_are_two_rows(tmp_path, capsys):
    rows = table(capsys, write(tmp_path / "a", 3), write(tmp_path / "b", 3, age_mae=6))
    assert [row[:3] for row in rows[1:3]] == [["3", "7", "4.00"], ["3", "7", "6.00"]] and rows[3][:2] == [
        "mean",
        "5.00",
    ]


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "test.json: does not exist"),
        ("{", "test.json: not the JSON of an evaluation"),
        ("[1]", "test.json: not the JSON of an evaluation"),
        ('{"n": 3}', "test.json: not the JSON of an evaluation"),
        ('{"n": null, "age_mae": 1, "age_cs5": 1, "gender_acc": 1}', "an evaluation: n is None"),
        ('{"n": 1, "age_mae": "4", "age_cs5": 1, "gender_acc": 1}', "an evaluation: age_mae is '4'"),
    ],
)
def test_a_file_that_is_no_evaluation_is_one_line(content, says, tmp_path, capsys):
    file = tmp_path / "test.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as ended:
        run_command(split_summary.main, [str(write(tmp_path, 0)), str(file)])
    said = capsys.readouterr()
    assert ended.value.code == 1 and says in said.err and len(said.err.splitlines()) == 1 and not said.out
