"""Anchors: their places by hand, deltas there and back, the maps' candidates, and which anchor is of which face."""

import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.faces.essh import anchors
from agedge.faces.essh.anchors import (
    BACKGROUND,
    CHANNELS,
    FACE,
    GROWTH,
    STRIDES,
    WITH_LANDMARKS,
    WITHOUT_LANDMARKS,
    assign_targets,
    decode_boxes,
    decode_landmarks,
    encode_boxes,
    encode_landmarks,
    find_candidates,
    lay_anchors,
)


def make_maps(images: int = 1, height: int = 200, width: int = 330, share: float = 0.02) -> list:
    """Nine maps of an image of that size, in which a share of the anchors says face."""
    maps = []
    for stride in STRIDES:
        places = (-(-height // stride), -(-width // stride))
        face = np.where(np.random.rand(images, 2, *places) < share, 0.9, 0.1) + np.random.rand(images, 2, *places) / 20
        maps += [np.concatenate([1 - face, face], axis=1)]
        maps += [np.random.normal(0, 0.5, (images, channels, *places)) for channels in CHANNELS[1:]]
    return [each.astype(np.float32) for each in maps]


def empty_maps() -> list:
    maps = make_maps()
    for each in maps:
        each[:] = 0
    return maps


def find_plainly(maps: list, threshold: float, image: int) -> tuple:
    """What `find_candidates` says of one image, from all the anchors."""
    found = []
    for stride, score, box, points in zip(STRIDES, maps[0::3], maps[1::3], maps[2::3]):
        said = score[image, 2:].ravel()
        box, points = (each[image].reshape(2, -1, said.size // 2).transpose(0, 2, 1) for each in (box, points))
        box, points = box.reshape(-1, 4).astype(np.float64), points.reshape(-1, 10).astype(np.float64)
        chosen = said > np.float32(threshold)
        laid = lay_anchors(stride, *score.shape[2:])[chosen]
        found.append((decode_boxes(laid, box[chosen]), said[chosen], decode_landmarks(laid, points[chosen])))
    return tuple(map(np.concatenate, zip(*found)))


def test_the_first_anchors_are_those_of_the_family():
    for stride, boxes in (
        (32, [[-248, -248, 263, 263], [-120, -120, 135, 135]]),
        (16, [[-56, -56, 71, 71], [-24, -24, 39, 39]]),
        (8, [[-8, -8, 23, 23], [0, 0, 15, 15]]),
    ):
        laid = lay_anchors(stride, 3, 5)
        assert laid.shape == (30, 4)
        assert laid[[0, 15]].tolist() == boxes
        assert (laid[15 + 2 * 5 + 4] - laid[15]).tolist() == [4 * stride, 2 * stride] * 2
    assert lay_anchors(8, 0, 5).shape == (0, 4)


def test_deltas_there_and_back():
    laid = lay_anchors(16, 4, 4)
    low = np.random.uniform(0, 60, (len(laid), 2))
    boxes = np.hstack([low, low + np.random.uniform(5, 80, (len(laid), 2))])
    points = np.random.uniform(0, 100, (len(laid), 5, 2))
    np.testing.assert_allclose(decode_boxes(laid, encode_boxes(laid, boxes)), boxes, atol=1e-9)
    np.testing.assert_allclose(decode_landmarks(laid, encode_landmarks(laid, points)), points, atol=1e-9)
    np.testing.assert_array_equal(decode_boxes(laid, np.zeros((len(laid), 4))), laid)


@pytest.mark.filterwarnings("error")
def test_no_side_grows_without_bound():
    laid = lay_anchors(8, 1, 1)
    box = decode_boxes(laid, np.array([[0, 0, 1e30, 1], [0, 0, GROWTH, -1e30]]))
    np.testing.assert_allclose(box[:, 2:] - box[:, :2] + 1, [[32 * 62.5, 32 * np.e], [16 * 62.5, 0]])


@pytest.mark.parametrize("images", [1, 3])
def test_candidates_are_those_of_all_anchors(images):
    maps = make_maps(images)
    found = find_candidates(maps, 0.5)
    assert len(found) == images
    for image, (boxes, scores, points) in enumerate(found):
        wanted = find_plainly(maps, 0.5, image)
        assert 10 < len(boxes) == len(scores) == len(points)
        np.testing.assert_allclose(boxes, wanted[0], rtol=0, atol=1e-9)
        np.testing.assert_array_equal(scores, wanted[1])
        np.testing.assert_array_equal(points, wanted[2])


def test_a_candidate_by_hand():
    maps = empty_maps()
    maps[3][0, 3, 2, 5] = 0.75  # stride 16, the small anchor, row 2, column 5: [56, 8, 119, 71], 64 wide
    maps[4][0, 4:, 2, 5] = 0.5, -0.25, np.log(2), 0
    maps[5][0, 10:12, 2, 5] = 0.25, -0.5
    ((boxes, scores, points),) = find_candidates(maps, 0.5)
    np.testing.assert_allclose(boxes, [[119.5 - 63.5, 23.5 - 31.5, 119.5 + 63.5, 23.5 + 31.5]], atol=1e-4)
    assert scores.tolist() == [0.75] and scores.dtype == np.float32
    assert points[0].tolist() == [[103.5, 7.5]] + [[87.5, 39.5]] * 4


def test_the_threshold_itself_is_not_over_it():
    maps = empty_maps()
    maps[0][0, 2, 0, 0] = 0.6
    assert len(find_candidates(maps, 0.6)[0][0]) == 0
    assert len(find_candidates(maps, 0.59)[0][0]) == 1


def test_no_candidates_have_shapes():
    for maps, images in ((make_maps(2, share=-1), 2), (make_maps(1, 0, 0), 1)):
        found = find_candidates(maps, 0.99)
        assert [[each.shape for each in those] for those in found] == [[(0, 4), (0,), (0, 5, 2)]] * images


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which, channel", [(6, 2), (7, 1), (7, 3), (8, 0), (8, 9)])
def test_what_is_not_finite_is_never_a_candidate(which, channel, bad, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(anchors, "_boxes", None)
    maps = empty_maps()
    maps[6][0, 2, 3, 4] = maps[6][0, 2, 3, 5] = 0.9
    maps[which][0, channel, 3, 4] = bad
    ((boxes, scores, points),) = find_candidates(maps, 0.5)
    assert boxes.tolist() == [[32, 16, 63, 47]]


@pytest.mark.filterwarnings("error")
def test_huge_deltas_give_finite_boxes():
    maps = make_maps()
    for each in maps[1::3] + maps[2::3]:
        each[:] = np.random.choice([-3e38, 3e38], each.shape)
    ((boxes, _, points),) = find_candidates(maps, 0.5)
    assert len(boxes) and np.isfinite(boxes).all() and np.isfinite(points).all()


@pytest.mark.skipif(anchors._boxes is None, reason="the Cython extension is not built in this installation")
@pytest.mark.parametrize("images, share", [(1, 0.0), (1, 0.02), (3, 0.5), (1, 1.0)])
def test_twins_agree_but_for_the_last_bit_of_exp(images, share):
    maps = make_maps(images, share=share)
    maps[4][:] *= 20
    maps[6][0, 2:, ::3] = np.nan
    maps[7][0, :, :, 1] = np.inf
    for number, stride in enumerate(STRIDES):
        three = maps[3 * number : 3 * number + 3]
        mine, plain = (decode(stride, *three, 0.5) for decode in (anchors.decode_maps, anchors.decode_maps_numpy))
        for index in (0, 2, 3):
            np.testing.assert_array_equal(mine[index], plain[index])
            assert mine[index].dtype == plain[index].dtype
        longest = np.abs(plain[1]).max(initial=0) + (plain[1][:, 2:] - plain[1][:, :2]).max(initial=0)
        np.testing.assert_allclose(mine[1], plain[1], rtol=0, atol=2.0**-50 * longest)


def test_maps_of_any_layout_and_type_are_taken():
    maps = make_maps(2)
    others = [np.asfortranarray(each.astype(np.float64)) for each in maps]
    for mine, its in zip(find_candidates(maps, 0.5), find_candidates(others, 0.5)):
        for a, b in zip(mine, its):
            np.testing.assert_array_equal(a, b)


def test_maps_that_are_not_of_the_family_are_answered_in_one_line():
    maps = make_maps()
    with pytest.raises(AgedgeError, match="^outputs: 6; must be nine maps.*$"):
        find_candidates(maps[:6], 0.5)
    for number, wrong in (
        (4, maps[4][:, :4]),
        (5, maps[5][..., :-1]),
        (6, np.repeat(maps[6], 2, axis=0)),
        (3, maps[3][0]),
    ):
        with pytest.raises(AgedgeError, match="^outputs of stride (8|16): .*; must be .*$"):
            find_candidates(maps[:number] + [wrong] + maps[number + 1 :], 0.5)


def assign_plainly(laid: np.ndarray, boxes: np.ndarray, ignored: np.ndarray) -> list:
    """For each anchor the number of its face, -1 background, -2 neither: by loops."""
    shared = np.zeros((len(laid), len(boxes)))
    for i, a in enumerate(laid):
        for j, b in enumerate(boxes):
            width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1 for k in (0, 1))
            if width > 0 and height > 0:
                areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
                shared[i, j] = width * height / (sum(areas) - width * height)
    owners = []
    for row in shared:
        j = int(row.argmax())
        if row[j] < BACKGROUND:
            owners.append(-1)
        else:
            owners.append(j if row[j] >= FACE and not ignored[j] else -2)
    for j in range(len(boxes)):
        if not ignored[j] and shared[:, j].max() > BACKGROUND:
            owners[int(shared[:, j].argmax())] = j
    return owners


def test_targets_are_those_of_plain_loops():
    laid = np.concatenate([lay_anchors(stride, 96 // stride, 96 // stride) for stride in STRIDES])
    for _ in range(5):
        side = np.exp(np.random.uniform(np.log(8), np.log(120), (7, 1)))
        low = np.random.uniform(-10, 80, (7, 2))
        boxes, ignored = np.hstack([low, low + side]), np.random.rand(7) < 0.3
        points = np.random.uniform(0, 96, (7, 5, 2))
        points[::3, 1] = np.nan
        kinds, box_deltas, point_deltas = assign_targets(laid, boxes, points, ignored)
        owners = np.array(assign_plainly(laid, boxes, ignored))
        known = np.where(np.isfinite(points).all(axis=(1, 2)), WITH_LANDMARKS, WITHOUT_LANDMARKS)
        assert kinds.tolist() == [{-1: 0, -2: -1}.get(owner, known[owner]) for owner in owners]
        its, faces = owners >= 0, owners[owners >= 0]
        np.testing.assert_allclose(decode_boxes(laid[its], box_deltas[its]), boxes[faces], atol=1e-3)
        sure = kinds == WITH_LANDMARKS
        np.testing.assert_allclose(decode_landmarks(laid[sure], point_deltas[sure]), points[owners[sure]], atol=1e-3)
        assert not box_deltas[~its].any() and not point_deltas[~its].any()


def test_an_image_without_faces_is_background():
    laid = lay_anchors(8, 4, 4)
    for boxes in (np.empty((0, 4)), np.full((1, 4), np.nan), np.array([[50, 50, 40, 40.0]])):
        kinds, box_deltas, point_deltas = assign_targets(
            laid, boxes, np.full((len(boxes), 5, 2), np.nan), np.zeros(len(boxes), bool)
        )
        assert not kinds.any() and not box_deltas.any() and not point_deltas.any()
