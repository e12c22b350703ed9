"""The detector contract: what kinds there are, and which face of several is meant."""

import numpy as np
import pytest

from agedge.errors import AgedgeError, UsageError
from agedge.faces.detection import create_detector, detect_padded, main_face
from agedge.faces.detector import Faces, check_image


class Fake:
    """Answers with the next of some prepared faces, and remembers the shapes that it saw."""

    def __init__(self, *answers):
        self.answers, self.shapes = list(answers), []

    def detect(self, image):
        self.shapes.append(image.shape)
        return self.answers.pop(0)


def faces_at(*boxes) -> Faces:
    boxes = np.array(boxes, np.float32)
    points = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
    return Faces(boxes, np.ones(len(boxes)), boxes[:, None, :2] + points * (boxes[:, 2:] - boxes[:, :2])[:, None])


def test_faces_are_arrays_even_where_there_is_none():
    empty = Faces.empty()
    assert len(empty) == 0 and empty.boxes.shape == (0, 4) and empty.landmarks.shape == (0, 5, 2)
    three = faces_at((0, 0, 9, 9), (1, 1, 5, 5), (2, 2, 4, 4))
    assert three.take([2, 0]).boxes[:, 0].tolist() == [2, 0]
    assert len(three.take(np.array([False, True, False]))) == 1
    with pytest.raises(ValueError, match="2 scores"):
        Faces(np.zeros((1, 4)), np.zeros(2), np.zeros((1, 5, 2)))


@pytest.mark.parametrize("kind", [0, "0", "mtcnn"])
def test_kind_0_is_mtcnn(kind):
    assert type(create_detector(kind, min_face=30)).__name__ == "MTCNNDetector"


@pytest.mark.parametrize("kind", [1, "1", "essh"])
def test_kind_1_names_the_missing_file(kind, tmp_path):
    with pytest.raises(AgedgeError, match=r"essh-symbol\.json: missing"):
        create_detector(kind, folder=tmp_path)


@pytest.mark.parametrize("kind", [2, "yolo", ""])
def test_another_kind_is_answered_with_the_choices(kind):
    with pytest.raises(UsageError, match=r"0 \(mtcnn\), 1 \(essh\)"):
        create_detector(kind)


def test_main_face_is_the_largest_central_one():
    image = np.zeros((200, 300, 3), np.uint8)
    aside, small, meant = (0, 0, 90, 90), (140, 90, 165, 115), (110, 60, 180, 140)
    landmarks = main_face(Fake(faces_at(aside, small, meant)), image)
    np.testing.assert_allclose(landmarks, faces_at(meant).landmarks[0])


def test_a_tight_crop_is_padded_and_detected_again():
    image = np.zeros((100, 120, 3), np.uint8)
    fake = Fake(Faces.empty(), faces_at((50, 50, 150, 150)))
    np.testing.assert_allclose(main_face(fake, image), faces_at((0, 0, 100, 100)).landmarks[0])
    assert fake.shapes == [(100, 120, 3), (200, 220, 3)]
    assert main_face(Fake(Faces.empty(), Faces.empty()), image) is None


def test_padding_replicates_the_border():
    class Checked:
        def detect(self, image):
            assert (image == (1, 2, 3)).all()
            return faces_at((10, 10, 20, 20))

    faces = detect_padded(Checked(), np.full((8, 8, 3), (1, 2, 3), np.uint8), share=1)
    assert faces.boxes.tolist() == [[2, 2, 12, 12]]


def test_an_image_of_the_usual_kind_is_not_copied():
    image = np.zeros((4, 5, 3), np.uint8)
    assert check_image(image) is image
    view = image[:, ::-1]
    assert check_image(view) is view


def test_other_kinds_of_images_become_the_usual_one():
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    colour = np.dstack([grey, grey + 1, grey + 2])
    wanted = np.dstack([grey] * 3)
    for image in (grey, grey[..., None], grey.astype(np.uint16) * 256 + 255, np.asfortranarray(grey)):
        np.testing.assert_array_equal(check_image(image), wanted)
    for image in (np.dstack([colour, grey]), np.dstack([colour, grey]).astype(np.uint16) << 8):
        np.testing.assert_array_equal(check_image(image), colour)
        np.testing.assert_array_equal(check_image(image[::-1, ::-1]), colour[::-1, ::-1])
    for kind in (np.zeros((0, 0, 3), np.uint8), np.zeros((0, 7), np.uint16), np.zeros(0)):
        assert check_image(kind).shape == (0, 0, 3) and check_image(kind).dtype == np.uint8


@pytest.mark.parametrize(
    "image, found",
    [
        (None, "NoneType"),
        ([[1, 2]], "list"),
        (np.ones((4, 4, 3)), r"float64 \(4, 4, 3\)"),
        (np.ones((4, 4), bool), "bool"),
    ]
    + [(np.ones(shape, np.uint8), "uint8") for shape in ((9,), (4, 4, 2), (4, 4, 5), (1, 4, 4, 3), ())]
    + [(np.ones((4, 4, 3), np.int32), "int32")],
)
def test_other_arrays_are_refused_with_what_an_image_must_be(image, found):
    with pytest.raises(UsageError, match=rf"must be an array of uint8 or uint16, \(h, w, 3\) BGR.*; it is .*{found}"):
        check_image(image)


def test_nothing_padded_is_still_nothing():
    assert len(detect_padded(Fake(), np.zeros((0, 4, 3), np.uint8))) == 0
