"""Age groups: which one a label and an answer belong to, the confusion matrix, and its two pictures."""

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.evaluation.evaluate import Predictions
from agedge.evaluation.group_plots import SheetFace, draw_sheet, plot_confusion
from agedge.evaluation.groups import (
    choose_faces,
    describe_prediction,
    find_predicted_groups,
    find_true_groups,
    format_confusion,
    measure_groups,
    parse_groups,
)
from agedge.evaluation.metrics import BANDS


def labels_of(*ages):
    return np.array([(0, *(age if isinstance(age, tuple) else (age, age))) for age in ages], np.float32)


def answers_of(ages, groups=None):
    count = len(ages)
    return Predictions(np.zeros((count, 3)), np.array(ages, np.float32), np.full(count, 0.5), {}, groups)


def test_groups_are_read_as_they_are_written():
    assert parse_groups("0-5,6-18, 19-30,31-45,46-65,66+") == list(BANDS)
    assert parse_groups("7,20-29") == [(7, 7), (20, 29)]


@pytest.mark.parametrize(
    "text", ["", "a-b", "5-0", "0-5,5-9", "6-18,0-5", "0-130", "0-5,,6-9", "-5-3", "66+,70-80", "1.5-3"]
)
def test_what_is_no_list_of_groups_is_refused(text):
    with pytest.raises(UsageError, match="--groups: "):
        parse_groups(text)


def test_what_is_wrong_with_a_group_is_said():
    for text, fault in (("5-1", "5-1 must not end before it begins"), ("0-5,3-9", "3-9 must begin after year 5")):
        with pytest.raises(UsageError, match=fault):
            parse_groups(text)


def test_a_label_is_in_a_group_when_all_of_it_is():
    labels = labels_of(0, 5, 5.5, 6, (20, 29), (25, 35), (3, 9), (-1, -1), (66, 120), 116)
    assert find_true_groups(labels, BANDS).tolist() == [0, 0, 0, 1, 2, -1, -1, -1, 5, 5]
    assert find_true_groups(labels_of(10, 40), [(13, 19), (30, 50)]).tolist() == [-1, 1]


def test_an_age_is_in_the_group_of_its_whole_year():
    said = find_predicted_groups(answers_of([5.4, 5.6, 18.5, 65.49, 99, np.nan]), [], BANDS)
    assert said.tolist() == [0, 1, 2, 4, 5, -1]


def test_a_network_of_groups_says_the_most_probable_one():
    groups = np.eye(6)[[3, 0]] * 0.5 + 0.1
    assert find_predicted_groups(answers_of([50, 50], groups), list(BANDS), BANDS).tolist() == [3, 0]


def test_groups_that_are_asked_for_may_be_unions_of_the_networks():
    p = np.array([[0.3, 0.0, 0.2, 0.2, 0.25, 0.05]])
    assert find_predicted_groups(answers_of([0], p), list(BANDS), [(0, 18), (19, 45), (46, 120)]).tolist() == [1]
    assert find_predicted_groups(answers_of([0], p), list(BANDS), [(19, 30), (46, 65)]).tolist() == [-1]
    with pytest.raises(UsageError, match="own group 0-5 does not fit into one .*; its groups are 0-5, 6-18, .*66\\+"):
        find_predicted_groups(answers_of([0], p), list(BANDS), [(0, 3), (4, 120)])


def test_the_confusion_matrix_has_the_true_groups_in_rows():
    labels = labels_of(3, 10, 10, 25, 70, (25, 35), (-1, -1))
    measured = measure_groups(labels, np.array([0, 1, 2, 1, 3, 0, 0]), BANDS)
    assert measured["confusion"] == [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0] * 6,
        [0] * 6,
        [0, 0, 0, 1, 0, 0],
    ]
    assert (measured["n"], measured["accuracy"], measured["one_off"]) == (5, 0.4, 0.8)
    assert (measured["unknown_age"], measured["no_single_group"]) == (1, 1)
    assert [row["accuracy"] for row in measured["groups"]] == [1, 0.5, 0, None, None, 0]
    text = format_confusion(measured)
    assert "accuracy 40.0% of 5 faces; 80.0% at most one off" in text
    assert "not counted: 1 of unknown age, 1 of an age that lies in no single group" in text
    assert "none" not in text


def test_what_is_said_outside_of_all_groups_is_wrong_and_shown():
    groups = [(0, 18), (19, 60)]
    measured = measure_groups(labels_of(10, 30, 40), np.array([-1, 1, -1]), groups)
    assert measured["outside"] == [1, 1] and measured["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
    assert measured["one_off"] == pytest.approx(1 / 3, abs=1e-6)
    lines = format_confusion(measured).splitlines()
    assert lines[0].split() == ["true", "faces", "0-18", "19-60", "none", "accuracy"]
    assert lines[2].split() == ["19-60", "2", "0", "1", "1", "50.0%"]


def test_no_face_in_any_group_is_an_error():
    with pytest.raises(AgedgeError, match="none of the 2 faces has an age in one of the groups"):
        measure_groups(labels_of((0, 120), (-1, -1)), np.array([0, 0]), BANDS)


def test_faces_are_chosen_by_seed_evenly_from_each_group():
    true = np.array([0] * 50 + [2] * 3 + [-1] * 20 + [5] * 50)
    chosen = choose_faces(true, 24)
    assert np.bincount(true[chosen], minlength=6).tolist() == [8, 0, 3, 0, 0, 8]
    assert chosen == choose_faces(true, 24) != choose_faces(true, 24, seed=1)
    assert len(choose_faces(true, 2)) == 2 and choose_faces(true, 0) == []


def test_what_is_written_below_a_face():
    p = np.array([[0.1, 0.1, 0.6, 0.1, 0.05, 0.05]])
    own = list(BANDS)
    assert describe_prediction(answers_of([33.6]), 0, 3, BANDS, []) == "34 years"
    assert describe_prediction(answers_of([33.6], p), 0, 2, BANDS, own) == "19-30 60%"
    assert describe_prediction(answers_of([33.6], p), 0, 0, [(0, 18), (19, 120)], own) == "0-18 20%"
    assert describe_prediction(answers_of([33.6], p), 0, -1, [(0, 18)], own) == "no group"


def test_the_pictures_show_what_was_measured(tmp_path):
    labels = labels_of(*range(0, 90, 3))
    measured = measure_groups(labels, np.roll(find_true_groups(labels, BANDS), 2), BANDS)
    plot_confusion(measured, tmp_path / "confusion.png", "toys")
    picture = cv2.imread(str(tmp_path / "confusion.png"))
    assert picture.shape[0] > 400 and picture.std() > 10
    face = np.full((32, 32, 3), (200, 120, 40), np.uint8)
    shown = [SheetFace(face, "0-5", "3", "4 years", True), SheetFace(face, "6-18", "10-15", "30 years", False)]
    draw_sheet(shown, tmp_path / "faces.png", "toys")
    sheet = cv2.imread(str(tmp_path / "faces.png"))
    blue = (sheet == (200, 120, 40)).all(axis=2).sum()
    red = (sheet == (40, 40, 198)).all(axis=2).sum()
    assert 104 * 104 + 94 * 94 <= blue < 2 * 104 * 104, "two faces, one of them in a frame"
    assert 1000 < red < 4000
