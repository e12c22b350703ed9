"""Alignment: landmarks land where the crop wants them, whatever the face's turn, size and place."""

import cv2
import numpy as np
import pytest

from agedge.crop import Crop
from agedge.errors import AgedgeError
from agedge.faces.align import align, align_faces, estimate_similarities, estimate_similarity


def turn(points: np.ndarray, degrees: float, scale: float, shift) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + shift


def smooth_image(height: int, width: int) -> np.ndarray:
    """Something without fine detail, for resampling it must not matter."""
    small = np.random.randint(0, 256, (height // 24 + 2, width // 24 + 2, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("degrees, scale, shift", [(0, 1, (0, 0)), (30, 2.5, (40, 7)), (-170, 0.3, (-50, 900))])
def test_a_similarity_is_found_exactly(degrees, scale, shift):
    points = Crop.named("arcface", 112).points
    landmarks = turn(points, degrees, scale, shift)
    matrix = estimate_similarity(landmarks, points)
    np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], points, atol=1e-9)


def test_the_estimate_is_least_squares_and_never_a_mirror():
    points = Crop.named("arcface", 112).points
    landmarks = points * (-1, 1) + np.random.normal(0, 3, (5, 2))  # a mirrored face
    matrix = estimate_similarity(landmarks, points)
    assert np.linalg.det(matrix[:, :2]) > 0

    def error(m):
        return ((landmarks @ m[:, :2].T + m[:, 2] - points) ** 2).sum()

    for _ in range(50):
        a, b, tx, ty = np.random.normal(0, 0.01, 4)
        other = matrix + [[a, -b, tx], [b, a, ty]]
        assert error(other) >= error(matrix)


@pytest.mark.parametrize("landmarks", [np.ones((5, 2)), np.full((5, 2), np.nan)])
def test_landmarks_that_are_no_face_are_refused(landmarks):
    with pytest.raises(AgedgeError, match="landmarks"):
        estimate_similarity(landmarks, Crop.named("arcface", 112).points)


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.9, 2.1, 9.0])
def test_landmarks_land_on_the_points_of_the_crop(scale):
    crop = Crop.named("arcface", 112)
    landmarks = turn(crop.points, 20, scale, (60 * scale, 40 * scale))
    image = np.zeros((int(220 * scale), int(220 * scale), 3), np.uint8)
    for index, (x, y) in enumerate(landmarks):
        sigma = 3 * scale
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
        blob = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
        image[..., index % 3] = np.maximum(image[..., index % 3], blob.astype(np.uint8))
    face = align(image, landmarks, crop)
    assert face.shape == (112, 112, 3)
    for index, point in enumerate(crop.points):
        x, y = np.round(point).astype(int)
        window = face[y - 7 : y + 8, x - 7 : x + 8, index % 3].astype(float)
        rows, columns = np.mgrid[y - 7 : y + 8, x - 7 : x + 8]
        centre = np.array([(columns * window).sum(), (rows * window).sum()]) / window.sum()
        np.testing.assert_allclose(centre, point, atol=0.25)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_rotated_image_gives_the_same_crop(scale):
    crop = Crop.named("utkface", 96)
    image = smooth_image(int(400 * scale), int(400 * scale))
    landmarks = turn(crop.points, 0, scale, (150 * scale, 150 * scale))
    around = cv2.getRotationMatrix2D((200 * scale, 200 * scale), 33, 1)
    turned = cv2.warpAffine(image, around, image.shape[1::-1], flags=cv2.INTER_LINEAR)
    upright = align(image, landmarks, crop).astype(int)
    again = align(turned, landmarks @ around[:, :2].T + around[:, 2], crop).astype(int)
    assert np.abs(upright - again).mean() < 2


def test_a_face_much_larger_than_the_crop_does_not_alias():
    crop = Crop.named("arcface", 64)
    image = np.zeros((1200, 1200, 3), np.uint8)
    image[::2] = 255  # grey to whoever looks from afar
    face = align(image, turn(crop.points, 0, 12.5, (100, 100)), crop)
    assert np.abs(face.astype(int) - 127).max() <= 12


def test_the_border_is_replicated():
    crop = Crop.named("arcface", 112)
    image = np.full((60, 60, 3), (10, 120, 240), np.uint8)
    for scale in (0.5, 4.0):
        face = align(image, turn(crop.points, 10, scale, (-20, -20)), crop)
        assert (face == image[0, 0]).all()


def make_landmarks(count: int, crop: Crop, low: float, high: float) -> np.ndarray:
    scales = np.exp(np.random.uniform(np.log(low), np.log(high), count))
    turned = [turn(crop.points, np.random.uniform(-60, 60), scale, np.random.uniform(-50, 300, 2)) for scale in scales]
    return np.stack(turned) + np.random.normal(0, 1, (count, 5, 2))


def test_many_similarities_are_those_of_one_face_each():
    crop = Crop.named("arcface", 112)
    landmarks = make_landmarks(30, crop, 0.1, 10)
    many = estimate_similarities(landmarks, crop.points)
    np.testing.assert_array_equal(many, [estimate_similarity(each, crop.points) for each in landmarks])
    assert estimate_similarities(np.empty((0, 5, 2)), crop.points).shape == (0, 2, 3)


@pytest.mark.parametrize("size", [64, 112])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_faces_of_an_image_are_aligned_as_each_alone(count, size):
    crop = Crop.named("utkface", size)
    image = smooth_image(400, 500)
    landmarks = make_landmarks(count, crop, 0.3, 6) if count else np.empty((0, 5, 2), np.float32)
    faces = align_faces(image, landmarks, crop)
    assert faces.shape == (count, size, size, 3) and faces.dtype == np.uint8
    for face, its in zip(faces, landmarks):
        np.testing.assert_array_equal(face, align(image, its, crop))
        matrix = estimate_similarity(its, crop.points)
        if np.hypot(*matrix[0, :2]) >= 0.5:
            plain = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
            np.testing.assert_array_equal(face, plain)


def test_the_face_that_cannot_be_aligned_is_named():
    crop = Crop.named("arcface", 112)
    landmarks = make_landmarks(3, crop, 1, 2)
    for bad in (np.nan, np.inf, -np.inf, 1e200, 7.0):
        landmarks[1] = bad
        with pytest.raises(AgedgeError, match="^landmarks of face 2 of 3: .*$"):
            align_faces(np.zeros((50, 50, 3), np.uint8), landmarks, crop)
    mirrored = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (0, 0)], float)  # of a square, and its mirror image
    with pytest.raises(AgedgeError, match="not the shape of a face"):
        estimate_similarity(mirrored * (1, -1), mirrored)
    landmarks[1] = 7 + 1e-9 * crop.points
    with pytest.raises(AgedgeError, match="a single point"):
        align(np.zeros((50, 50, 3), np.uint8), landmarks[1], crop)


@pytest.mark.parametrize("scale", [0.7, 5])
@pytest.mark.parametrize("distance", [1e3, 1e6, 1e10])
def test_a_face_far_off_the_image_shows_the_nearest_border(distance, scale):
    crop = Crop.named("arcface", 112)
    image = np.zeros((60, 80, 3), np.uint8)
    image[:30, :40], image[:30, 40:], image[30:, :40], image[30:, 40:] = 10, 20, 30, 40
    for x, y, shade in ((-1, -1, 10), (1, -1, 20), (-1, 1, 30), (1, 1, 40)):
        face = align(image, turn(crop.points, 10, scale, (x * distance, y * distance)), crop)
        assert (face == shade).all()


def test_a_face_of_any_size_gives_a_crop():
    crop = Crop.named("arcface", 64)
    image = smooth_image(100, 120)
    for scale in (1e-4, 1e4, 1e9, 1e30):
        assert align(image, turn(crop.points, 10, scale, (20, 20)), crop).shape == (64, 64, 3)


@pytest.mark.parametrize("scale", [0.8, 3])
def test_an_image_longer_than_opencv_warps_is_no_obstacle(scale):
    crop = Crop.named("arcface", 64)
    image = np.zeros((250, 40_000, 3), np.uint8)
    image[:, -300:] = part = smooth_image(250, 300)
    landmarks = turn(crop.points, 5, scale, (20, 10))
    face = align(image, landmarks + (image.shape[1] - 300, 0), crop).astype(int)
    assert np.abs(face - align(part, landmarks, crop)).max() <= 1
