"""Small faces in large photographs: tiles with a small `min_face`, else one warning."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.faces.detection import create_detector
from agedge.faces.essh import network
from agedge.faces.essh.views import View, lay_spans, lay_tiles
from tests.paths import ROOT

FOLDER = ROOT / "ssh_model"
CORNERS = [(30, 40), (500, 280), (305, 225), (840, 610), (12, 612)]  # some of them where tiles meet


@pytest.fixture(scope="module")
def head():
    import matplotlib

    photograph = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    return cv2.resize(photograph[30:340, 130:380], (28, 35), interpolation=cv2.INTER_AREA)  # the face: 25 x 32 pixels


@pytest.fixture(scope="module")
def crowd(head):
    image = np.full((675, 900, 3), (90, 110, 120), np.uint8)
    for x, y in CORNERS:
        image[y : y + 35, x : x + 28] = head
    return image


def test_faces_that_the_shrunk_image_cannot_show_are_found_in_tiles(crowd):
    assert len(create_detector("essh", folder=FOLDER, max_side=320, threshold=0.5).detect(crowd)) <= 1
    faces = create_detector("essh", folder=FOLDER, max_side=320, threshold=0.5, min_face=20).detect(crowd)
    whole = create_detector("essh", folder=FOLDER, max_side=900, threshold=0.5).detect(crowd)
    assert len(faces) == len(whole) == len(CORNERS)  # each once
    order, expected = (np.lexsort(np.round(each.boxes[:, :2] / 40).T) for each in (faces, whole))
    np.testing.assert_allclose(faces.boxes[order], whole.boxes[expected], atol=4)
    np.testing.assert_allclose(faces.landmarks[order], whole.landmarks[expected], atol=4)


def test_tiles_cost_nothing_where_the_image_shows_the_smallest_face(monkeypatch):
    shapes, run = [], network.ESSHNetwork.run
    monkeypatch.setattr(network.ESSHNetwork, "run", lambda self, shape: shapes.append(shape) or run(self, shape))
    image = np.full((600, 800, 3), 90, np.uint8)
    for options in ({}, {"min_face": 40}, {"min_face": 20, "max_side": 800}, {"min_face": 5, "pyramid": (1,)}):
        shapes.clear()
        create_detector("essh", **{"folder": FOLDER, "max_side": 400, **options}).detect(image)
        assert len(shapes) == 1, options
    shapes.clear()
    create_detector("essh", folder=FOLDER, max_side=400, min_face=20).detect(image)
    assert len(shapes) > 4 and len(set(shapes)) == 1, "tiles have the shape of the whole: no further memory"


def test_a_shrunk_image_is_logged_once(caplog):
    detector, image = create_detector("essh", folder=FOLDER, max_side=150), np.full((300, 200, 3), 90, np.uint8)
    with caplog.at_level(logging.WARNING):
        detector.detect(image[:90, :120])
        assert not caplog.records
        for _ in range(3):
            detector.detect(image)
    (record,) = caplog.records
    assert "200x300 pixels is shrunk to 100x150: faces of under 32 pixels are hardly found" in record.getMessage()
    caplog.clear()
    create_detector("essh", folder=FOLDER, max_side=150, min_face=40).detect(image)
    assert not caplog.records


@pytest.mark.parametrize("full, side, overlap", [(100, 100, 20), (101, 100, 20), (4000, 1280, 100), (999, 100, 500)])
def test_spans_cover_everything_and_overlap(full, side, overlap):
    spans = lay_spans(full, side, overlap)
    assert spans[0][0] == 0 and spans[-1][0] + side == full
    for (start, _, high), (following, low, _) in zip(spans, spans[1:]):
        assert high == low and start + side - following >= min(overlap, side / 2) - 1
        assert following < high < start + side


def test_every_point_is_of_one_tile():
    whole = View.at_scale(0, (3000, 4000), 0.32)
    tiles = lay_tiles(whole, 1.0)
    assert {tile.padded for tile in tiles} == {whole.padded}
    for x, y in np.random.default_rng(0).uniform((0, 0), (4000, 3000), (200, 2)):
        owners = [t for t in tiles if t.core[0] <= x < t.core[2] and t.core[1] <= y < t.core[3]]
        assert len(owners) == 1
        (left, top), (height, width) = owners[0].corner, owners[0].full
        # A face of half the overlap about the point lies within the tile, or at the image's border.
        assert left == 0 or left <= x - 50
        assert left + width == 4000 or x + 50 <= left + width
        assert top == 0 or top <= y - 50
        assert top + height == 3000 or y + 50 <= top + height
