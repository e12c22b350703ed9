"""Labels of another layout or coding are refused at every reader; single bad ones are counted."""

import logging

import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.batches import evaluation_batches
from agedge.label_check import suggest_layouts
from agedge.labels import parse_layout
from agedge.recordio import pack_frame, pack_image
from agedge.records import encode, label_layout, read_raw
from agedge.training.data.dataset import open_dataset

CODINGS = {  # by name: numbers of record i, the layout given, the text of the error
    "genders 1 and 2": (lambda i: (1 + i % 2, 12 + i), "gender,age", "12 of 24 genders .* pass --labels -,age"),
    "genders -1 and 1": (lambda i: (2 * (i % 2) - 1, 12 + i), "gender,age", "genders are -1 .12. and 1 .12., never 0"),
    "percent male": (lambda i: (i * 37 % 100, 12 + i), "gender,age", "23 of 24 genders .* pass --labels -,age"),
    "swapped": (lambda i: (12 + i, i % 2), "gender,age", "24 of 24 genders .* pass --labels age,gender"),
    "fractions": (lambda i: (i % 2, (12 + i) / 100), "gender,age", "all 24 ages lie within 0 to 1, such as 0.12"),
    "months": (lambda i: (i % 2, 12 * (12 + i)), "gender,age", "24 of 24 ages .*months.*pass --labels gender,-"),
    "births": (lambda i: (i % 2, 1950 + i), "gender,age", "such as 1950 .years of birth"),
    "negative": (lambda i: (i % 2, -5 - i), "gender,age", "24 of 24 ages are outside 0 to 120, such as -5"),
    "a gender as age": (lambda i: (i % 2,), "age", "0 or 1 .genders.*pass --labels gender"),
    "an age as gender": (lambda i: (12 + i,), "gender", "24 of 24 genders .* pass --labels age"),
    "age, gender, race": (lambda i: (12 + i, i % 2, i % 5), "auto", "example: 12 0 0.*pass --labels age,gender,-"),
    "gender, age, race": (lambda i: (i % 2, 12 + i, i % 5), "auto", "three numbers.*pass --labels gender,age,-"),
    "gender, race, age": (lambda i: (i % 2, i % 5, 12 + i), "auto", "three numbers.*pass --labels gender,-,age"),
    "two numbers": (lambda i: (12 + i, i % 2), "auto", "pass --labels gender,age or age,gender; age,gender fits"),
    "one number": (lambda i: (12 + i,), "auto", "pass --labels age or gender; age fits .example: 12"),
    "four numbers": (lambda i: (12 + i, i % 2, 3, 100 + i), "auto", "age,gender,-,- fits"),
}


def write_rec(path, numbers, count=24):
    """Write a .rec and .idx as other tools do, without a JSON. Returns the path."""
    jpeg, offset = encode(np.full((16, 16, 3), 90, np.uint8)), 0
    with open(path, "wb") as rec, open(path.with_suffix(".idx"), "w") as idx:
        for i in range(count):
            frame = pack_frame(pack_image(np.array(numbers(i), np.float32), i, jpeg))
            idx.write(f"{i}\t{offset}\n")
            offset += rec.write(frame)
    return path


@pytest.mark.parametrize("name", CODINGS)
def test_another_coding_is_refused_by_every_reader(tmp_path, name):
    numbers, layout, reason = CODINGS[name]
    path = write_rec(tmp_path / "a.rec", numbers)
    for read in (read_raw, lambda path, labels: evaluation_batches(path, 16, labels=labels)):
        with pytest.raises(AgedgeError, match=f"a.rec: .*{reason}"):
            next(iter(read(path, layout)))
    with pytest.raises(AgedgeError, match=f"a.rec: .*{reason}"):
        open_dataset([path], 16, layout)


@pytest.mark.parametrize(
    "layout, numbers, expected",
    [
        ("age", (30,), [-1, 30, 30]),
        ("gender", (1,), [1, -1, -1]),
        ("age,gender,-", (30, 1, 4), [1, 30, 30]),
        ("Age, gender, race", (30, 1, 4), [1, 30, 30]),
        ("-,-,age,gender", (4, 7, 30, 1), [1, 30, 30]),
        ("gender,age_max,age_min", (0, 29, 20), [0, 20, 29]),
        ("gender,age", (9999, 30), [-1, 30, 30]),
    ],
)
def test_any_layout_can_be_given(tmp_path, layout, numbers, expected):
    path = write_rec(tmp_path / "a.rec", lambda i: numbers, count=3)
    assert [label.tolist() for label, _ in read_raw(path, layout)] == [expected] * 3
    path.with_suffix(".json").write_text(f'{{"labels": "{layout}"}}')
    assert [label.tolist() for label, _ in read_raw(path)] == [expected] * 3


@pytest.mark.parametrize("layout", ["", "agee", "gender,gender", "age,age_min", "age_min", "-", "age;gender", 3, None])
def test_an_invalid_layout_is_refused_with_the_valid_ones(layout):
    with pytest.raises(UsageError, match="choose one of gender,age_min,age_max, gender,age, age,gender, age, gender"):
        parse_layout(layout)


def test_a_single_bad_label_is_counted_and_the_guess_is_logged(tmp_path, caplog):
    path = write_rec(tmp_path / "a.rec", lambda i: (3 if i == 7 else i % 2, 12 + i, 12 + i))
    with caplog.at_level(logging.INFO):
        labels = [label.tolist() for label, _ in read_raw(path)]
    assert labels[7] == [-1, 19, 19] and labels[8] == [0, 20, 20]
    assert f"{path}: labels: gender,age_min,age_max (guessed: no JSON beside it)" in caplog.text
    assert f"{path}: 1 labels are not valid and count as unknown: records 7 (record 7: 3 19 19" in caplog.text


def test_faults_after_the_first_thousand_records_are_found(tmp_path):
    path = write_rec(tmp_path / "a.rec", lambda i: (2 if i > 1100 else i % 2, 12 + i % 60), count=1300)
    records = read_raw(path, "gender,age")
    assert next(records)[0].tolist() == [0, 12, 12]
    with pytest.raises(AgedgeError, match="199 of 1300 genders"):
        list(records)


def test_a_json_declares_that_minus_one_is_unknown(tmp_path):
    path = write_rec(tmp_path / "a.rec", lambda i: (2 * (i % 2) - 1, 12 + i, 12 + i))
    with pytest.raises(AgedgeError, match="never 0"):
        label_layout(path)
    path.with_suffix(".json").write_text('{"labels": "gender,age_min,age_max"}')
    assert {float(label[0]) for label, _ in read_raw(path)} == {-1, 1}


def test_infants_and_age_groups_are_not_taken_for_another_coding(tmp_path):
    path = write_rec(tmp_path / "a.rec", lambda i: (i % 2, (i % 4) / 4, (i % 4) / 4))
    assert len(list(read_raw(path))) == 24
    groups = ((0, 2), (4, 6), (8, 13), (15, 20), (60, 120), (-1, -1))
    path = write_rec(tmp_path / "b.rec", lambda i: (i % 2, *groups[i % 6]))
    assert len(list(read_raw(path))) == 24


def test_layouts_are_suggested_by_values():
    assert suggest_layouts(np.array([[1, 30], [0, 40]])) == ["gender,age"]
    assert suggest_layouts(np.array([[500.0], [600.0]])) == []
