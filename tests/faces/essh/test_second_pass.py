"""The second pass of ESSH: its input, and the scores and landmarks that result."""

import numpy as np
import pytest

from agedge.faces.detector import Faces
from agedge.faces.essh import second_pass
from agedge.faces.essh.second_pass import CANVAS, MAX_FACES, refine_faces
from agedge.landmarks import mirror

BOX = [100.0, 60, 156, 116]  # seen twice as large, the square about it beginning at (88, 48)
CORNER, ZOOM = np.array([88, 48]), 2
POINTS = np.array([(116.0, 80.0), (140.0, 81.0), (128.0, 92.0), (118.0, 104.0), (138.0, 105.0)])
NOTHING = (np.empty((0, 4)), np.empty(0), np.empty((0, 5, 2)))


class Net:
    """A network that records its inputs."""

    mean = np.array([1, 2, 3], np.float32)

    def __init__(self):
        self.shown = []

    def reserve(self, shape):
        self.planes = np.full(shape, np.nan, np.float32)
        return self.planes

    def run(self, shape):
        assert shape == self.planes.shape and np.isfinite(self.planes).all()
        self.shown.append(self.planes.copy())


@pytest.fixture
def answer(monkeypatch):
    """Set the candidates of one run after the other; the runs after them find nothing."""

    def set_answers(*answers):
        waiting = list(answers)
        monkeypatch.setattr(
            second_pass, "find_candidates", lambda maps, least: [waiting.pop(0) if waiting else NOTHING]
        )

    return set_answers


def seen(score: float, mirrored: bool = False, away: float = 0) -> tuple:
    """Candidates of a second pass on BOX: its face with POINTS, `away` pixels to the right."""
    box = ((np.array(BOX).reshape(2, 2) - CORNER) * ZOOM + (away, 0)).reshape(1, 4)
    points = ((POINTS - CORNER + 0.5) * ZOOM - 0.5)[None]
    if mirrored:
        box, points = mirror(box, points, CANVAS)
    return box, np.array([score]), points


def faces_of(*scores, box=BOX) -> Faces:
    return Faces([box] * len(scores), scores, [np.zeros((5, 2))] * len(scores))


IMAGE = np.random.default_rng(0).integers(0, 255, (200, 240, 3), dtype=np.uint8)


def test_a_face_that_is_found_again_keeps_its_score_and_gets_its_landmarks(answer):
    answer(seen(0.9), seen(0.8, mirrored=True))
    faces = refine_faces(Net(), IMAGE, faces_of(0.4), 1)
    np.testing.assert_allclose(faces.scores, [0.7], rtol=1e-6)
    np.testing.assert_allclose(faces.landmarks[0], POINTS, atol=1e-4)


def test_a_pattern_that_is_not_loses_it_at_once(answer):
    answer()
    net = Net()
    faces = refine_faces(net, IMAGE, faces_of(0.9), 1)
    np.testing.assert_allclose(faces.scores, [0.3], rtol=1e-6)
    assert len(net.shown) == 1 and not faces.landmarks.any()


def test_another_face_beside_it_is_not_the_same(answer):
    answer(seen(0.9, away=100))
    np.testing.assert_allclose(refine_faces(Net(), IMAGE, faces_of(0.6), 1).scores, [0.2], rtol=1e-6)


@pytest.mark.parametrize("score, scale, times", [(0.99, 1, 0), (0.99, 0.5, 1), (0.9, 1, 2), (0.9, 0.5, 2)])
def test_doubtful_and_small_faces_get_a_second_pass(answer, score, scale, times):
    answer(seen(0.9), seen(0.9, mirrored=True))
    net = Net()
    faces = refine_faces(net, IMAGE, faces_of(score), scale)
    assert len(net.shown) == times
    assert (faces.scores[0] == np.float32(score)) and faces.landmarks.any() == (times > 0)


def test_landmarks_stay_where_a_small_face_is_not_found_again(answer):
    answer()
    faces = refine_faces(Net(), IMAGE, faces_of(0.99), 0.5)
    assert faces.scores[0] == np.float32(0.99) and not faces.landmarks.any()


def test_what_is_shown_is_the_square_about_the_face_and_its_mirror_image(answer):
    answer(seen(0.9), seen(0.9, mirrored=True))
    image = np.zeros((200, 240, 3), np.uint8)
    image[:, :128] = (10, 20, 30)  # B, G, R
    net = Net()
    refine_faces(net, image, faces_of(0.5), 1)
    first, mirrored = net.shown
    assert first[0, :, 40, 10].tolist() == [29, 18, 7] and first[0, :, 40, 150].tolist() == [-1, -2, -3]
    np.testing.assert_array_equal(mirrored, first[..., ::-1])


def test_the_best_score_comes_first_and_only_so_many_get_a_second_pass(answer):
    answer(NOTHING, seen(0.9), seen(0.9, mirrored=True))
    faces = refine_faces(Net(), IMAGE, faces_of(0.9, 0.6), 1)
    np.testing.assert_allclose(faces.scores, [0.8, 0.3], rtol=1e-6)
    net = Net()
    scores = refine_faces(net, IMAGE, faces_of(*[0.6] * (MAX_FACES + 3)), 1).scores
    assert len(net.shown) == MAX_FACES and np.isclose(scores, 0.6).sum() == 3


@pytest.mark.parametrize("box", [[0, 0, 1, 1], [0, 0, 240, 200], [230, 190, 240, 200], [3, 0, 4, 200]])
def test_faces_at_the_border_and_of_any_size(answer, box):
    answer()
    assert len(refine_faces(Net(), IMAGE, faces_of(0.5, box=box), 1)) == 1


def test_an_image_without_a_face(answer):
    answer()
    assert len(refine_faces(Net(), IMAGE, Faces.empty(), 1)) == 0
