"""Scenes to train a detector on: what is pasted lies where its annotation is."""

import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from agedge.errors import AgedgeError
from agedge.faces.annotations import Photo
from agedge.training.scenes import cover, light
from agedge.training.scenes.compose import DISTRACTIONS, KINDS, Composer, Scene, plain
from agedge.training.scenes.crop import crop_photograph
from agedge.training.scenes.cutout import (
    Cutout,
    frame_mask,
    oval_mask,
    paste,
    similarity,
    stretch,
    transform_boxes,
    transform_points,
)
from agedge.training.scenes.loader import SceneMaker, find_backgrounds, make_batch, stream_batches
from agedge.training.scenes.visible import clip_faces, share_of_mask, share_within

BOX = [173.0, 112.0, 353.0, 334.0]  # of the face in matplotlib's photograph, in pixels of the image
POINTS = [(231.0, 193.0), (318.0, 196.0), (276.0, 247.0), (235.0, 282.0), (311.0, 284.0)]


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    """An image of one face, as in a dataset, and its annotation."""
    import matplotlib

    whole = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    left, top = 130, 70
    file = tmp_path_factory.mktemp("faces") / "face.jpg"
    cv2.imwrite(str(file), whole[top:380, left:400])
    return Photo(file, [np.array(BOX) - [left, top, left, top]], [np.array(POINTS) - [left, top]])


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backgrounds")
    for number in range(12):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(noise, (200, 150), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(scope="module")
def composer(face, backgrounds):
    return Composer([[face]], find_backgrounds(backgrounds), 160)


def dotted() -> Cutout:
    """A grey image with five white dots where its landmarks are."""
    points = np.array([(30.0, 40.0), (70.0, 42.0), (50.0, 60.0), (35.0, 80.0), (66.0, 81.0)])
    image = np.full((120, 100, 3), 60, np.uint8)
    for x, y in points.astype(int).tolist():
        cv2.circle(image, (x, y), 3, (255, 255, 255), -1)
    return Cutout(image, np.array([[20.0, 20.0, 80.0, 100.0]]), points[None], np.zeros(1, bool))


def centres_of_dots(canvas) -> np.ndarray:
    _, _, _, centres = cv2.connectedComponentsWithStats((canvas[..., 0] > 170).astype(np.uint8))
    return centres[1:]


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("scale, degrees", [(1.0, 0), (2.3, 20), (0.8, -50)])
def test_landmarks_go_where_their_pixels_go(mirror, scale, degrees):
    cutout = dotted().mirrored() if mirror else dotted()
    canvas = np.zeros((400, 400, 3), np.uint8)
    matrix = similarity(np.array([50.0, 60.0]), np.array([210.0, 180.0]), scale, degrees)
    paste(canvas, cutout, frame_mask(cutout, 0), matrix)
    landmarks = transform_points(cutout.landmarks, matrix)[0]
    dots = centres_of_dots(canvas)
    assert len(dots) == 5
    away = np.linalg.norm(landmarks[:, None] - dots[None], axis=2).min(axis=1)
    assert away.max() < 0.6
    if mirror:
        assert landmarks[0, 0] < landmarks[1, 0] or abs(degrees) > 45  # left stays left, as seen


def test_stretching_keeps_the_middle_and_the_width():
    middle = np.array([30.0, 50.0])
    matrix = stretch(similarity(middle, np.array([80.0, 70.0]), 2, 0), middle, 0.5)
    np.testing.assert_allclose(
        transform_points(np.array([[30.0, 50], [40, 50], [30, 60]]), matrix), [[80, 70], [100, 70], [80, 80]]
    )
    np.testing.assert_allclose(transform_boxes(np.array([[20.0, 40, 40, 60]]), matrix), [[60, 60, 100, 80]])


def test_shrinking_scales_the_annotation():
    cutout, scale = dotted().shrunk(0.2)
    assert scale == 0.5 and cutout.image.shape[:2] == (48, 40)
    np.testing.assert_allclose(cutout.boxes, dotted().boxes * 0.4)


def test_a_turned_box_bounds_the_turned_ellipse():
    quarter = similarity(np.zeros(2), np.zeros(2), 1, 90)
    np.testing.assert_allclose(transform_boxes(np.array([[0.0, 0, 20, 40]]), quarter), [[-40, 0, 0, 20]], atol=1e-9)
    slanted = transform_boxes(np.array([[-10.0, -10, 10, 10]]), similarity(np.zeros(2), np.zeros(2), 1, 45))
    np.testing.assert_allclose(slanted, [[-10, -10, 10, 10]], atol=1e-9)  # a circle stays one


def test_an_oval_shows_the_face_and_not_the_corners():
    mask = oval_mask(dotted(), np.random.default_rng(0))
    assert mask[60, 50] == 1 and mask[0, 0] == 0 and mask.min() >= 0 and mask.max() <= 1


def test_pasting_outside_the_canvas_changes_nothing():
    canvas = np.zeros((50, 50, 3), np.uint8)
    paste(canvas, dotted(), frame_mask(dotted(), 0), similarity(np.zeros(2), np.array([500.0, 500.0]), 1, 0))
    assert not canvas.any()


def test_a_seed_determines_its_scene(composer):
    first, again, other = (composer.compose(np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.finish()[0], again.finish()[0])
    assert (first.image != other.image).any()


def test_scenes_have_valid_annotations_and_are_of_all_kinds(composer):
    counts, covers, ignored_some = [], set(), False
    for seed in range(60):
        scene = composer.compose(np.random.default_rng(seed))
        boxes, landmarks, ignored, its_covers = scene.finish()
        assert scene.image.shape == (160, 160, 3) and scene.image.dtype == np.uint8
        assert len(boxes) == len(landmarks) == len(ignored) == len(its_covers)
        assert (boxes[:, 2:] >= boxes[:, :2]).all() and (boxes >= 0).all() and (boxes <= 159).all()
        counts.append(len(boxes))
        covers |= set(its_covers)
        ignored_some |= bool(ignored.any())
    assert 0 in counts and max(counts) >= 4 and ignored_some
    assert covers >= {"", "mask", "glasses", "thing"}
    assert sum(KINDS.values()) == 100


def test_a_hidden_face_is_ignored():
    scene = Scene(np.zeros((100, 100, 3), np.uint8))
    boxes = np.array([[10.0, 10, 40, 40], [60, 60, 90, 90], [90, 60, 140, 110], [300, 60, 340, 110]])
    scene.add(boxes, np.zeros((4, 5, 2)), [False] * 4, [1.0] * 4)  # the third is mostly outside, the fourth wholly
    with scene.drawing():
        scene.image[:60, 10:28] = 200  # 0.6 of the first
        scene.image[60:75, 60:75] = 200  # a quarter of the second, which is still a face ..
    assert scene.finish()[2].tolist() == [True, False, True]
    with scene.drawing():
        scene.image[60:90, 75:90] = 100  # .. and not with a half of it more
    boxes, landmarks, ignored, covers = scene.finish()
    assert ignored.tolist() == [True, True, True] and len(landmarks) == len(covers) == 3
    assert boxes[2].tolist() == [90, 60, 99, 99]


def test_shares_of_boxes():
    assert share_within(np.array([0, 0, 10, 10]), np.array([5, 0, 15, 10])) == 0.5
    mask = np.zeros((10, 10), np.float32)
    mask[:, :5] = 1
    assert share_of_mask(mask, np.array([0.0, 0, 10, 10])) == 0.5
    assert share_of_mask(mask, np.array([-5.0, 0, 5, 10])) == 0.5
    assert share_of_mask(mask, np.array([20.0, 20, 30, 30])) == 0
    image = np.zeros((50, 50, 3), np.uint8)
    nothing = clip_faces(image, np.empty((0, 4)), np.empty((0, 5, 2)), [], [], [])
    assert [np.shape(each) for each in nothing] == [(0, 4), (0, 5, 2), (0,), (0,)]


def test_faces_that_count_are_visible(composer):
    """An image may be pasted over an earlier face, which is then not a face to be found any more."""
    hidden = 0
    for seed in range(40):
        scene = composer.compose(np.random.default_rng(seed))
        hidden += sum(share < 0.45 for share in scene.shown)
        boxes, _, ignored, _ = scene.finish()
        assert len(boxes) <= len(scene.boxes) and all(0 <= share <= 1.001 for share in scene.shown)
    assert hidden


def test_a_face_without_contrast_is_ignored():
    noise = np.random.default_rng(0).normal(90, 1, (100, 200, 3)) - 90
    noise[:, :100] *= 20
    image = (90 + noise).round().astype(np.uint8)
    boxes = [[10, 10, 80, 90], [120, 10, 190, 90]]
    _, _, ignored, _ = clip_faces(image, boxes, np.zeros((2, 5, 2)), [False] * 2, [1.0] * 2, [""] * 2)
    assert ignored.tolist() == [False, True]


def test_walls_are_smooth_and_of_many_colours():
    walls = [plain(np.random.default_rng(seed), 60, 80) for seed in range(30)]
    assert {(wall.shape, wall.dtype.name) for wall in walls} == {((60, 80, 3), "uint8")}
    assert max(np.abs(np.diff(wall.astype(int), axis=0)).max() for wall in walls) < 25
    assert np.ptp([wall.mean() for wall in walls]) > 150


def test_light_from_one_side_darkens_the_other():
    image, ratios = np.full((40, 60, 3), 100, np.uint8), []
    for seed in range(20):
        lit = light.light_from_side(image, np.random.default_rng(seed))
        assert lit.shape == image.shape and lit.dtype == np.uint8
        ratios.append(lit.max() / max(lit.min(), 1))
    assert min(ratios) > 1.3


def test_a_camera_keeps_the_size_of_its_scene():
    image = np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
    taken = [light.simulate_camera(image, np.random.default_rng(seed)) for seed in range(40)]
    assert {(each.shape, each.dtype.name) for each in taken} == {((50, 50, 3), "uint8")}
    roughness = [np.abs(np.diff(each.astype(int), axis=1)).mean() / max(each.std(), 1) for each in taken]
    assert min(roughness) < 0.6 * np.median(roughness)  # some were enlarged


def test_every_distraction_is_drawn(composer):
    for kind in DISTRACTIONS:
        scene = Scene(np.full((160, 160, 3), 128, np.uint8))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agedge.training.scenes.compose.pick", lambda rng, shares, kind=kind: kind)
            composer.distract(scene, np.random.default_rng(2))
        assert (scene.image != 128).any() and not scene.boxes, kind


@pytest.mark.parametrize("draw", ["mask", "glasses", "hand", "thing"])
def test_covers_are_drawn_on_the_face_alone(draw, face):
    image = cv2.imread(str(face.file))
    before, rng = image.copy(), np.random.default_rng(1)
    frame, patch = cover.FaceAxes(face.boxes[0], face.landmarks[0]), np.full((32, 32, 3), 200, np.uint8)
    if draw == "mask":
        cover.draw_mask(image, frame, rng, patch)
    elif draw == "glasses":
        cover.draw_glasses(image, frame, face.landmarks[0], rng)
    elif draw == "hand":
        cover.draw_hand(image, frame, np.array([120.0, 140, 190]), rng)
    else:
        cover.draw_object(image, frame, patch, rng)
    changed = np.argwhere((image != before).any(axis=2))[:, ::-1]
    assert len(changed) > 500
    middle, size = face.boxes[0].reshape(2, 2).mean(axis=0), face.boxes[0, 2:] - face.boxes[0, :2]
    assert (np.abs(changed - middle) < 1.3 * size).all()
    if draw == "mask":
        mouth = face.landmarks[0, 3:].mean(axis=0).astype(int)
        eyes = face.landmarks[0, :2].astype(int)
        assert (image[mouth[1], mouth[0]] != before[mouth[1], mouth[0]]).any()
        assert all((image[y, x] == before[y, x]).all() for x, y in eyes.tolist())


def test_an_image_that_cannot_be_read_is_named_and_skipped(face, backgrounds, tmp_path, caplog):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    composer = Composer([[Photo(broken, [[0, 0, 9, 9]]), face]], find_backgrounds(backgrounds), 64)
    for seed in range(10):
        composer.compose(np.random.default_rng(seed))
    assert len([line for line in caplog.messages if "broken.jpg" in line]) == 1
    with pytest.raises(AgedgeError, match=r"broken\.jpg"):
        Composer([[Photo(broken, [[0, 0, 9, 9]])]], find_backgrounds(backgrounds), 64).compose(np.random.default_rng(0))


def test_a_background_that_cannot_be_read_is_skipped(face, backgrounds, tmp_path, caplog):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    composer = Composer([[face]], [broken, *find_backgrounds(backgrounds)], 64)
    for seed in range(20):
        composer.compose(np.random.default_rng(seed))
    assert len([line for line in caplog.messages if "broken.jpg" in line]) == 1
    with pytest.raises(AgedgeError, match=r"broken\.jpg"):
        Composer([[face]], [broken], 64).read_background(np.random.default_rng(0))


def test_a_photograph_that_is_missing_is_skipped(face, caplog):
    scenes = SceneMaker([], [], [face, Photo("gone.jpg", [[0, 0, 9, 9]])], 64, 0.5)
    assert make_batch(scenes, (0, 0), 8).images.shape == (8, 3, 64, 64)
    assert len([line for line in caplog.messages if "gone.jpg" in line]) == 1
    with pytest.raises(AgedgeError, match=r"gone\.jpg"):
        make_batch(SceneMaker([], [], [Photo("gone.jpg", [[0, 0, 9, 9]])], 64, 0.5), (0, 0), 1)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (7, 9)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_backgrounds_and_faces_of_any_size(face, tmp_path, shape, kind):
    file = tmp_path / "grey.png"
    cv2.imwrite(str(file), np.full(shape, np.iinfo(kind).max // 2, kind))
    tall, wide = shape
    tiny = Photo(file, [[0, 0, wide, tall]], [np.full((5, 2), np.nan)])
    composer = Composer([[face], [face, tiny]], [file], 96)
    for seed in range(12):
        boxes, _, _, _ = composer.compose(np.random.default_rng(seed)).finish()
        assert np.isfinite(boxes).all()
    assert make_batch(SceneMaker([], [], [tiny], 64, 0.0), (0, 0), 2).images.shape == (2, 3, 64, 64)


@pytest.mark.parametrize("box", [[5000, 5000, 5100, 5100], [10, 10, 11, 11], [-900, 0, 20, 300]])
def test_a_face_outside_of_its_image_is_skipped(face, backgrounds, box, caplog):
    lost = Photo(face.file.with_name(face.file.name), [box])
    with pytest.raises(AgedgeError, match=r"face\.jpg"):
        Composer([[lost]], find_backgrounds(backgrounds), 64).read_face(np.random.default_rng(0))
    assert "its first face is outside of the image" in caplog.text


def test_a_large_image_of_a_face_is_shrunk(tmp_path, backgrounds):
    file = tmp_path / "large.png"
    cv2.imwrite(str(file), np.zeros((4000, 1000, 3), np.uint8))
    photo = Photo(file, [[100, 400, 500, 800]], [np.full((5, 2), 399.5)])
    cutout = Composer([[photo]], find_backgrounds(backgrounds), 64).read_face(np.random.default_rng(0))
    assert cutout.image.shape[:2] == (2048, 512)
    np.testing.assert_allclose(cutout.boxes, [[51.2, 204.8, 256, 409.6]])
    np.testing.assert_allclose(cutout.landmarks, 204.3)


def test_a_tenth_of_the_backgrounds_is_held_out(backgrounds, tmp_path):
    used, held_out = find_backgrounds(backgrounds), find_backgrounds(backgrounds, held_out=True)
    assert len(used) == 10 and len(held_out) == 2 and not set(used) & set(held_out)
    with pytest.raises(AgedgeError, match="no images in it"):
        find_backgrounds(tmp_path)
    with pytest.raises(AgedgeError, match=r"scenes\.backgrounds: must be a folder of photographs without a face"):
        find_backgrounds("")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "only.png").write_bytes(used[0].read_bytes())
    with pytest.raises(AgedgeError, match="at least two"):
        find_backgrounds(tmp_path)


def test_a_piece_of_a_photograph_takes_its_faces_along(tmp_path):
    cutout = dotted()
    photo = Photo(tmp_path / "photo.png", cutout.boxes, cutout.landmarks)
    kept = 0
    for seed in range(40):
        image, boxes, landmarks, ignored, covers = crop_photograph(
            cutout.image, photo, 128, np.random.default_rng(seed)
        )
        assert image.shape == (128, 128, 3) and len(boxes) == len(landmarks) == len(ignored) == len(covers)
        kept += len(boxes)
        assert (boxes >= 0).all() and (boxes <= 127).all()
        inside = [p for points in landmarks for p in points if (p > 8).all() and (p < 119).all()]
        for x, y in inside:
            assert image[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].max() > image.mean() + 5
    assert kept > 20


def test_batches_are_the_same_for_any_number_of_workers(face, backgrounds):
    scenes = SceneMaker([[face]], find_backgrounds(backgrounds), [], 64, 1.0)
    seeds = [(0, step) for step in range(5)]
    alone = list(stream_batches(scenes, seeds, 3, workers=0))
    assert [batch.images.shape for batch in alone] == [(3, 3, 64, 64)] * 5
    assert alone[0].images.dtype == np.uint8 and alone[0].boxes.shape == (3, 2 * (4 + 16 + 64), 4)
    for mine, its in zip(alone, stream_batches(scenes, seeds, 3, workers=2)):
        np.testing.assert_array_equal(mine.images, its.images)
        np.testing.assert_array_equal(mine.faces, its.faces)
        np.testing.assert_array_equal(mine.landmarks, its.landmarks)


def test_photographs_and_composed_scenes_mix(face, backgrounds):
    photographs = SceneMaker([], [], [face], 64, 0.5)
    assert make_batch(photographs, (0, 0), 4).faces.max() == 2  # with landmarks
    mixed = SceneMaker([[face]], find_backgrounds(backgrounds), [face], 64, 0.5)
    assert make_batch(mixed, (0, 0), 4).images.shape == (4, 3, 64, 64)


def test_a_worker_that_dies_is_told_and_closing_ends_them(face, backgrounds):
    scenes = SceneMaker([[face]], find_backgrounds(backgrounds), [], 64, 1.0)
    batches = stream_batches(scenes, [(0, step) for step in range(1000)], 1, workers=1)
    next(batches)
    workers = multiprocessing.active_children()
    assert os.getpgid(workers[0].pid) != os.getpgid(0), "a signal to the group is for the run to answer"
    batches.close()
    assert workers and not any(worker.is_alive() for worker in workers)
    batches = stream_batches(scenes, [(0, step) for step in range(1000)], 1, workers=1)
    next(batches)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(AgedgeError, match="data.threads"):
        list(batches)
