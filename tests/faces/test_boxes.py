"""Overlaps and NMS: by hand, and the compiled twins against the NumPy ones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agedge.errors import UsageError
from agedge.faces import boxes

ROOT = Path(__file__).resolve().parents[2]
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


def test_without_the_extension_numpy_serves_and_one_line_says_so():
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
    (tmp_path / "src/agedge/faces").mkdir(parents=True)
    shutil.copy(ROOT / "src/agedge/faces/_boxes.pyx", tmp_path / "src/agedge/faces")
    environment = {**os.environ, "CC": str(tmp_path / "no-such-compiler")}
    run = "import sys, runpy; sys.argv = ['setup.py', 'build_ext', '--inplace'];"
    if missing == "cython":
        pytest.importorskip("setuptools")
        run += "sys.modules['Cython'] = sys.modules['Cython.Build'] = None;"
    run += "runpy.run_path('setup.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("_boxes*.so"))
