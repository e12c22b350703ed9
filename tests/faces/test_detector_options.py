"""Options that both detectors have: the least score, and the size to which a large image is shrunk."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.errors import UsageError
from agedge.faces.detection import create_detector
from tests.paths import ROOT


@pytest.fixture(scope="module")
def photograph():
    import matplotlib

    return cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))


@pytest.fixture(scope="module")
def pair(photograph):
    """A face, and beside it the same small and blurred, of a lower score."""
    small = cv2.GaussianBlur(cv2.resize(photograph, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA), (0, 0), 1.6)
    image = np.full((600, 800, 3), 90, np.uint8)
    image[:, :512] = photograph
    image[300 : 300 + small.shape[0], 550 : 550 + small.shape[1]] = small
    return image


def create(kind, **options):
    return create_detector(kind, **options, **({"folder": ROOT / "ssh_model"} if kind == "essh" else {}))


KINDS = pytest.mark.parametrize("kind", ["mtcnn", "essh"])


@KINDS
def test_faces_of_lower_scores_are_left_out(kind, pair):
    every = create(kind).detect(pair)
    assert len(every) == 2
    least = float(every.scores.mean())
    assert create(kind, min_score=least).detect(pair) == every.take(every.scores >= least)
    assert create(kind, min_score=float(every.scores.min())).detect(pair) == every  # that score itself is enough
    # Of those that are left the largest, and not of the largest those that are left.
    surest = create(kind, min_score=float(every.scores.max()), max_faces=1).detect(pair)
    assert surest == every.take([0])


@KINDS
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "high", None, True])
def test_what_is_not_a_score_is_refused(kind, value):
    with pytest.raises(UsageError, match="min_score .*between 0 and 1"):
        create(kind, min_score=value)


@KINDS
@pytest.mark.parametrize("value", [0, 5, -1, "large", float("nan"), (640,)])
def test_what_is_not_a_side_is_refused(kind, value):
    with pytest.raises(UsageError, match="max_side"):
        create(kind, max_side=value)


@KINDS
def test_a_large_image_is_shrunk_and_its_faces_lie_where_they_are(kind, photograph):
    whole, shrunk = create(kind).detect(photograph), create(kind, max_side=300).detect(photograph)
    assert len(whole) == len(shrunk) == 1
    eyes = np.linalg.norm(whole.landmarks[0, 0] - whole.landmarks[0, 1])
    assert np.linalg.norm(whole.landmarks[0] - shrunk.landmarks[0], axis=1).max() < 0.15 * eyes
    np.testing.assert_allclose(shrunk.boxes, whole.boxes, atol=0.35 * eyes)
    assert create(kind, max_side=100000).detect(photograph) == whole


def test_min_face_of_mtcnn_counts_pixels_of_the_image_as_given(photograph):
    side = float(np.ptp(create("mtcnn").detect(photograph).boxes[0].reshape(2, 2), axis=0).max())
    assert len(create("mtcnn", max_side=300, min_face=side / 2).detect(photograph)) == 1
    assert len(create("mtcnn", max_side=300, min_face=3 * side).detect(photograph)) == 0
    assert len(create("mtcnn", max_side=300, min_face=12).detect(photograph)) >= 1  # under 12 when it is shrunk
