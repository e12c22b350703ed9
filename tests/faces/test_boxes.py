"""Overlaps and NMS: by hand, and the compiled twins against the NumPy ones."""

import os
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from agedge.errors import UsageError
from agedge.faces import boxes
from tests.paths import ROOT

compiled = pytest.mark.skipif(boxes._boxes is None, reason="the Cython extension is not built in this installation")


def make_boxes(count: int) -> tuple:
    """Boxes on a coarse grid, so that many touch, coincide or have no area, with few distinct scores."""
    corner = np.random.randint(0, 12, (count, 2))
    return np.hstack([corner, corner + np.random.randint(0, 8, (count, 2))]), np.random.randint(0, 4, count) / 4


def test_overlaps_by_hand():
    a = [[0, 0, 10, 10]]
    b = [[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [3, 3, 3, 9]]
    np.testing.assert_allclose(boxes.overlaps(a, b), [[1, 50 / 150, 0, 4 / 100, 0]])


def test_nms_keeps_the_better_box_and_ties_in_order():
    three = [[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]]
    assert boxes.nms(three, [0.5, 0.9, 0.7], 0.5).tolist() == [1, 2]
    assert boxes.nms(three, [0.9, 0.9, 0.9], 0.5).tolist() == [0, 2]
    assert boxes.nms(three, [0.5, 0.9, 0.7], 0.9).tolist() == [1, 2, 0]


def test_nms_min_drops_a_small_box_within_a_large_one():
    nested = [[0, 0, 100, 100], [10, 10, 20, 20]]
    assert boxes.nms(nested, [0.9, 0.8], 0.7).tolist() == [0, 1]
    assert boxes.nms(nested, [0.9, 0.8], 0.7, "min").tolist() == [0]


def test_unknown_method_is_answered_with_the_choices():
    with pytest.raises(UsageError, match="union, min"):
        boxes.nms([[0, 0, 1, 1]], [1], 0.5, "max")


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_empty_and_small_inputs_have_shapes(count):
    some, scores = make_boxes(count)
    assert boxes.overlaps(some, np.empty((0, 4))).shape == (count, 0)
    assert boxes.overlaps(np.empty((0, 4)), some).shape == (0, count)
    assert boxes.nms(some, scores, 0.5).dtype == np.int64


@compiled
@pytest.mark.parametrize("count", [0, 1, 7, 200])
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_twins_agree_to_the_last_bit(count, scale):
    some, scores = make_boxes(count)
    others, _ = make_boxes(11)
    some, others = some * scale, others * scale
    np.testing.assert_array_equal(boxes.overlaps(some, others), boxes.overlaps_numpy(some, others))
    for method in boxes.METHODS:
        for threshold in (0.0, 0.25, 0.5, 0.7):
            mine = boxes.nms(some, scores, threshold, method)
            np.testing.assert_array_equal(mine, boxes.nms_numpy(some, scores, threshold, method))


BIG = 1e300
STRANGE = [
    [0, 0, 10, 10],
    [np.nan, 0, 10, 10],
    [0, 0, 10, np.nan],
    [-np.inf, -np.inf, np.inf, np.inf],
    [0, 0, np.inf, 10],
    [np.inf, np.inf, np.inf, np.inf],
    [-BIG, -BIG, BIG, BIG],
    [0, 0, 1e150, 1e150],
    [1, 1, 1e150, 1e150],
    [10, 10, 0, 0],
    [5, 5, 5, 5],
    [5, 5, 5, 5],
    [1, 0, 10, 10],
]
FINITE = [0, 7, 8, 9, 10, 11, 12]  # those with a finite area


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("twin", ["overlaps", "overlaps_numpy"])
def test_a_box_without_a_finite_area_overlaps_none(twin):
    shared = getattr(boxes, twin)(STRANGE, STRANGE)
    strange = np.setdiff1d(np.arange(len(STRANGE)), FINITE)
    assert not shared[strange].any() and not shared[:, strange].any()
    assert np.isfinite(shared).all() and shared.max() == 1
    assert shared[0, 12] == 0.9 and not shared[9:12].any()  # the wrong way round, or without an area


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("twin", ["nms", "nms_numpy"])
@pytest.mark.parametrize("method", boxes.METHODS)
def test_what_is_not_a_number_is_never_kept(twin, method):
    keep = getattr(boxes, twin)
    for threshold in (0, 0.5, 1):
        kept = keep(STRANGE, np.ones(len(STRANGE)), threshold, method)
        assert set(kept) <= set(FINITE)
        assert 0 in kept and {9, 10, 11} <= set(kept)  # a box without an area is in nobody's way
    apart = [[0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10]]
    assert keep(apart, [np.nan, 0.1, 0.2], 0.5, method).tolist() == [2, 1]
    assert keep(apart, [-np.inf, np.inf, 0.2], 0.5, method).tolist() == [1, 2, 0]


def test_inclusive_corners_make_a_box_one_pixel_wider():
    pair = [[0, 0, 9, 9], [5, 0, 14, 9]]
    wider = [[0, 0, 10, 10], [5, 0, 15, 10]]
    np.testing.assert_array_equal(boxes.overlaps(pair, pair, border=1), boxes.overlaps(wider, wider))
    points = [[3, 3, 3, 3], [3, 3, 3, 3]]  # each is a pixel
    assert boxes.nms(points, [0.5, 0.9], 0.3).tolist() == [1, 0]
    assert boxes.nms(points, [0.5, 0.9], 0.3, border=1).tolist() == [1]


def test_scores_may_be_of_any_number_type():
    three = [[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]]
    for kind in (np.float32, np.float16, np.uint8, np.int64, bool):
        assert boxes.nms(three, np.array([0, 1, 1], kind), 0.5).tolist() == [1, 2]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan])
def test_a_threshold_that_is_no_share_is_refused(threshold):
    with pytest.raises(UsageError, match="^nms threshold .*0 to 1"):
        boxes.nms([[0, 0, 1, 1]], [1], threshold)


def test_scores_that_are_not_as_many_as_boxes_are_refused():
    with pytest.raises(UsageError, match="^nms: 2 boxes, 1 scores$"):
        boxes.nms([[0, 0, 1, 1]] * 2, [1], 0.5)


@pytest.mark.parametrize("twin", ["match", "match_numpy"])
def test_who_overlaps_whom_most(twin):
    some = [[0, 0, 10, 10], [5, 0, 15, 10], [90, 90, 99, 99]]
    others = [[0, 0, 10, 10], [4, 0, 14, 10], [4, 0, 14, 10]]
    owner, most, best, best_most = getattr(boxes, twin)(some, others)
    assert owner.tolist() == [0, 1, 0] and best.tolist() == [0, 1, 1]
    np.testing.assert_allclose(most, [1, 90 / 110, 0])
    np.testing.assert_allclose(best_most, [1, 90 / 110, 90 / 110])
    for a, b in ((some, np.empty((0, 4))), (np.empty((0, 4)), others)):
        nothing = getattr(boxes, twin)(a, b)
        assert [each.tolist() for each in nothing] == [[0] * len(a)] * 2 + [[0] * len(b)] * 2


@compiled
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("border", [0, 1])
def test_twins_agree_on_strange_and_on_crowded_boxes(border):
    centre = np.random.uniform(0, 300, (10, 2))[np.random.randint(0, 10, 800)] + np.random.normal(0, 4, (800, 2))
    half = np.random.uniform(10, 30, (800, 2))
    crowd = np.vstack([np.hstack([centre - half, centre + half]), np.random.permutation(STRANGE * 5)])
    scores = np.random.rand(len(crowd)).round(2)
    scores[::50] = np.nan
    np.testing.assert_array_equal(
        boxes.overlaps(crowd, crowd[::9], border), boxes.overlaps_numpy(crowd, crowd[::9], border)
    )
    for mine, plain in zip(boxes.match(crowd, crowd[::9], border), boxes.match_numpy(crowd, crowd[::9], border)):
        np.testing.assert_array_equal(mine, plain)
        assert mine.dtype == plain.dtype
    for method in boxes.METHODS:
        for threshold in (0, 0.3, 0.7, 1):
            arguments = (crowd, scores, threshold, method, border)
            np.testing.assert_array_equal(boxes.nms(*arguments), boxes.nms_numpy(*arguments))


@compiled
@pytest.mark.parametrize("method", boxes.METHODS)
def test_what_is_given_is_left_as_it_was(method):
    some, scores = make_boxes(50)
    some, scores = some.astype(np.float64), scores.astype(np.float64)
    copies = some.copy(), scores.copy()
    boxes.nms(some, scores, 0.3, method, border=1)
    boxes.overlaps(some, some, border=1)
    np.testing.assert_array_equal(some, copies[0])
    np.testing.assert_array_equal(scores, copies[1])


@pytest.mark.parametrize("twin", ["nms", "nms_numpy"])
def test_a_hundred_thousand_boxes_need_no_memory_for_their_pairs(twin):
    low = np.random.randint(0, 20, (100_000, 2)) * 50.0  # 400 places
    many = np.hstack([low, low + 40])
    tracemalloc.start()
    try:
        kept = getattr(boxes, twin)(many, np.random.rand(len(many)), 0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(kept) == 400
    assert peak < 50e6  # one byte a pair would be 10 GB


def test_without_the_extension_numpy_is_used_and_logged():
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO, format='%(message)s');"
        "sys.modules['agedge.faces._boxes'] = None;"
        "from agedge.faces import boxes; assert boxes._boxes is None;"
        "print(boxes.nms([[0,0,2,2],[0,0,2,2]], [1,2], .5).tolist(), boxes.overlaps([[0,0,2,2]], [[0,0,2,2]]).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[1] [[1.0]]\n"
    assert len(done.stderr.splitlines()) == 1 and "NumPy" in done.stderr


@pytest.mark.parametrize("missing", ["compiler", "cython"])
def test_install_succeeds_without(missing, tmp_path):
    shutil.copy(ROOT / "setup.py", tmp_path)
    for source in [*(ROOT / "src/agedge").rglob("*.pyx"), *(ROOT / "src/agedge").rglob("*.h")]:
        copy = tmp_path / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    environment = {**os.environ, "CC": str(tmp_path / "no-such-compiler")}
    run = "import sys, runpy; sys.argv = ['setup.py', 'build_ext', '--inplace'];"
    if missing == "cython":
        pytest.importorskip("setuptools")
        run += "sys.modules['Cython'] = sys.modules['Cython.Build'] = None;"
    run += "runpy.run_path('setup.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))
