"""The pool of MXNet's executors: the right outputs at every shape, and few executors in little memory."""

import math

import mxnet as mx
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.runtime.model_files import Checkpoint
from agedge.runtime.mxnet_executors import ExecutorPool, count_pixels

SMALL, MIDDLE, LARGE = (1, 3, 8, 8), (2, 3, 16, 16), (4, 3, 32, 32)


def make_pool(context=None, kept_pixels: float = math.inf) -> ExecutorPool:
    """Return the pool of a network whose two outputs are twice the image, and the mean of each image."""
    image = mx.sym.var("data")
    label = mx.sym.var("label", shape=(1,))
    doubled = mx.sym.broadcast_add(mx.sym.broadcast_mul(image, mx.sym.var("factor")), 0 * label.reshape((1, 1, 1, 1)))
    factor = mx.nd.full((1, 1, 1, 1), 2, ctx=context or mx.cpu())
    symbol = mx.sym.Group([doubled, mx.sym.mean(image, axis=(1, 2, 3))])
    return ExecutorPool(Checkpoint(symbol, {"factor": factor}, {}), "net-symbol.json", context, kept_pixels)


def draw(shape) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(0, 255, shape).astype(np.float32)


def check(pool: ExecutorPool, shape) -> None:
    images = draw(shape)
    pool.reserve(shape)[:] = images
    doubled, means = pool.run(shape)
    np.testing.assert_array_equal(doubled, 2 * images)
    np.testing.assert_allclose(means, images.mean(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("shapes", [(SMALL, MIDDLE, LARGE), (LARGE, SMALL, MIDDLE)])
def test_every_shape_gets_its_own_outputs(shapes):
    pool = make_pool()
    for shape in (*shapes, *shapes[::-1]):
        check(pool, shape)
    assert set(pool.executors) == set(shapes) and pool.owner == LARGE


def test_a_device_that_does_not_share_memory_with_numpy_gets_a_copy():
    pool = make_pool(mx.context.Context("cpu_shared", 0))
    for shape in (LARGE, SMALL, LARGE):
        check(pool, shape)


def test_shapes_beside_the_owner_are_dropped_the_longest_unused_first():
    shapes = [(1, 3, 8, side) for side in (8, 16, 24)]
    pool = make_pool(kept_pixels=sum(map(count_pixels, shapes[1:])))
    for shape in (LARGE, *shapes[:2], shapes[0], shapes[2]):
        check(pool, shape)
    assert list(pool.executors) == [LARGE, shapes[0], shapes[2]]


def test_a_shape_that_would_fill_what_the_others_may_have_owns_the_memory():
    pool = make_pool(kept_pixels=100)
    for shape in (LARGE, SMALL, MIDDLE):
        check(pool, shape)
    assert pool.owner == MIDDLE and list(pool.executors) == [MIDDLE]


def test_a_shape_that_the_network_does_not_take_is_one_line_with_the_file():
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="dense", no_bias=True)
    pool = ExecutorPool(Checkpoint(symbol, {"dense_weight": mx.nd.zeros((2, 3 * 8 * 8))}, {}), "net-symbol.json")
    check_shape = (1, 3, 8, 8)
    pool.reserve(check_shape)[:] = 0
    assert pool.run(check_shape)[0].tolist() == [[0, 0]]
    pool.reserve(MIDDLE)
    with pytest.raises(AgedgeError, match="^net-symbol.json: MXNet cannot run it: ") as caught:
        pool.run(MIDDLE)
    assert "\n" not in str(caught.value)
