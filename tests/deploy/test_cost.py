"""Multiplications counted by hand."""

import mxnet as mx
import pytest

from deploy.cost import count_multiplications
from tests.small_networks import convolved, save_small, two_answers


def test_convolutions_and_dense_layers(tmp_path):
    # 8 channels of 30 x 30, each of 3 x 3 x 3; then two dense layers over all of it
    card = save_small(tmp_path, two_answers(convolved()))
    assert count_multiplications(card) == 8 * 30 * 30 * 27 + 2 * 8 * 30 * 30


@pytest.mark.parametrize("groups, each", [(1, 8 * 9), (8, 9)])
def test_grouped_convolutions(tmp_path, groups, each):
    x = mx.sym.Convolution(convolved(), kernel=(3, 3), num_filter=8, num_group=groups, no_bias=True, name="second")
    x = mx.sym.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg")
    card = save_small(tmp_path, two_answers(x))
    assert count_multiplications(card) == 8 * 900 * 27 + 8 * 28 * 28 * each + 2 * 8


@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_matrices(tmp_path, transposed):
    x = mx.sym.reshape(convolved(), (0, 8, 900))
    other = mx.sym.transpose(x, axes=(0, 2, 1))
    x = mx.sym.batch_dot(other, other, transpose_a=True) if transposed else mx.sym.batch_dot(x, other)
    card = save_small(tmp_path, two_answers(x))
    assert count_multiplications(card) == 8 * 900 * 27 + 8 * 8 * 900 + 2 * 64
