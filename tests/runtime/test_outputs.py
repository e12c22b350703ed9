"""From the outputs of a network to years, P(male) and groups, by what its card calls them."""

import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.runtime.outputs import (
    FORMS,
    OURS,
    PAIRS,
    SCORE,
    decode,
    group_bounds,
    name_outputs,
    recognise_outputs,
    require_known,
    says_age,
    says_gender,
)

SIX = "probabilities of 0-5, 6-18, 19-30, 31-45, 46-65, 66-120"


def test_what_a_network_does_not_say_is_nan():
    age = decode({"age": np.array([[20.0], [30.0]])}, {"age": "years"})
    assert age.age.tolist() == [20, 30] and np.isnan(age.p_male).all() and age.groups is None
    gender = decode({"p_male": np.array([[0.9]])}, {"p_male": "probability"})
    assert np.isnan(gender.age).all() and gender.is_male.tolist() == [True]
    score = decode({"lro": np.array([[1.2], [-0.1]])}, {"lro": SCORE})
    assert score.p_male.tolist() == [1, 0]


def test_groups_come_beside_the_age():
    raw = {"age": np.ones((2, 1)), "age_group": np.eye(6)[[1, 3]], "p_male": np.ones((2, 1))}
    said = decode(raw, {"age": "years", "age_group": SIX, "p_male": "probability"})
    assert said.groups.argmax(axis=1).tolist() == [1, 3] and said.age.tolist() == [1, 1]
    assert group_bounds({"age_group": SIX})[:2] == [(0, 5), (6, 18)]
    assert group_bounds({"age_group": "probabilities of 0-5, 66+"}) == [(0, 5), (66, 120)]
    assert group_bounds({"age_group": "probabilities of the young"}) == group_bounds(OURS) == []


@pytest.mark.parametrize("outputs", [OURS, {"fc1": PAIRS}, {"lro": SCORE}, {"x": "years"}, {"age_group": SIX}])
def test_known_outputs(outputs):
    require_known(outputs, "m")
    assert says_age(outputs) == (outputs != {"lro": SCORE} and outputs != {"age_group": SIX})
    assert says_gender(outputs) == ("probability" in outputs.values() or bool({PAIRS, SCORE} & set(outputs.values())))


@pytest.mark.parametrize("outputs", [{}, {"lro": "unknown, 1 a face"}, {"age_group": "groups"}, {"x": "probability"}])
def test_unknown_outputs_say_what_may_be_done(outputs):
    with pytest.raises(UsageError, match=r"m: outputs .*--decode age\|gender\|pairs"):
        require_known(outputs, "m")


def test_one_output_is_what_the_graph_or_the_user_says():
    assert recognise_outputs({"lro": 1}) == {"lro": "unknown, 1 a face"}
    assert recognise_outputs({"lro": 1}, "age") == {"lro": "years"}
    assert recognise_outputs({"lro": 1}, "gender") == name_outputs({"lro": 1}, "gender", "m") == {"lro": SCORE}
    assert recognise_outputs({"lro": 7}, "age") == {"lro": "unknown, 7 a face"}
    assert recognise_outputs({"fc1": 202}) == {"fc1": PAIRS} and recognise_outputs({"age": 1, "p_male": 1}) == OURS
    with pytest.raises(UsageError, match="decode: unknown 'votes'; choose one of age, gender, pairs"):
        name_outputs({"lro": 1}, "votes", "m")
    with pytest.raises(AgedgeError, match=r"m: outputs lro \(1\): --decode pairs wants one of 202"):
        name_outputs({"lro": 1}, "pairs", "m")
    assert set(FORMS) == {"age", "gender", "pairs"}
