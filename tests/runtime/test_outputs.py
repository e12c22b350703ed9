"""Raw outputs of a network become years, P(male) and groups, by the kinds in its card."""

import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.runtime.outputs import (
    AGE_AND_GENDER,
    FORMS,
    GENDER_AND_AGE_PAIRS,
    GENDER_SCORE,
    PROBABILITY_MALE,
    YEARS,
    can_decode,
    decode,
    describe_outputs,
    group_bounds,
    outputs_of_form,
    predicts_age,
    predicts_gender,
    recognise_outputs,
    require_known,
)

BOUNDS = [[0, 5], [6, 18], [19, 30], [31, 45], [46, 65], [66, 120]]
SIX = {"kind": "age_groups", "bounds": BOUNDS}


def test_what_a_network_does_not_predict_is_nan():
    age = decode({"age": np.array([[20.0], [30.0]])}, {"age": YEARS})
    assert age.age.tolist() == [20, 30] and np.isnan(age.p_male).all() and age.groups is None
    gender = decode({"p_male": np.array([[0.9]])}, {"p_male": PROBABILITY_MALE})
    assert np.isnan(gender.age).all() and gender.is_male.tolist() == [True]
    score = decode({"lro": np.array([[1.2], [-0.1]])}, {"lro": GENDER_SCORE})
    assert score.p_male.tolist() == [1, 0]


def test_groups_come_beside_the_age():
    raw = {"age": np.ones((2, 1)), "age_group": np.eye(6)[[1, 3]], "p_male": np.ones((2, 1))}
    outputs = {"age": YEARS, "age_group": SIX, "p_male": PROBABILITY_MALE}
    decoded = decode(raw, outputs)
    assert decoded.groups is not None
    assert decoded.groups.argmax(axis=1).tolist() == [1, 3] and decoded.age.tolist() == [1, 1]
    assert group_bounds(outputs) == [tuple(each) for each in BOUNDS] and group_bounds(AGE_AND_GENDER) == []


def test_pairs_are_counted():
    values = np.zeros((1, 202))
    values[0, :2] = -1, 1
    values[0, 3 : 3 + 2 * 30 : 2] = 1  # "older than 0 .. 29"
    decoded = decode({"fc1": values}, {"fc1": GENDER_AND_AGE_PAIRS})
    assert decoded.age.tolist() == [30] and decoded.p_male[0] == pytest.approx(1 / (1 + np.exp(-2)))


def test_another_number_of_values_is_an_error():
    with pytest.raises(AgedgeError, match=r"output g has \(5,\) values per face; 'age_groups 0-5, 6-18.*' has 6"):
        decode({"g": np.ones((1, 5))}, {"g": SIX})


@pytest.mark.parametrize(
    "outputs, age, gender",
    [
        (AGE_AND_GENDER, True, True),
        ({"fc1": GENDER_AND_AGE_PAIRS}, True, True),
        ({"lro": GENDER_SCORE}, False, True),
        ({"x": YEARS}, True, False),
        ({"age_group": SIX}, False, False),
    ],
)
def test_known_outputs(outputs, age, gender):
    require_known(outputs, "m")
    assert can_decode(outputs) and (predicts_age(outputs), predicts_gender(outputs)) == (age, gender)


@pytest.mark.parametrize(
    "outputs", [{}, {"lro": {"kind": "unknown", "width": 1}}, {"age": YEARS, "x": {"kind": "unknown"}}]
)
def test_unknown_outputs_are_an_error_with_the_options(outputs):
    with pytest.raises(UsageError, match=r"m: outputs .*--decode age\|gender\|pairs"):
        require_known(outputs, "m")


def test_outputs_as_text():
    outputs = {
        "age": YEARS,
        "g": {"kind": "age_groups", "bounds": [[0, 5], [6, 9]]},
        "x": {"kind": "unknown", "width": 3},
    }
    assert describe_outputs(outputs) == "age (years), g (age_groups 0-5, 6-9), x (unknown, 3 per face)"
    assert describe_outputs({}) == "none"


def test_a_single_output_is_of_the_form_that_the_graph_or_the_user_gives():
    assert recognise_outputs({"lro": 1}) == {"lro": {"kind": "unknown", "width": 1}}
    assert recognise_outputs({"lro": 1}, "age") == {"lro": YEARS}
    assert (
        recognise_outputs({"lro": 1}, "gender") == outputs_of_form({"lro": 1}, "gender", "m") == {"lro": GENDER_SCORE}
    )
    assert recognise_outputs({"lro": 7}, "age") == {"lro": {"kind": "unknown", "width": 7}}
    assert recognise_outputs({"fc1": 202}) == {"fc1": GENDER_AND_AGE_PAIRS}
    assert recognise_outputs({"age": 1, "p_male": 1}) == AGE_AND_GENDER
    with pytest.raises(UsageError, match="decode: unknown 'votes'; choose one of age, gender, pairs"):
        outputs_of_form({"lro": 1}, "votes", "m")
    with pytest.raises(AgedgeError, match=r"m: outputs lro \(1\): --decode pairs needs a single output of 202"):
        outputs_of_form({"lro": 1}, "pairs", "m")
    assert set(FORMS) == {"age", "gender", "pairs"}
