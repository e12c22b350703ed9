"""Labels: gender and age interval, and their layouts."""

import numpy as np
import pytest

from agedge.errors import UsageError
from agedge.labels import Label, exact, to_contract


def test_an_exact_age_is_an_interval_of_one_point():
    assert exact(1, 34).as_array().tolist() == [1, 34, 34]
    assert Label().as_array().tolist() == [-1, -1, -1]


@pytest.mark.parametrize("gender, low, high", [(2, 5, 5), (0, 121, 121), (0, -2, -2), (1, 30, 20), (1, -1, 20)])
def test_an_invalid_label_is_refused_with_the_reason(gender, low, high):
    with pytest.raises(ValueError, match="gender|age"):
        Label(gender, low, high)


def test_two_number_files_in_either_order():
    expected = [[1, 30, 30], [0, 7, 7]]
    assert to_contract([[1, 30], [0, 7]], "gender,age").tolist() == expected
    assert to_contract([[30, 1], [7, 0]], "age,gender").tolist() == expected


def test_values_that_are_not_ages_become_unknown():
    columns = [[0, 30, -1], [1, 50, 20], [1, 3, 400], [3, 5, 5], [float("nan"), float("nan"), float("nan")]]
    assert to_contract(columns)[:, 1].tolist() == [-1, -1, -1, 5, -1]
    assert to_contract(columns)[:, 0].tolist() == [0, 1, 1, -1, -1]


def test_the_code_of_older_tools_for_unknown_becomes_minus_one():
    assert to_contract([[9999, 30], [1, 9999]], "gender,age").tolist() == [[-1, 30, 30], [1, -1, -1]]


def test_a_layout_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="have 3 numbers, not 2"):
        to_contract(np.zeros((4, 3)), "age,gender")
    with pytest.raises(UsageError, match="choose one of"):
        to_contract(np.zeros((4, 2)), "sex,years")
