"""MTCNN's parts against plain ones: the fused graphs, the packed pyramid, the patches, and all of it together."""

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.faces import patches
from agedge.faces.boxes import overlaps
from agedge.faces.detection import create_detector
from agedge.faces.mtcnn.detector import NETWORKS, choose_largest
from agedge.faces.mtcnn.graphs import open_network
from agedge.faces.mtcnn.pyramid import CANVAS, CELL, STRIDE, pack, shrink_levels
from benchmarks.plain_mtcnn import PlainMTCNN, PlainNet, shrink
from tests.paths import SHARED


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_graph_computes_what_the_network_does(name):
    sizes, side = NETWORKS[name]
    net, plain = open_network(name, sizes, side), PlainNet(name)
    images = np.random.uniform(0, 255, net.data.shape).astype(np.float32)
    net.data[:] = images
    *boxes_and_landmarks, scores = plain.run((images[:, ::-1] - 127.5) / 128)
    expected = np.concatenate([*boxes_and_landmarks, np.log(scores[:, 1:] / scores[:, :1])], axis=1)
    np.testing.assert_allclose(net.run(len(images)), expected, atol=1e-3)
    np.testing.assert_allclose(net.run(1), expected[:1], atol=1e-3)


def test_the_packed_pieces_show_every_cell_of_every_level_once():
    rng = np.random.default_rng(0)
    for _ in range(20):
        shapes = [tuple(2 * rng.integers(6, 300, 2)) for _ in range(rng.integers(1, 12))]
        seen = [
            np.zeros(((height - CELL) // STRIDE + 1, (width - CELL) // STRIDE + 1), int) for height, width in shapes
        ]
        for pieces in pack(shapes):
            canvas = np.zeros((CANVAS, CANVAS), int)
            for level, top, left, height, width, y, x in pieces:
                assert top % 2 == left % 2 == y % 2 == x % 2 == 0
                assert top + height <= shapes[level][0] and left + width <= shapes[level][1]
                canvas[y : y + height, x : x + width] += 1
                rows, columns = (height - CELL) // STRIDE + 1, (width - CELL) // STRIDE + 1
                seen[level][top // 2 : top // 2 + rows, left // 2 : left // 2 + columns] += 1
            assert canvas.max() == 1, "pieces lie upon each other"
        assert all((cells == 1).all() for cells in seen)
    assert pack([]) == []


def test_packing_wastes_little():
    shapes = [level.shape[1:] for _, level in shrink_levels(np.zeros((886, 1280, 3), np.uint8), 20)]
    cells = sum((height - 10) * (width - 10) / 4 for height, width in shapes)
    assert len(pack(shapes)) * ((CANVAS - 10) / 2) ** 2 < 1.1 * cells


def test_levels_are_those_of_a_plain_pyramid():
    image = np.random.randint(0, 256, (201, 333, 3), np.uint8)
    levels = shrink_levels(image, 20)
    assert len(levels) == 7
    for scale, level in levels:
        plain = shrink(image, scale)
        height, width = plain.shape[:2]
        assert level.shape == (3, height + height % 2, width + width % 2)
        away = np.abs(level[:, :height, :width] - plain.transpose(2, 0, 1))
        assert away.max() <= 1 and (away > 0).mean() < 0.01
        np.testing.assert_array_equal(level[:, -1], level[:, height - 1])


@pytest.mark.skipif(patches._patches is None, reason="the compiled twin is not built here")
def test_the_twins_cut_the_same_patches():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (120, 90, 3), np.uint8), (0, 0), 2)
    corners = rng.integers(-60, 90, (200, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 150, (200, 1))], axis=1)
    extremes = [(0, 0, 90, 120), (-500, -500, -400, -400), (0, 0, 1, 1), (30, 40, 54, 64), (89, 119, 90, 120)]
    boxes = np.concatenate([boxes, extremes]).astype(np.int64)
    for shape in ((24, 24), (48, 48)):
        fast, plain = np.full((2, len(boxes), 3, *shape), -1, np.float32)
        patches.cut_patches(image, boxes, fast)
        patches.fill_patches_numpy(image, boxes, plain)
        assert np.abs(fast - plain).max() <= 1 and (fast != plain).mean() < 0.05
        assert (fast == fast.round()).all() and fast.min() >= 0 and fast.max() <= 255


def test_patches_of_nothing():
    out = np.empty((1, 3, 24, 24), np.float32)
    patches.cut_patches(np.zeros((5, 5, 3), np.uint8), np.empty((0, 4)), out[:0])
    with pytest.raises(ValueError, match="pixels"):
        patches.cut_patches(np.zeros((0, 5, 3), np.uint8), np.zeros((1, 4)), out)
    with pytest.raises(ValueError, match="finite"):
        patches.cut_patches(np.zeros((5, 5, 3), np.uint8), np.full((1, 4), np.nan), out)


def test_a_box_without_extent_shows_a_pixel():
    image, out = np.arange(75, dtype=np.uint8).reshape(5, 5, 3), np.empty((1, 3, 4, 4), np.float32)
    patches.cut_patches(image, np.array([[2.2, 3.1, 2.2, 3.1]]), out)
    np.testing.assert_array_equal(out[0, :, 0, 0], image[3, 2])


def test_the_largest_are_chosen_in_their_order():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 9, 9], [0, 0, 3, 3], [0, 0, 5, 5]])
    assert choose_largest(boxes, 2).tolist() == [1, 3]
    assert choose_largest(boxes, None).tolist() == [0, 1, 2, 3]
    assert choose_largest(boxes[:0], 2).tolist() == []


@pytest.fixture(scope="module")
def photographs():
    archive = SHARED / "data" / "photos_dev.tar.gz"
    if not archive.is_file():
        pytest.skip("photos_dev.tar.gz lies in ../shared/data, which is not here")
    images = [cv2.imread(str(SHARED / "photos" / name)) for name in ("six_faces.jpg", "four_faces.jpg")]
    with tarfile.open(archive) as photos:
        for entry in json.load(photos.extractfile("photos/annotations.json")):
            content = photos.extractfile(f"photos/{entry['file']}").read()
            images.append(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR))
    return images


def count_same(found, expected) -> int:
    return int((overlaps(expected.boxes, found.boxes).max(axis=1, initial=0) >= 0.9).sum())


@pytest.mark.slow
@pytest.mark.parametrize("min_face", [20, 40])
def test_the_boxes_of_a_plain_cascade(photographs, min_face):
    detector, plain, same, both = create_detector("mtcnn", min_face=min_face), PlainMTCNN(min_face), 0, 0
    for image in photographs:
        found, expected = detector.detect(image), plain.detect(image)
        same, both = same + 2 * count_same(found, expected), both + len(found) + len(expected)
        for net in plain.nets.values():
            net.executors.clear()
    assert same / both >= 0.99, f"{same} of {both}"  # measured: all


@pytest.mark.parametrize("min_face", [20, 40])
def test_the_face_of_a_plain_cascade(min_face):
    import matplotlib

    image = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    found, expected = create_detector("mtcnn", min_face=min_face).detect(image), PlainMTCNN(min_face).detect(image)
    assert len(found) == len(expected) == count_same(found, expected)
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=2)
